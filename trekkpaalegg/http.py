"""An HTTP server in a thread of its own, and the addresses `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp

STARTED_SECONDS_MAX = 10.0
STOPPED_SECONDS_MAX = 2.0
CAUGHT_UP = "caught-up"
"""The query of `/readyz?caught-up`."""

_METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpServer:
    """Serves an ASGI application from `start` to `close`; also a context manager.

    With port 0 the system chooses a free port; see `port`. `setting` names the setting of the port in the
    error raised when the port cannot be bound. `proxies` are the addresses of reverse proxies whose `X-Forwarded-For`
    is trusted. There is no access log, as a path may hold a secret.
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
        """Bind the port, and return once the server answers. Raises `SettingsError` if the port cannot be bound."""
        self._listener = self._bound()
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        deadline = time.monotonic() + STARTED_SECONDS_MAX
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Stop serving. Requests in progress have two seconds to finish."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOPPED_SECONDS_MAX)
        if self._listener is not None:
            self._listener.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener] if self._listener else None))

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio sets TCP_NODELAY only on sockets whose protocol is named.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self.port))
        except OSError as error:
            listener.close()
            reason = error.strerror or type(error).__name__
            address = f"{self._host}:{self.port}"
            fault = f"{self._setting}: {address} cannot be bound ({reason}); give another, or 0 for any free one"
            raise SettingsError([fault]) from error
        return listener


class Health(Protocol):
    """What a health server asks. Any thread may ask."""

    def stuck(self) -> Mapping[str, float]:
        """Loops that have stalled, and for how many seconds."""

    def missing(self) -> Mapping[str, str]:
        """Why the process is not ready: a sentence for each dependency that is missing."""


class HealthServer(HttpServer):
    """Serves `/livez`, `/readyz` and `/metrics`.

    `exposition` gives the metrics in Prometheus' text format. `is_caught_up` is there for programs that start with a
    backlog: `/readyz` then reports it, and `/readyz?caught-up` is not ready before.
    """

    def __init__(
        self,
        health: Health,
        exposition: Callable[[], bytes],
        *,
        host: str,
        port: int,
        setting: str,
        is_caught_up: Callable[[], bool] | None = None,
    ) -> None:
        self._health = health
        self._exposition = exposition
        self._is_caught_up = is_caught_up
        routes = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._metrics)]
        super().__init__(Starlette(routes=routes), name="health", host=host, port=port, setting=setting)

    def _livez(self, _request: Request) -> Response:
        stuck = dict(self._health.stuck())
        return JSONResponse({"alive": not stuck, "stuck_seconds": stuck}, 503 if stuck else 200)

    def _readyz(self, request: Request) -> Response:
        missing = dict(self._health.missing())
        document: dict[str, object] = {}
        if self._is_caught_up is not None:
            document["caught_up"] = is_caught_up = self._is_caught_up()
            if CAUGHT_UP in request.query_params and not is_caught_up:
                missing[CAUGHT_UP] = "not everything that was there at the start has been processed yet"
        return JSONResponse({"ready": not missing, **document, "missing": missing}, 503 if missing else 200)

    def _metrics(self, _request: Request) -> Response:
        return Response(self._exposition(), media_type=_METRICS_CONTENT_TYPE)
