"""Receivers of pushed events: a subscriber of Altinn's, and a payroll system that receives webhooks.

Both remember every call, and answer with errors on demand.
"""

from __future__ import annotations

import asyncio
import json
import threading
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from sandbox.altinn.event_log import VALIDATION
from sandbox.servers.http import ServerThread
from sandbox.servers.server import Server

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/trekk"
_OK = 200
_ACCEPTED = 204
_UNAUTHORIZED = 401


class _Receiver(Server):
    """Receives POST calls at these paths. `stop` and `start` are an outage: the port stays its own."""

    def __init__(self, *paths: str) -> None:
        self._lock = threading.Lock()
        self._server = ServerThread(Starlette(routes=[Route(path, self._receive, methods=["POST"]) for path in paths]))
        self._address = f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        """Accept calls."""
        self._server.start()

    def stop(self) -> None:
        """Break every connection and accept none."""
        self._server.stop()

    def close(self) -> None:
        """Stop for good and give the port back."""
        self._server.close()

    @abstractmethod
    async def _receive(self, request: Request) -> Response:
        """Remember the call and answer it."""


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


class EventReceiver(_Receiver):
    """Takes calls at `url` and any address below it. `stop` and `start` are an outage: the port stays its own."""

    def __init__(self) -> None:
        super().__init__("/{path:path}")
        self._calls: list[Pushed] = []
        self._troubles: list[int] = []
        self.status = _OK
        """What is answered when no trouble was ordered."""

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return self._address

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

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            status = self._troubles.pop(0) if self._troubles else self.status
            self._calls.append(Pushed(request.url.path, dict(request.headers), body, status))
        return Response(status_code=status)


class Received(msgspec.Struct, frozen=True):
    """One call, in the order of arrival. `status` is what was answered; `event` is None where the signature fails."""

    webhook_id: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    event: BaseCloudEvent | None

    @property
    def trekkid(self) -> str:
        """The trekkid, from `subject`."""
        return str(self.event.get_subject()) if self.event else ""

    @property
    def data(self) -> dict[str, Any]:
        """The event itself."""
        found = self.event.get_data() if self.event else None
        return found if isinstance(found, dict) else {}


class Trouble(msgspec.Struct, frozen=True):
    """Another answer, given so many `times` (None: until it is removed), for one `trekkid` if given."""

    status: int
    headers: Mapping[str, str] = {}
    times: int | None = None
    trekkid: str | None = None


class PayrollReceiver(_Receiver):
    """A payroll system at `url`. `secret` is what signatures are checked with; `delay_seconds` how slow it is.

    `stop` and `start` are an outage: the port stays its own.
    """

    def __init__(self, secret: str, *, delay_seconds: float = 0.0) -> None:
        super().__init__(PATH, "/elsewhere")
        self.secret = secret
        self.delay_seconds = delay_seconds
        self._calls: list[Received] = []
        self._troubles: list[Trouble] = []
        self._on_the_way: dict[str, int] = {}
        self.concurrency_seen = 0
        self.overtaking: list[str] = []
        """Orders of which two events were on their way at once."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._address + PATH

    @property
    def calls(self) -> list[Received]:
        """All calls so far, refused ones too."""
        with self._lock:
            return list(self._calls)

    @property
    def in_flight_count(self) -> int:
        """How many calls have come and are not answered."""
        with self._lock:
            return sum(self._on_the_way.values())

    @property
    def accepted(self) -> list[Received]:
        """The calls that it took."""
        return [call for call in self.calls if call.status == _ACCEPTED]

    def accepted_of(self, trekkid: str) -> list[str]:
        """The ids that it took of one order, in order of arrival, repeated ones once."""
        return list(dict.fromkeys(call.webhook_id for call in self.accepted if call.trekkid == trekkid))

    def make_trouble(
        self,
        status: int,
        *,
        times: int | None = None,
        trekkid: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with this status from now on, as `Trouble` says."""
        with self._lock:
            self._troubles.append(Trouble(status, headers or {}, times, trekkid))

    def mend(self) -> None:
        """Be well again."""
        with self._lock:
            self._troubles.clear()

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        headers = dict(request.headers)
        event = self._verified(body, headers)
        trekkid = str(event.get_subject()) if event else ""
        self._enter(trekkid)
        try:
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
        finally:
            status, answer_headers = self._leave(trekkid, headers, body, event)
        return Response(status_code=status, headers=answer_headers)

    def _verified(self, body: bytes, headers: dict[str, str]) -> BaseCloudEvent | None:
        try:
            Webhook(self.secret).verify(body, headers, json_parse=False)
        except WebhookVerificationError:
            return None
        return from_structured(HTTPMessage(headers, body), JSONFormat())

    def _enter(self, trekkid: str) -> None:
        with self._lock:
            self._on_the_way[trekkid] = self._on_the_way.get(trekkid, 0) + 1
            self.concurrency_seen = max(self.concurrency_seen, sum(self._on_the_way.values()))
            if trekkid and self._on_the_way[trekkid] > 1:
                self.overtaking.append(trekkid)

    def _leave(
        self, trekkid: str, headers: Mapping[str, str], body: bytes, event: BaseCloudEvent | None
    ) -> tuple[int, Mapping[str, str]]:
        """Remember the call, and how to answer it."""
        with self._lock:
            self._on_the_way[trekkid] -= 1
            status, answer_headers = (_UNAUTHORIZED, {}) if event is None else self._answer(trekkid)
            self._calls.append(Received(headers.get("webhook-id", ""), status, headers, body, event))
        return status, answer_headers

    def _answer(self, trekkid: str) -> tuple[int, Mapping[str, str]]:
        for place, trouble in enumerate(self._troubles):
            if trouble.trekkid not in {None, trekkid}:
                continue
            if trouble.times is not None:
                left = trouble.times - 1
                self._troubles[place : place + 1] = [msgspec.structs.replace(trouble, times=left)] if left else []
            return trouble.status, trouble.headers
        return _ACCEPTED, {}
