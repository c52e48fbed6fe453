"""How a consumer stands and its metrics in; `/livez`, `/readyz` and `/metrics` out, served by a thread."""

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
    from collections.abc import Callable

    from starlette.requests import Request

STARTED_SECONDS_MAX = 10.0
STOPPED_SECONDS_MAX = 2.0
CAUGHT_UP = "caught-up"
"""Asked for as `/readyz?caught-up`."""

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(Protocol):
    """What the addresses tell; see `consumers.observe.health.Standing`."""

    @property
    def is_caught_up(self) -> bool:
        """Whether all was done once that was there at the start."""

    def stuck(self) -> dict[str, float]:
        """Loops that have stopped turning, and for how many seconds."""

    def missing(self) -> dict[str, str]:
        """What keeps the consumer from being ready."""


class HealthServer:
    """Serves the three addresses until `close`; a context manager. Port 0 takes a free one, `port` says which.

    Raises `SettingsError` on `start` when the port cannot be had.
    """

    def __init__(self, health: Health, exposition: Callable[[], bytes], *, host: str, port: int) -> None:
        self._health = health
        self._exposition = exposition
        self._host = host
        self.port = port
        routes = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._metrics)]
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Bind the port and serve; returns when the addresses answer."""
        self._listener = _bound(self._host, self.port)
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

    def _livez(self, _request: Request) -> Response:
        stuck = self._health.stuck()
        return JSONResponse({"alive": not stuck, "stuck_seconds": stuck}, 503 if stuck else 200)

    def _readyz(self, request: Request) -> Response:
        missing, caught_up = self._health.missing(), self._health.is_caught_up
        if CAUGHT_UP in request.query_params and not caught_up:
            missing[CAUGHT_UP] = "not all is done yet that was there at the start"
        document = {"ready": not missing, "caught_up": caught_up, "missing": missing}
        return JSONResponse(document, 503 if missing else 200)

    def _metrics(self, _request: Request) -> Response:
        return Response(self._exposition(), media_type=_CONTENT_TYPE)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or type(error).__name__
        fault = f"{host}:{port} cannot be had ({reason}); give another, or 0 for any free one"
        raise SettingsError([f"TREKKPAALEGG_CONSUMER_HTTP_PORT: {fault}"]) from error
    return listener
