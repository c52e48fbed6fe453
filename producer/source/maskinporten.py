"""A trekkpliktig in, an access token that lets us act for it out; fetched when needed, kept while it lives."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final

import structlog

from producer.errors import FatalError, SuspendedError
from producer.observe.port import NullObserver
from producer.source.exchange import exchange
from producer.source.grant import grant_claims, sign_grant
from producer.source.held_tokens import HeldTokens, held_token
from producer.source.token_answer import AccessToken, GrantUsedUpError, read_token

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.observe.port import Observer
    from producer.source.grant import Authentication, ClientKey
    from producer.source.held_tokens import HeldToken
    from producer.source.well_known import WellKnown

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ANSWER_BYTES_MAX: Final = 256 * 1024
_log = structlog.get_logger(__name__)


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
        self._held = HeldTokens(self._fetch, monotonic)

    def token_for(self, trekkpliktig: str) -> str:
        """A token with enough life left for a call.

        Raises `RetryableError`, `SuspendedError` (this trekkpliktig gave no right) or `FatalError` (the client, its
        key or its settings).
        """
        return self._held.token_for(trekkpliktig)

    def has_for(self, trekkpliktig: str) -> bool:
        """Whether such a token is at hand."""
        return self._held.has_for(trekkpliktig)

    def renew(self, trekkpliktig: str, refused: str) -> str:
        """A token other than `refused`; another thread's newer one will do. Raises as `token_for`."""
        self._held.drop(trekkpliktig, refused)
        return self.token_for(trekkpliktig)

    def tokens_held(self) -> int:
        """How many tokens are in memory now."""
        return len(self._held)

    def _fetch(self, trekkpliktig: str) -> HeldToken:
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
        return held_token(token.text, token.life_seconds, asked_at)

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
