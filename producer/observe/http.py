"""Heartbeats, dependency states and metrics in; `/livez`, `/readyz` and `/metrics` out, served by a thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producer.observe.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """What `/livez` and `/readyz` tell. Any thread may call any method.

    Alive means that every loop still turns: a source or a Kafka that does not answer must not restart processes.
    Ready means that everything named is in order just now.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beats: dict[str, tuple[float, float]] = {}
        self._unready: dict[str, str | None] = {}

    def heartbeat(self, name: str, limit_seconds: float) -> Callable[[], None]:
        """Watch a loop from now on: it must call the function returned at least every `limit_seconds`."""

        def beat() -> None:
            with self._lock:
                self._beats[name] = (self._monotonic(), limit_seconds)

        beat()
        return beat

    def unwatch(self, name: str) -> None:
        """The loop has ended as it should; it need not beat any more."""
        with self._lock:
            self._beats.pop(name, None)

    def set_ready(self, name: str, missing: str | None = None) -> None:
        """State of a dependency: what is missing, in words, or None when it is ready."""
        with self._lock:
            self._unready[name] = missing

    def stuck(self) -> dict[str, float]:
        """Loops that have stopped turning, and for how many seconds."""
        now = self._monotonic()
        with self._lock:
            return {name: round(now - at, 1) for name, (at, limit) in self._beats.items() if now - at > limit}

    def missing(self) -> dict[str, str]:
        """What keeps the process from being ready, by dependency."""
        with self._lock:
            return {name: missing for name, missing in self._unready.items() if missing is not None}


class HealthServer(HttpServer):
    """Serves the three addresses. Raises `SettingsError` on `start` when the port cannot be had."""

    def __init__(self, health: Health, exposition: Callable[[], bytes], *, host: str, port: int) -> None:
        self._health = health
        self._exposition = exposition
        routes = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._metrics)]
        super().__init__(
            Starlette(routes=routes), name="health", host=host, port=port, setting="TREKKPAALEGG_HTTP_PORT"
        )

    def _livez(self, _request: Request) -> Response:
        stuck = self._health.stuck()
        return JSONResponse({"alive": not stuck, "stuck_seconds": stuck}, 503 if stuck else 200)

    def _readyz(self, _request: Request) -> Response:
        missing = self._health.missing()
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    def _metrics(self, _request: Request) -> Response:
        return Response(self._exposition(), media_type=_CONTENT_TYPE)
