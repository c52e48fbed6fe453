"""A client's key in; where a simulated world listens, what others call it, and whom Maskinporten knows, out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
import msgspec

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1"
_PUBLIC_MEMBERS = ("kty", "n", "e", "kid")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """`host` is the address to listen on, `called` the name by which others reach it; both in URLs without a port.

    `client_id` and the public `client_key` (a JWK) are of the client that stands registered from the beginning.
    Without them it is made up, with a key of its own.
    """

    host: str = LOOPBACK
    called: str = LOOPBACK
    client_id: str | None = None
    client_key: dict[str, Any] | None = None


def read_client_key(path: Path) -> dict[str, Any]:
    """The public half of the RSA key that a file holds as a JWK, private or public. ValueError if there is none."""
    try:
        jwk = json.loads(path.read_text(encoding="utf-8"))
        jwt.algorithms.RSAAlgorithm.from_jwk(jwk)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
    except (ValueError, TypeError, KeyError, jwt.InvalidKeyError):
        raise ValueError(f"{path} holds no RSA key as a JWK") from None
    if not jwk.get("kid"):
        raise ValueError(f"{path} holds no RSA key as a JWK with a kid")
    return public_half(jwk)


def public_half(jwk: dict[str, Any]) -> dict[str, Any]:
    """What others may know of a key."""
    return {name: jwk[name] for name in _PUBLIC_MEMBERS}


HERE = Place()
"""This machine alone, with a client that is made up."""
