"""A trekkpliktig and what to ask in, Altinn's answer out: tokens, so many calls at a time, errors."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from producer.altinn.refusal import UNAUTHORIZED, refusal_of
from producer.source.exchange import exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.source.answer import Answer
    from producer.source.client import AccessTokens

_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_MILLISECONDS: Final = 1000
_log = structlog.get_logger(__name__)


class Question(msgspec.Struct, frozen=True):
    """What is asked; `operation` in words that fit after "to". `path` is below the platform's address.

    `accepted` are statuses that are no failure. The document is sent as JSON.
    """

    operation: str
    method: str
    path: str
    accepted: tuple[int, ...] = (200,)
    document: dict[str, str] | None = None


class AltinnClient:
    """Safe for several threads; `max_concurrent_calls` holds over all of them. `base_url` is Altinn's platform."""

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

    def ask(self, trekkpliktig: str, question: Question) -> Answer:
        """The answer, its status one of those accepted. If the token is refused, once more with a new one.

        Raises `RetryableError`, `SuspendedError` (Altinn refuses this trekkpliktig) or `FatalError`.
        """
        token = self._tokens.token_for(trekkpliktig)
        answer = self._send(trekkpliktig, question, token)
        if answer.status == UNAUTHORIZED:
            answer = self._send(trekkpliktig, question, self._tokens.renew(trekkpliktig, token))
        if answer.status not in question.accepted:
            raise refusal_of(answer, question.operation, self._clock())
        return answer

    def _send(self, trekkpliktig: str, question: Question, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, application/cloudevents+json"}
        content = None
        if question.document is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(question.document)
        status = "failed"
        with self._slots:
            begun = time.monotonic()
            try:
                answer = exchange(
                    self._http,
                    question.method,
                    f"{self._base_url}{question.path}",
                    headers=headers,
                    content=content,
                    bytes_max=_ANSWER_BYTES_MAX,
                )
                status = str(answer.status)
            finally:
                log = _log.debug if status in map(str, question.accepted) else _log.warning
                milliseconds = round((time.monotonic() - begun) * _MILLISECONDS)
                log(
                    "altinn_call_finished",
                    operation=question.operation,
                    trekkpliktig=trekkpliktig,
                    status=status,
                    milliseconds=milliseconds,
                )
        return answer
