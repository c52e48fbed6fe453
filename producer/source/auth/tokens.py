"""A cache of access tokens, one for each trekkpliktig. One thread fetches a token; others that need it wait."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from producer.source.http import CALL_SECONDS_MAX
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.source.http import HttpResponse

UNAUTHORIZED: Final = 401
_MARGIN_SECONDS: Final = 20.0
_MARGIN_SHARE: Final = 1 / 3
_DROPPED_AT_ONCE: Final = 8
TOKENS_MAX: Final = 100_000
"""At 1.5 kB each that is 160 MB. Beyond it the token that was fetched first is dropped, and fetched again if needed."""


class AccessTokens(Protocol):
    """A source of access tokens. Raises `RetryableError`, `SuspendedError` or `FatalError`."""

    def token_for(self, trekkpliktig: str) -> str:
        """A token for acting on behalf of `trekkpliktig`."""

    def has_for(self, trekkpliktig: str) -> bool:
        """Whether such a token is held."""

    def renew(self, trekkpliktig: str, refused: str) -> str:
        """A new token, because the API has refused this one."""


def with_token(tokens: AccessTokens, trekkpliktig: str, send: Callable[[str], HttpResponse]) -> HttpResponse:
    """The response to a request sent with a token; if that is refused, again with a new one, as it may be revoked."""
    token = tokens.token_for(trekkpliktig)
    response = send(token)
    return send(tokens.renew(trekkpliktig, token)) if response.status == UNAUTHORIZED else response


class HeldToken(msgspec.Struct, frozen=True):
    """A token, and until when on the monotonic clock it may be used for a call."""

    text: str
    usable_until: float

    def __repr__(self) -> str:
        return f"HeldToken(usable_until={self.usable_until})"


def held_token(text: str, life_seconds: float, asked_at: float) -> HeldToken:
    """The token with a safety margin, so that it does not expire during a call."""
    return HeldToken(text, asked_at + life_seconds - min(_MARGIN_SECONDS, life_seconds * _MARGIN_SHARE))


class TokenCache(ABC):
    """A token for each trekkpliktig, in memory only, `tokens_max` at most. Safe for several threads.

    Operations raise what `fetch` raises, also in threads that wait for another's call.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, HeldToken] = {}
        self._under_way: dict[str, Future[str]] = {}

    @abstractmethod
    def fetch(self, trekkpliktig: str) -> HeldToken:
        """Fetch a new token. Raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    def has_for(self, trekkpliktig: str) -> bool:
        """Whether a token is held that is valid for long enough to make a call."""
        with self._lock:
            return self._live(trekkpliktig) is not None

    def token_for(self, trekkpliktig: str) -> str:
        """A token that is valid for long enough to make a call."""
        with self._lock:
            held = self._live(trekkpliktig)
            if held is not None:
                return held.text
            others = self._under_way.get(trekkpliktig)
            if others is None:
                ours = self._under_way[trekkpliktig] = Future()
        if others is not None:
            return _wait_for(others)
        try:
            held = self.fetch(trekkpliktig)
        except BaseException as error:
            with self._lock:
                del self._under_way[trekkpliktig]
            ours.set_exception(error)
            raise
        with self._lock:
            self._hold(trekkpliktig, held)
            del self._under_way[trekkpliktig]
        ours.set_result(held.text)
        return held.text

    def renew(self, trekkpliktig: str, refused: str) -> str:
        """A token other than `refused`, which is dropped; a newer one from another thread will do."""
        with self._lock:
            held = self._held.get(trekkpliktig)
            if held is not None and held.text == refused:
                del self._held[trekkpliktig]
        return self.token_for(trekkpliktig)

    def _live(self, trekkpliktig: str) -> HeldToken | None:
        held = self._held.get(trekkpliktig)
        return held if held is not None and held.usable_until > self._monotonic() else None

    def _hold(self, trekkpliktig: str, held: HeldToken) -> None:
        """Store it last. The first entries were fetched longest ago, so expired ones are among them."""
        self._held.pop(trekkpliktig, None)
        self._held[trekkpliktig] = held
        if len(self._held) > self._tokens_max:
            del self._held[next(iter(self._held))]
        now = self._monotonic()
        oldest = [each for each, _ in zip(self._held, range(_DROPPED_AT_ONCE), strict=False)]
        for other in oldest:
            if self._held[other].usable_until <= now:
                del self._held[other]


def _wait_for(others: Future[str]) -> str:
    try:
        return others.result(timeout=2 * CALL_SECONDS_MAX)
    except TimeoutError as error:
        raise RetryableError("another thread's call for the same token has not ended") from error
