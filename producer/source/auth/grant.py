"""The signed JWT grant for Maskinporten, and the client's private key that signs it. Pure.

Source of the rules: Digdir, "Maskinporten: JWT grant" and "API for system users"; see source/README.md.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Authentication = Literal["egen", "systembruker", "delegert"]
_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
_KEY_BITS_MIN: Final = 2048
_LIFE_SECONDS: Final = 60
_SETTING: Final = "MASKINPORTEN_CLIENT_JWK"


class ClientKey(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """A private RSA key, the signing algorithm, and the header that names the key: either `kid` or `x5c`."""

    private_key: Any
    algorithm: str
    header: dict[str, Any]

    def __repr__(self) -> str:
        return f"ClientKey(algorithm={self.algorithm!r})"


@lru_cache(maxsize=1)  # OpenSSL checks the numbers of a key for 0.1 s; the settings and who uses them both read it
def load_client_key(jwk_text: str) -> ClientKey:
    """Read MASKINPORTEN_CLIENT_JWK. Raises `SettingsError` with every fault, and without any part of the key."""
    try:
        jwk = json.loads(jwk_text)
    except ValueError:
        raise SettingsError([f"{_SETTING}: is no JSON; give the private JWK as one JSON object"]) from None
    if not isinstance(jwk, dict):
        raise SettingsError([f"{_SETTING}: is JSON but no object; give the private JWK as one JSON object"])
    faults = _faults_of(jwk)
    if faults:
        raise SettingsError([f"{_SETTING}: {fault}" for fault in faults])
    try:
        key = RSAAlgorithm.from_jwk(jwk)
    except (jwt.InvalidKeyError, ValueError, TypeError):  # not chained: the cause may show parts of the key
        raise SettingsError([f"{_SETTING}: its numbers make no RSA key; was it copied whole?"]) from None
    if not isinstance(key, RSAPrivateKey):
        raise SettingsError([f"{_SETTING}: holds no private key"])
    if key.key_size < _KEY_BITS_MIN:
        raise SettingsError(
            [f"{_SETTING}: the key has {key.key_size} bits; Maskinporten takes {_KEY_BITS_MIN} or more"]
        )
    header = {"kid": jwk["kid"]} if jwk.get("kid") else {"x5c": jwk["x5c"]}
    return ClientKey(key, jwk.get("alg", _ALGORITHMS[0]), header)


def _faults_of(jwk: Mapping[str, Any]) -> list[str]:
    faults = []
    if jwk.get("kty") != "RSA":
        faults.append("is no RSA key (kty must be RSA); Maskinporten takes no other")
    elif not jwk.get("d"):
        faults.append("is a public key (the member d is missing); the private key is needed to sign")
    if not isinstance(jwk.get("kid", ""), str) or not (jwk.get("kid") or jwk.get("x5c")):
        faults.append("has no kid; it is the name that the key was given at Maskinporten")
    if jwk.get("alg", _ALGORITHMS[0]) not in _ALGORITHMS:
        faults.append(f"names another algorithm (alg) than {', '.join(_ALGORITHMS)}")
    return faults


def grant_claims(  # noqa: PLR0913  # each is a claim of its own
    *,
    authentication: Authentication,
    issuer: str,
    client_id: str,
    scope: str,
    trekkpliktig: str,
    external_ref: str | None,
    now_seconds: float,
    jti: str,
) -> dict[str, Any]:
    """The claims of a grant, and no others, since Maskinporten refuses unknown ones.

    `issuer` is Maskinporten's own name, with the slash at its end. `egen` acts for the organisation that owns the
    client, `systembruker` for a customer through an Altinn system user, `delegert` through classic delegation.
    """
    issued_at = int(now_seconds)
    claims: dict[str, Any] = {
        "aud": issuer,
        "iss": client_id,
        "scope": scope,
        "iat": issued_at,
        "exp": issued_at + _LIFE_SECONDS,
        "jti": jti,
    }
    if authentication == "delegert":
        claims["consumer_org"] = trekkpliktig
    elif authentication == "systembruker":
        detail: dict[str, Any] = {
            "type": "urn:altinn:systemuser",
            "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": f"0192:{trekkpliktig}"},
        }
        if external_ref:
            detail["externalRef"] = external_ref
        claims["authorization_details"] = [detail]
    return claims


def sign_grant(claims: dict[str, Any], key: ClientKey) -> str:
    """A JWT with these claims."""
    return jwt.encode(claims, key.private_key, algorithm=key.algorithm, headers=key.header)
