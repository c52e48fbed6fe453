"""A stop in, an end to calls that hang, out: connections are broken under the threads that wait for them.

A thread that waits for an answer cannot be told to give up, and the process cannot end before its threads have. A
source that hangs would else hold a stopping process for as long as a call may take.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

GRACE_SECONDS: Final = 3.0
_AGAIN_SECONDS: Final = 0.2
_OPENED: Final = ("connect_tcp.complete", "start_tls.complete")


class Connections:
    """Every open connection of an HTTP client, known through the library's trace events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def watch(self, request: httpx.Request) -> None:
        """Learn of the connection that this request may open. A hook for the client."""
        request.extensions = {**request.extensions, "trace": self._trace}

    def break_all(self) -> None:
        """End every connection; whoever waits for an answer on one meets a connection error at once."""
        with self._lock:
            opened = list(self._sockets)
        for each in opened:
            with contextlib.suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)

    def break_when(self, stopping: threading.Event, grace_seconds: float = GRACE_SECONDS) -> None:
        """From `grace_seconds` after the stop on, break whatever is open, for as long as the process lasts."""
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
