"""A trekkpliktig in, an access token that lets us act for it out; fetched when needed, kept while it lives."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from producer.errors import FatalError, RetryableError, SuspendedError
from producer.observe.port import NullObserver
from producer.source.exchange import CALL_SECONDS_MAX, exchange
from producer.source.grant import grant_claims, sign_grant
from producer.source.token_answer import AccessToken, GrantUsedUpError, read_token

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.observe.port import Observer
    from producer.source.grant import Authentication, ClientKey
    from producer.source.well_known import WellKnown

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_MARGIN_SECONDS: Final = 20.0
_MARGIN_SHARE: Final = 1 / 3
_ANSWER_BYTES_MAX: Final = 256 * 1024
_DROPPED_AT_ONCE: Final = 8
_log = structlog.get_logger(__name__)


class _Held(msgspec.Struct, frozen=True):
    text: str
    usable_until: float


class MaskinportenTokens:
    """Tokens of every trekkpliktig. Safe for several threads; one call per trekkpliktig at a time, others wait for it.

    `external_ref_of` gives the externalRef of a trekkpliktig's system user, where one is configured. Tokens are held
    in memory only, and only while they live.
    """

    def __init__(  # noqa: PLR0913  # a client's registration has so many parts
        self,
        http: httpx.Client,
        well_known: WellKnown,
        key: ClientKey,
        *,
        client_id: str,
        scope: str,
        authentication: Authentication,
        external_ref_of: Callable[[str], str | None] = lambda _: None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._well_known = well_known
        self._key = key
        self._client_id = client_id
        self._scope = scope
        self._authentication: Authentication = authentication
        self._external_ref_of = external_ref_of
        self._observer = observer or NullObserver()
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._under_way: dict[str, Future[str]] = {}

    def token_for(self, trekkpliktig: str) -> str:
        """A token with enough life left for a call.

        Raises `RetryableError`, `SuspendedError` (this trekkpliktig gave no right) or `FatalError` (the client, its
        key or its settings).
        """
        with self._lock:
            held = self._held.get(trekkpliktig)
            if held is not None and held.usable_until > self._monotonic():
                return held.text
            others = self._under_way.get(trekkpliktig)
            if others is None:
                ours = self._under_way[trekkpliktig] = Future()
        if others is not None:
            return _wait_for(others)
        try:
            held = self._fetch(trekkpliktig)
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
        """A token other than `refused`; another thread's newer one will do. Raises as `token_for`."""
        with self._lock:
            held = self._held.get(trekkpliktig)
            if held is not None and held.text == refused:
                del self._held[trekkpliktig]
        return self.token_for(trekkpliktig)

    def tokens_held(self) -> int:
        """How many tokens are in memory now."""
        with self._lock:
            return len(self._held)

    def _hold(self, trekkpliktig: str, held: _Held) -> None:
        """Keep it last; the first ones were fetched longest ago, so the expired ones are found there."""
        self._held.pop(trekkpliktig, None)
        self._held[trekkpliktig] = held
        now = self._monotonic()
        oldest = [each for each, _ in zip(self._held, range(_DROPPED_AT_ONCE), strict=False)]
        for other in oldest:
            if self._held[other].usable_until <= now:
                del self._held[other]

    def _fetch(self, trekkpliktig: str) -> _Held:
        outcome = "retry"
        try:
            asked_at = self._monotonic()
            try:
                token = self._ask(trekkpliktig)
            except GrantUsedUpError:
                asked_at = self._monotonic()
                token = self._ask(trekkpliktig)
            outcome = "ok"
        except SuspendedError:
            outcome = "suspended"
            raise
        except FatalError:
            outcome = "fatal"
            raise
        finally:
            self._observer.token_fetched(outcome)
            (_log.debug if outcome == "ok" else _log.warning)(
                "token_fetched", trekkpliktig=trekkpliktig, outcome=outcome
            )
        margin_seconds = min(_MARGIN_SECONDS, token.life_seconds * _MARGIN_SHARE)
        return _Held(token.text, asked_at + token.life_seconds - margin_seconds)

    def _ask(self, trekkpliktig: str) -> AccessToken:
        """One call with a grant of its own: Maskinporten takes each only once."""
        issuer = self._well_known.issuer()
        claims = grant_claims(
            authentication=self._authentication,
            issuer=issuer.issuer,
            client_id=self._client_id,
            scope=self._scope,
            trekkpliktig=trekkpliktig,
            external_ref=self._external_ref_of(trekkpliktig),
            now_seconds=self._clock(),
            jti=str(uuid.uuid4()),
        )
        form = {"grant_type": _GRANT_TYPE, "assertion": sign_grant(claims, self._key)}
        answer = exchange(self._http, "POST", issuer.token_endpoint, form=form, bytes_max=_ANSWER_BYTES_MAX)
        return read_token(answer, self._clock())


def _wait_for(others: Future[str]) -> str:
    try:
        return others.result(timeout=2 * CALL_SECONDS_MAX)
    except TimeoutError as error:
        raise RetryableError("another thread's call for the same token has not ended") from error
