"""A trekkpliktig in, an Altinn token that acts for it out: had for a token of Maskinporten, kept while it lives."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import jwt
import structlog

from producer.altinn.refusal import UNAUTHORIZED, refusal_of
from producer.errors import RetryableError
from producer.source.exchange import exchange
from producer.source.held_tokens import HeldTokens, held_token

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.source.answer import Answer
    from producer.source.client import AccessTokens
    from producer.source.held_tokens import HeldToken

_PATH: Final = "/authentication/api/v1/exchange/maskinporten"
_OK: Final = 200
_ANSWER_BYTES_MAX: Final = 256 * 1024
_LIFE_SECONDS_MAX: Final = 24 * 3600.0
_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_log = structlog.get_logger(__name__)


class AltinnTokens:
    """Implements `AccessTokens`. Safe for several threads. `maskinporten` gives tokens with Altinn's scope.

    `base_url` is Altinn's platform.
    """

    def __init__(
        self,
        http: httpx.Client,
        base_url: str,
        maskinporten: AccessTokens,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._address = f"{base_url.rstrip('/')}{_PATH}"
        self._maskinporten = maskinporten
        self._clock = clock
        self._monotonic = monotonic
        self._held = HeldTokens(self._fetch, monotonic)

    def token_for(self, trekkpliktig: str) -> str:
        """A token with enough life left for a call.

        Raises `RetryableError`, `SuspendedError` (this trekkpliktig cannot be served) or `FatalError`.
        """
        return self._held.token_for(trekkpliktig)

    def has_for(self, trekkpliktig: str) -> bool:
        """Whether such a token is at hand."""
        return self._held.has_for(trekkpliktig)

    def renew(self, trekkpliktig: str, refused: str) -> str:
        """A token other than `refused`. Raises as `token_for`."""
        self._held.drop(trekkpliktig, refused)
        return self.token_for(trekkpliktig)

    def tokens_held(self) -> int:
        """How many tokens are in memory now."""
        return len(self._held)

    def _fetch(self, trekkpliktig: str) -> HeldToken:
        token = self._maskinporten.token_for(trekkpliktig)
        asked_at = self._monotonic()
        answer = self._ask(token)
        if answer.status == UNAUTHORIZED:
            asked_at = self._monotonic()
            answer = self._ask(self._maskinporten.renew(trekkpliktig, token))
        _log.debug("altinn_token_fetched", trekkpliktig=trekkpliktig, status=answer.status)
        if answer.status != _OK:
            raise refusal_of(answer, "exchange the token", self._clock())
        text, life_seconds = read_token(answer.body, self._clock())
        return held_token(text, life_seconds, asked_at)

    def _ask(self, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        return exchange(self._http, "GET", self._address, headers=headers, bytes_max=_ANSWER_BYTES_MAX)


def read_token(body: bytes, now_seconds: float) -> tuple[str, float]:
    """The token, which is the whole body, perhaps in quotation marks, and its life in seconds by its own claims.

    Raises `RetryableError` for anything else. The life is counted between its own times where it tells both, so that
    a clock that is wrong here does no harm.
    """
    text = body.decode("latin-1").strip().strip('"')
    if not _TOKEN.fullmatch(text):
        raise RetryableError("Altinn's answer holds no token that can be read")
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
        life_seconds = float(claims["exp"]) - float(claims.get("iat", now_seconds))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise RetryableError("Altinn's answer holds a token that does not say when it ends") from None
    if not life_seconds > 0:
        raise RetryableError("Altinn's answer holds a token that has ended")
    return text, min(life_seconds, _LIFE_SECONDS_MAX)
