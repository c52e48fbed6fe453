"""One HTTP request in; its whole answer, bounded in size and time, out, or a `RetryableError`.

Every foreign exception of the HTTP library ends here. An answer of any status is an answer; what it means is for
the caller to say.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import httpx

from producer.errors import RetryableError
from producer.source.answer import Answer
from producer.source.interruption import Connections

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
CALL_SECONDS_MAX: Final = 60.0
_TIMEOUT: Final = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=60.0)
_KEEP_ALIVE_SECONDS: Final = 30.0
_NO_CONTENT: Final = 204


def open_http_client(max_concurrent_calls: int, stopping: threading.Event | None = None) -> httpx.Client:
    """The client to share by all threads and for all addresses: keep-alive, bounded waits, no redirects.

    It may hold three times as many connections as there may be calls at a time: two of three for tokens, which are
    fetched ahead of the calls.
    Calls that still hang some seconds after `stopping` is set are broken off. Whoever opens it closes it.
    """
    hooks = {}
    if stopping is not None:
        opened = Connections()
        opened.break_when(stopping)
        hooks = {"request": [opened.watch]}
    connections = 3 * max_concurrent_calls
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEP_ALIVE_SECONDS
    )
    return httpx.Client(timeout=_TIMEOUT, limits=limits, follow_redirects=False, event_hooks=hooks)


def exchange(  # noqa: PLR0913  # parts of a request, and the bounds of its answer
    http: httpx.Client,
    method: str,
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    content: bytes | None = None,
    bytes_max: int = RESPONSE_BYTES_MAX,
    seconds_max: float = CALL_SECONDS_MAX,
) -> Answer:
    """Send a request and read its answer to the end; `form` is sent as a form, `content` as it stands.

    The body is taken piece by piece and given up as soon as it is larger than `bytes_max` or the call older than
    `seconds_max`, so neither an endless nor a trickling answer holds memory or a thread. Raises `RetryableError`,
    also for a body that ends before its announced length, and for an empty success whose end was never announced.
    """
    deadline = time.monotonic() + seconds_max
    try:
        request = http.build_request(method, address, headers=headers, data=form, content=content)
        response = http.send(request, stream=True)
        try:
            body = _read_bounded(response, bytes_max, deadline)
        finally:
            response.close()
    except httpx.TimeoutException as error:
        raise RetryableError(f"no answer in time: {type(error).__name__}") from error
    except httpx.ConnectError as error:
        raise RetryableError(f"no connection: {error}") from error
    except httpx.InvalidURL as error:
        raise RetryableError("an address that was configured or told is none") from error
    except (httpx.RequestError, httpx.StreamError) as error:
        # Only the kind: the text of a protocol error may quote what came.
        raise RetryableError(f"the connection broke: {type(error).__name__}") from error
    except RuntimeError as error:
        if http.is_closed:
            raise RetryableError("the HTTP client was closed while a call was under way") from error
        raise
    if response.is_success and not body and not _says_empty(response):
        raise RetryableError("an empty body whose length was not announced: it may have been cut off")
    return Answer(response.status_code, response.headers, body)


def _read_bounded(response: httpx.Response, bytes_max: int, deadline: float) -> bytes:
    pieces: list[bytes] = []
    size_bytes = 0
    for piece in response.iter_bytes():
        size_bytes += len(piece)
        if size_bytes > bytes_max:
            raise RetryableError(f"the answer is larger than {bytes_max} bytes: ask for fewer at a time (maksAntall)")
        if time.monotonic() > deadline:
            raise RetryableError("the answer trickled on past the longest time that a call may take")
        pieces.append(piece)
    return b"".join(pieces)


def _says_empty(response: httpx.Response) -> bool:
    """Whether the end was announced; a body that merely stops with its connection may have lost everything."""
    headers = response.headers
    return response.status_code == _NO_CONTENT or "content-length" in headers or "transfer-encoding" in headers
