"""Serve an ASGI application by uvicorn in a thread that can be stopped and started again on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.servers.server import LOOPBACK, Server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sandbox.servers.certificates import Identity

_START_SECONDS = 10.0
_BACKLOG = 1024
_BREAK_SECONDS = 0.01


class _OpenProtocol(H11Protocol):
    """Shows the application its connection, so that a simulated fault can break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent does
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


async def _break_all(server: uvicorn.Server) -> None:
    """End every connection, also those that came while the server was ending; the loop then sees them closed."""
    while connections := list(server.server_state.connections):
        for connection in connections:
            connection.transport.abort()
        await asyncio.sleep(0)


class ServerThread(Server):
    """One server on the address `host`. `port` 0 lets the system choose; it stays the same over stop and start.

    `called` is the name by which others reach it. With an `identity` it speaks TLS.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        called: str = LOOPBACK,
        identity: Identity | None = None,
    ) -> None:
        self._identity = identity
        self._app = app
        self._host = host
        self.called = called
        # Bound but never listening: it keeps the port ours during a simulated outage, when callers are refused.
        self._reservation = _bound_socket(host, port)
        self.port: int = self._reservation.getsockname()[1]
        self._serving: _Serving | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether it takes calls."""
        return self._thread is not None

    def start(self) -> None:
        """Take calls; RuntimeError if that has not begun within ten seconds."""
        if self._thread is not None:
            return
        config = uvicorn.Config(
            self._app,
            http=_OpenProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._identity.certificate if self._identity else None,
            ssl_keyfile=self._identity.key if self._identity else None,
        )
        listener = _bound_socket(self._host, self.port)
        listener.listen(_BACKLOG)
        self._serving = serving = _Serving(config, listener)
        self._thread = threading.Thread(target=serving.run, name=f"sandbox-{self.port}", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not serving.server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError(f"the simulated server on port {self.port} did not start")
            time.sleep(0.002)

    def stop(self) -> None:
        """Break every connection and take no more calls. `start` may follow."""
        if self._thread is None or self._serving is None:
            return
        self._serving.end()
        self._thread.join()
        self._thread = self._serving = None

    def begin_stop(self) -> None:
        """Ask it to stop; `stop` waits for that. Several servers end sooner when all are asked first."""
        if self._serving is not None:
            self._serving.end()

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self._reservation.close()


class _Serving:
    """One run of a server, from its first call to its last, in a loop of its own."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        self.server = uvicorn.Server(config)
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def end(self) -> None:
        # It may have ended between being asked and being waited for; then its loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ending.set)

    async def _serve(self) -> None:
        serving = asyncio.create_task(self.server.serve(sockets=[self._listener]))
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        self.server.should_exit = True
        while not serving.done():
            await _break_all(self.server)
            await asyncio.wait((serving,), timeout=_BREAK_SECONDS)
        await serving
        await _break_all(self.server)


def _bound_socket(host: str, port: int) -> socket.socket:
    # The protocol must be named: asyncio sets TCP_NODELAY only then, and without it each answer waits 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
