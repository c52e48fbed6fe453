"""HTTP client of Altinn: token exchange, authorised calls, and what its error responses mean.

No error message quotes more of a response than its status: the body may repeat what was sent, secret URLs included.
"""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import jwt
import msgspec
import structlog

from producer.errors import SuspendedError
from producer.source.auth.tokens import TokenCache, held_token, with_token
from producer.source.http import exchange
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.retry import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.source.auth.tokens import AccessTokens, HeldToken
    from producer.source.http import HttpResponse
    from trekkpaalegg.errors import TrekkpaaleggError


NOT_FOUND: Final = 404
_HINTS: Final = {
    400: "it finds the request invalid: is TREKKPAALEGG_WEBHOOK_URL a URL that it can reach, by https?",
    401: "the token is not accepted: has this trekkpliktig given the right to its system user or delegation?",
    403: "not allowed: are the scope (TREKKPAALEGG_ALTINN_SCOPES) and this trekkpliktig's right to the resource there?",
    404: "the address is unknown there: check TREKKPAALEGG_ALTINN_URL",
}


def refusal_of(answer: HttpResponse, operation: str, now_seconds: float) -> TrekkpaaleggError:
    """`SuspendedError` if Altinn refuses this trekkpliktig, `RetryableError` if it is busy or broken."""
    if answer.is_refusal:
        hint = _HINTS.get(answer.status)
        return SuspendedError(
            f"Altinn refuses to {operation} with HTTP {answer.status}" + (f"; {hint}" if hint else "")
        )
    return RetryableError(
        f"Altinn answers HTTP {answer.status} when asked to {operation}",
        retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after"), now_seconds),
    )


_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_MILLISECONDS: Final = 1000
_log = structlog.get_logger(__name__)


class AltinnRequest(msgspec.Struct, frozen=True):
    """A request to Altinn. `operation` is in words that fit after "to"; `path` is relative to the platform's URL.

    `accepted` are the statuses that are not failures. The document is sent as JSON.
    """

    operation: str
    method: str
    path: str
    accepted: tuple[int, ...] = (200,)
    document: dict[str, str] | None = None


class AltinnClient:
    """Safe for several threads, which share `max_concurrent_calls`. `base_url` is Altinn's platform."""

    def __init__(
        self,
        http: httpx.Client,
        base_url: str,
        tokens: AccessTokens,
        *,
        max_concurrent_calls: int = 5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._slots = threading.BoundedSemaphore(max_concurrent_calls)
        self._clock = clock

    def send(self, trekkpliktig: str, request: AltinnRequest) -> HttpResponse:
        """The response, whose status is one of those accepted. If the token is refused, try again with a new one.

        Raises `RetryableError`, `SuspendedError` (Altinn refuses this trekkpliktig) or `FatalError`.
        """
        answer = with_token(self._tokens, trekkpliktig, partial(self._send, trekkpliktig, request))
        if answer.status not in request.accepted:
            raise refusal_of(answer, request.operation, self._clock())
        return answer

    def _send(self, trekkpliktig: str, request: AltinnRequest, token: str) -> HttpResponse:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, application/cloudevents+json"}
        content = None
        if request.document is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(request.document)
        status = "failed"
        with self._slots:
            begun = time.monotonic()
            try:
                answer = exchange(
                    self._http,
                    request.method,
                    f"{self._base_url}{request.path}",
                    headers=headers,
                    content=content,
                    bytes_max=_ANSWER_BYTES_MAX,
                )
                status = str(answer.status)
            finally:
                log = _log.debug if status in map(str, request.accepted) else _log.warning
                milliseconds = round((time.monotonic() - begun) * _MILLISECONDS)
                log(
                    "altinn_call_finished",
                    operation=request.operation,
                    trekkpliktig=trekkpliktig,
                    status=status,
                    milliseconds=milliseconds,
                )
        return answer


_PATH: Final = "/authentication/api/v1/exchange/maskinporten"
_OK: Final = 200
_ANSWER_BYTES_MAX_EXCHANGE: Final = 256 * 1024
_LIFE_SECONDS_MAX: Final = 24 * 3600.0
_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class AltinnTokens(TokenCache):
    """Tokens from Altinn, exchanged for those of `maskinporten` with Altinn's scope. `base_url` is the platform."""

    def __init__(
        self,
        http: httpx.Client,
        base_url: str,
        maskinporten: AccessTokens,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(monotonic)
        self._http = http
        self._address = f"{base_url.rstrip('/')}{_PATH}"
        self._maskinporten = maskinporten
        self._clock = clock

    def fetch(self, trekkpliktig: str) -> HeldToken:
        """See `TokenCache.fetch`."""
        asked_at = 0.0

        def send(token: str) -> HttpResponse:
            nonlocal asked_at
            asked_at = self._monotonic()
            return self._exchange(token)

        answer = with_token(self._maskinporten, trekkpliktig, send)
        _log.debug("altinn_token_fetched", trekkpliktig=trekkpliktig, status=answer.status)
        if answer.status != _OK:
            raise refusal_of(answer, "exchange the token", self._clock())
        text, life_seconds = read_token(answer.body, self._clock())
        return held_token(text, life_seconds, asked_at)

    def _exchange(self, token: str) -> HttpResponse:
        headers = {"Authorization": f"Bearer {token}"}
        return exchange(self._http, "GET", self._address, headers=headers, bytes_max=_ANSWER_BYTES_MAX_EXCHANGE)


def read_token(body: bytes, now_seconds: float) -> tuple[str, float]:
    """The token, which is the whole body, perhaps in quotation marks, and its lifetime in seconds by its own claims.

    Raises `RetryableError` for anything else. If the token has both times, the lifetime is the difference between
    them, so that a wrong clock here does no harm.
    """
    text = body.decode("latin-1").strip().strip('"')
    if not _TOKEN.fullmatch(text):
        raise RetryableError("Altinn's answer holds no token that can be read")
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
        life_seconds = float(claims["exp"]) - float(claims.get("iat", now_seconds))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise RetryableError("Altinn's answer holds a token without an expiry time") from None
    if not life_seconds > 0:
        raise RetryableError("Altinn's answer holds a token that has expired")
    return text, min(life_seconds, _LIFE_SECONDS_MAX)
