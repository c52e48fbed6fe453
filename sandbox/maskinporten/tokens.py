"""The access tokens that the simulated Maskinporten issues and the simulated APIs accept."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


_CHECKED = 8
"""How many of the oldest tokens are checked with each new one, so that expired ones do not pile up."""


class Token(msgspec.Struct, frozen=True):
    """What an opaque token represents: `supplier` owns the client, `party` is whom it acts for."""

    party: str
    supplier: str
    scope: str
    client_id: str
    expires_at: float


class TokenStore:
    """Opaque tokens by their text. Safe for several threads. `clock` gives seconds since 1970."""

    def __init__(self, random: Random, clock: Callable[[], float]) -> None:
        self._random = random
        self._clock = clock
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tokens)

    def mint(self, token: Token) -> str:
        """A new text for `token`. Those that have expired are thrown away."""
        with self._lock:
            self._drop_expired()
            text = f"sandbox-{self._random.getrandbits(192):048x}"
            self._tokens[text] = token
            return text

    def find(self, text: str) -> Token | None:
        """The token of this text, if it lives."""
        with self._lock:
            token = self._tokens.get(text)
        return token if token is not None and token.expires_at > self._clock() else None

    def revoke(self, text: str) -> None:
        """End one token before its time."""
        with self._lock:
            self._tokens.pop(text, None)

    def revoke_all(self, party: str | None = None) -> int:
        """End all living tokens, or those of one party; how many they were."""
        with self._lock:
            ended = [text for text, token in self._tokens.items() if party in (None, token.party)]
            for text in ended:
                del self._tokens[text]
            return len(ended)

    def _drop_expired(self) -> None:
        now = self._clock()
        # Tokens are in the order of minting, which is nearly that of expiry.
        for text in list(itertools.islice(self._tokens, _CHECKED)):
            if self._tokens[text].expires_at <= now:
                del self._tokens[text]
