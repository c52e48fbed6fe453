"""HTTP requests with responses bounded in size and time, which are interrupted when the process stops.

A thread that waits for a response cannot be interrupted, and the process cannot end before its threads do. Without the
interruption, a server that hangs would delay the end of the process by as long as a call may take.

All exceptions of the HTTP library are translated here. A response of any status is returned; the caller decides what
it means.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    import ssl

_CLIENT_ERRORS: Final = range(400, 500)
_TRANSIENT: Final = frozenset({408, 421, 425, 429})


class HttpResponse(msgspec.Struct, frozen=True):
    """A response of any status, its body complete and decompressed. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether the server refuses the request for good: a 4xx status, except those that ask to try again later."""
        return self.status in _CLIENT_ERRORS and self.status not in _TRANSIENT

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header; empty if there is none."""
        return str(self.headers.get("content-type", ""))


def seconds_ahead(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """How far our clock is ahead of the server's, by the `Date` header; negative if behind, None if unknown."""
    try:
        moment = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return now_seconds - moment.timestamp()


GRACE_SECONDS: Final = 3.0
_AGAIN_SECONDS: Final = 0.2
_OPENED: Final = ("connect_tcp.complete", "start_tls.complete")


class Connections:
    """The open connections of an HTTP client, learned from the library's trace events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def watch(self, request: httpx.Request) -> None:
        """Register the connection that this request may open. An event hook for the client."""
        request.extensions = {**request.extensions, "trace": self._trace}

    def break_all(self) -> None:
        """Shut down every connection: threads that wait for a response get a connection error at once."""
        with self._lock:
            opened = list(self._sockets)
        for each in opened:
            with contextlib.suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)

    def break_when(self, stopping: threading.Event, grace_seconds: float = GRACE_SECONDS) -> None:
        """From `grace_seconds` after `stopping` is set, break whatever is open until the process ends."""
        threading.Thread(target=self._wait_and_break, args=(stopping, grace_seconds), daemon=True).start()

    def _wait_and_break(self, stopping: threading.Event, grace_seconds: float) -> None:
        stopping.wait()
        never = threading.Event()
        never.wait(grace_seconds)
        while True:
            self.break_all()
            never.wait(_AGAIN_SECONDS)

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(_OPENED):
            opened = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.add(opened)


RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
CALL_SECONDS_MAX: Final = 60.0
_TIMEOUT: Final = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=60.0)
_KEEP_ALIVE_SECONDS: Final = 30.0
_NO_CONTENT: Final = 204


def open_http_client(max_concurrent_calls: int, stopping: threading.Event | None = None) -> httpx.Client:
    """One client for all threads and URLs: keep-alive, bounded waits, no redirects. The caller closes it.

    It may hold three connections for each concurrent call: two of them for tokens, which are fetched ahead of the
    calls. Calls that still hang some seconds after `stopping` is set are interrupted.
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
    return httpx.Client(
        timeout=_TIMEOUT, limits=limits, follow_redirects=False, event_hooks=hooks, verify=tls_context()
    )


@cache
def tls_context() -> ssl.SSLContext:
    """The same for all clients of the process: loading the certificates of authorities takes 40 ms of CPU time."""
    return httpx.create_ssl_context()


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
) -> HttpResponse:
    """Send a request and read the whole response; `form` is sent URL-encoded, `content` unchanged.

    The body is read in pieces and abandoned when it exceeds `bytes_max` or the call `seconds_max`, so that neither an
    endless nor a trickling response occupies memory or a thread. Raises `RetryableError`, also for a body shorter than
    its announced length, and for an empty success whose length was not announced.
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
        raise RetryableError("a URL that was configured or received is not valid") from error
    except (httpx.RequestError, httpx.StreamError) as error:
        # Only the kind: the text of a protocol error may quote what came.
        raise RetryableError(f"the connection was lost: {type(error).__name__}") from error
    except RuntimeError as error:
        if http.is_closed:
            raise RetryableError("the HTTP client was closed while a call was under way") from error
        raise
    if response.is_success and not body and not _says_empty(response):
        raise RetryableError("an empty body whose length was not announced: it may have been cut off")
    return HttpResponse(response.status_code, response.headers, body)


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
    """Whether the empty body was announced; one that just ends with its connection may have lost everything."""
    headers = response.headers
    return response.status_code == _NO_CONTENT or "content-length" in headers or "transfer-encoding" in headers
