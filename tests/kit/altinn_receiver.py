"""A subscriber that remembers the events pushed to it, and answers with errors on demand."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Self

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from sandbox.altinn.event_log import VALIDATION
from sandbox.servers.http import ServerThread

if TYPE_CHECKING:
    from starlette.requests import Request

_OK = 200


class Pushed(msgspec.Struct, frozen=True):
    """One call; `status` is what was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def event(self) -> dict[str, Any]:
        """The event of a structured call; of a binary one its attributes."""
        attributes = {name[3:]: value for name, value in self.headers.items() if name.startswith("ce-")}
        found: dict[str, Any] = attributes or json.loads(self.body)
        return found


class EventReceiver:
    """Takes calls at `url` and any address below it. `stop` and `start` are an outage: the port stays its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Pushed] = []
        self._troubles: list[int] = []
        self.status = _OK
        """What is answered when no trouble was ordered."""
        self._server = ServerThread(Starlette(routes=[Route("/{path:path}", self._receive, methods=["POST"])]))

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def calls(self) -> list[Pushed]:
        """All calls so far."""
        with self._lock:
            return list(self._calls)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event that was accepted, in order of arrival, without validations."""
        taken = [call.event for call in self.calls if call.status == _OK]
        return [event for event in taken if event["type"] != VALIDATION]

    @property
    def validations(self) -> list[Pushed]:
        """Every validation event that came."""
        return [call for call in self.calls if call.event["type"] == VALIDATION]

    def make_trouble(self, *statuses: int) -> None:
        """Answer the next calls with these."""
        with self._lock:
            self._troubles += statuses

    def start(self) -> None:
        """Take calls."""
        self._server.start()

    def stop(self) -> None:
        """Break every connection and take none."""
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.close()

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            status = self._troubles.pop(0) if self._troubles else self.status
            self._calls.append(Pushed(request.url.path, dict(request.headers), body, status))
        return Response(status_code=status)
