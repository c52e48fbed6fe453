"""An ASGI application and an address in, a listening server in a thread out; `SettingsError` when the port is taken."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import uvicorn

from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

STARTED_SECONDS_MAX = 10.0
STOPPED_SECONDS_MAX = 2.0


class HttpServer:
    """Serves from `start` to `close`; a context manager. Port 0 takes a free one, `port` says which.

    `setting` is the name that a message gives when the port cannot be had. `proxies` are the addresses of reverse
    proxies whose `X-Forwarded-For` is believed. No access log: a path may hold a secret.
    """

    def __init__(
        self, app: ASGIApp, *, name: str, host: str, port: int, setting: str, proxies: Sequence[str] = ()
    ) -> None:
        self._host = host
        self._setting = setting
        self.port = port
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=1,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
            )
        )
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Bind the port and serve; returns when it answers. Raises `SettingsError` when the port cannot be had."""
        self._listener = self._bound()
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        deadline = time.monotonic() + STARTED_SECONDS_MAX
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Stop serving; waits at most two seconds for answers under way."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOPPED_SECONDS_MAX)
        if self._listener is not None:
            self._listener.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener] if self._listener else None))

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # The protocol must be named: asyncio sets TCP_NODELAY only then.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self.port))
        except OSError as error:
            listener.close()
            reason = error.strerror or type(error).__name__
            address = f"{self._host}:{self.port}"
            fault = f"{self._setting}: {address} cannot be had ({reason}); give another, or 0 for any free one"
            raise SettingsError([fault]) from error
        return listener
