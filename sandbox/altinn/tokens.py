"""Altinn tokens: issue a signed one to a party with scopes, and look up one that a caller presents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_ALGORITHM = "HS256"
_ISSUER = "https://sandbox/authentication/api/v1/openid/"


class AltinnToken(msgspec.Struct, frozen=True):
    """Whom a token acts for, and with which scopes."""

    party: str
    scopes: frozenset[str]


class AltinnTokenIssuer:
    """JSON Web Tokens, as Altinn gives them. Nothing is kept of them. `clock` gives seconds since 1970."""

    def __init__(self, random: Random, clock: Callable[[], float]) -> None:
        self._secret = f"{random.getrandbits(256):064x}"
        self._clock = clock
        self._generation = 0
        self._minted = 0

    def mint(self, party: str, scope: str, life_seconds: float) -> str:
        """The text of a token."""
        now = self._clock()
        self._minted += 1
        claims = {
            "iss": _ISSUER,
            "iat": int(now),
            "exp": int(now + life_seconds),
            "jti": f"{self._generation}-{self._minted}",
            "scope": scope,
            "urn:altinn:orgNumber": party,
            "consumer": {"authority": "iso6523-actorid-upis", "ID": f"0192:{party}"},
        }
        return jwt.encode(claims, self._secret, _ALGORITHM)

    def find(self, text: str) -> AltinnToken | None:
        """The token of this text, if it is one of ours and lives."""
        try:
            # Its own clock judges the times, since that of the simulated world may be another.
            claims = jwt.decode(text, self._secret, [_ALGORITHM], {"verify_exp": False, "verify_iat": False})
        except jwt.PyJWTError:
            return None
        if claims["exp"] <= self._clock() or not claims["jti"].startswith(f"{self._generation}-"):
            return None
        return AltinnToken(claims["urn:altinn:orgNumber"], frozenset(claims["scope"].split()))

    def revoke_all(self) -> None:
        """End all living tokens."""
        self._generation += 1
