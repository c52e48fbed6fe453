"""Push events to their subscribers over HTTP, from threads of its own, and record how each delivery went."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final

import httpx
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

if TYPE_CHECKING:
    import ssl

    from sandbox.altinn.delivery import Delivery
    from sandbox.altinn.event_log import Event
    from sandbox.altinn.state import Altinn

CONTENT_TYPE: Final = "application/json; charset=utf-8"
_THREADS: Final = 8
_WAIT_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.2


@cache
def _tls_context() -> ssl.SSLContext:
    """The same for all clients of the process: loading the certificates of authorities takes 40 ms of CPU time."""
    return httpx.create_ssl_context()


class Pusher:
    """Pushes while it is started. Redirects are not followed; any 2xx is delivered."""

    def __init__(self, state: Altinn) -> None:
        self._state = state
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._http: httpx.Client | None = None

    def start(self) -> None:
        """Begin to push what is due."""
        if self._thread is None:
            self._stopping = False
            limits = httpx.Limits(max_connections=_THREADS, keepalive_expiry=60)
            self._http = httpx.Client(limits=limits, verify=_tls_context())
            self._thread = threading.Thread(target=self._run, name="sandbox-altinn-push", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop pushing; deliveries that are due keep waiting."""
        if self._thread is None or self._http is None:
            return
        with self._state.changed:
            self._stopping = True
            self._state.changed.notify_all()
        self._thread.join()
        # What is under way breaks, and counts as an attempt that failed.
        self._http.close()
        self._thread = self._http = None

    def push_raw(self, address: str, body: bytes, headers: dict[str, str]) -> int:
        """Send anything to an address at once; the status that comes back. Raises httpx.TransportError."""
        return httpx.post(address, content=body, headers=headers, timeout=self._timeout()).status_code

    def _run(self) -> None:
        """Fetch a delivery only when a thread is free, so that none is lost when the pusher stops."""
        state, free = self._state, threading.Semaphore(_THREADS)
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sandbox-altinn-push")
        while not self._stopping:
            if not free.acquire(timeout=_POLL_SECONDS):
                continue
            delivery = state.pop_due()
            if delivery is not None:
                pool.submit(self._deliver, delivery, free)
                continue
            free.release()
            with state.changed:
                wait_seconds = state.deliveries.wait_seconds(state.clock())
                if not self._stopping and wait_seconds != 0.0:
                    state.changed.wait(_WAIT_SECONDS_MAX if wait_seconds is None else wait_seconds)
        pool.shutdown(wait=False)

    def _deliver(self, delivery: Delivery, free: threading.Semaphore) -> None:
        accepted = False
        try:
            accepted = self._is_accepted(delivery)
        finally:
            free.release()
            self._state.record_outcome(delivery, accepted=accepted)

    def _is_accepted(self, delivery: Delivery) -> bool:
        http = self._http
        if http is None:
            return False
        headers, body = self._message(delivery.event, is_validation=delivery.is_validation)
        try:
            answer = http.post(delivery.address, content=body, headers=headers, timeout=self._timeout())
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError):  # RuntimeError: the client was closed
            return False
        return answer.is_success

    def _message(self, event: Event, *, is_validation: bool) -> tuple[dict[str, str], bytes]:
        rate = self._state.behaviour.push_binary_rate
        if not is_validation and rate and self._state.random.random() < rate:
            attributes = {name: value for name, value in event.items() if name not in {"data", "time"}}
            message = to_binary(CloudEvent(attributes, event.get("data")), JSONFormat())
            return {"content-type": CONTENT_TYPE, **message.headers}, message.body
        return {"content-type": CONTENT_TYPE}, json.dumps(event).encode()

    def _timeout(self) -> float:
        return self._state.behaviour.push_timeout_seconds
