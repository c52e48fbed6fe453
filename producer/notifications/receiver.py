"""The HTTP receiver of Altinn notifications at `/notifications/<secret>`: it stores a wake-up in `…-signals`.

A notification is acknowledged once its wake-up is stored. After any other status than 2xx Altinn repeats the call for
two days, with growing pauses; so a call that repetition would not help is answered with 200 and counted. Nothing of a
call is logged: its path contains the secret, and its body may name a person.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from enum import Enum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producer.encode.signal import encode_wake_up
from producer.notifications.event import EVENT_BYTES_MAX, Incoming, Notification, RecentEvents, read_pushed
from producer.notifications.subscriptions import NOTIFICATIONS_PATH
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.http import HttpServer

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from concurrent.futures import Future

    from starlette.requests import Request

    from producer.observe.port import Observer


class Refusal(Enum):
    """Why a call is refused. The value is the metric's label."""

    ADDRESS = "refused_address"
    RATE = "refused_rate"
    SECRET = "refused_secret"  # noqa: S105  a label


class Gate:
    """The allow-list (empty: everybody), the rate of each address, and the secret, in this order.

    The secret comes last, so that nobody can guess it faster than `calls_per_second`, and is compared in constant
    time: the duration of the answer does not reveal how much of a guess was right.
    """

    def __init__(self, secret: str, allowed: Sequence[str], calls_per_second: int) -> None:
        self._secret = secret.encode()
        self._allowed = tuple(map(ip_network, allowed))
        self._calls_per_second = calls_per_second
        self._second = 0
        self._calls: Counter[str] = Counter()

    def refusal(self, address: str, secret: str) -> Refusal | None:
        """Why a call from this address with this secret is refused; None when it is let in."""
        if self._allowed and not self._is_allowed(address):
            return Refusal.ADDRESS
        if self._is_too_fast(address):
            return Refusal.RATE
        if not hmac.compare_digest(secret.encode("utf-8", "surrogatepass"), self._secret):
            return Refusal.SECRET
        return None

    def _is_too_fast(self, address: str) -> bool:
        """Count the call, in the second that it came in. What earlier seconds counted is forgotten."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._calls.clear()
        self._calls[address] += 1
        return self._calls[address] > self._calls_per_second

    def _is_allowed(self, address: str) -> bool:
        try:
            caller = ip_address(address)
        except ValueError:
            return False
        if isinstance(caller, IPv6Address) and caller.ipv4_mapped is not None:
            caller = caller.ipv4_mapped
        return any(caller.version == network.version and caller in network for network in self._allowed)


BODY_SECONDS_MAX = 10.0
RETRY_AFTER_SECONDS = 10
_SAYS: Final = {
    Refusal.ADDRESS: (403, "this address may not call here"),
    Refusal.RATE: (429, "too many calls"),
    Refusal.SECRET: (404, "no such address"),
}
_BAD: Final = {
    "malformed": (400, "this is no CloudEvent 1.0 in structured or binary mode"),
    "oversized": (413, f"more than {EVENT_BYTES_MAX} bytes"),
}


ANSWERS: Final = frozenset({200, 408, 503, *(status for status, _ in (*_SAYS.values(), *_BAD.values()))})
"""Every status that a call with the right path and method may get."""


class SignalStore(Protocol):
    """Where wake-ups are stored."""

    def begin(self, trekkpliktig: str, value: bytes | None) -> Future[None]:
        """Store one. The future is done once it is stored, and fails with `RetryableError` if that is unknown."""


class Receiver:
    """See the module. `served` are all trekkpliktige that the application serves, not only those of this worker."""

    def __init__(self, gate: Gate, served: Container[str], signals: SignalStore, observer: Observer) -> None:
        self._gate = gate
        self._served = served
        self._signals = signals
        self._observer = observer
        self._recent = RecentEvents()
        self.app = Starlette(routes=[Route(f"{NOTIFICATIONS_PATH}{{secret}}", self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        """1. Admit the caller. 2. Read the event. 3. Drop what is no notification. 4. Store the wake-up. 5. Respond."""
        # 1. Admit the caller.
        address = request.client.host if request.client else ""
        refusal = self._gate.refusal(address, request.path_params["secret"])
        if refusal is not None:
            return self._answer(refusal.value, *_SAYS[refusal])
        # 2. Read the event.
        try:
            incoming = await self._read(request)
        except (TimeoutError, ClientDisconnect):
            return self._answer("cut_off", 408, "the body was cut off")
        # 3. Drop what is no notification.
        if not isinstance(incoming, Notification):
            return self._answer(incoming.outcome, *_BAD.get(incoming.outcome, (200, "")))
        if not self._recent.is_new(incoming.event_id):
            return self._answer("double", 200)
        # 4. Store the wake-up.
        try:
            value = encode_wake_up(incoming.event_id)
            await asyncio.wrap_future(self._signals.begin(incoming.trekkpliktig, value))
        except RetryableError:
            return self._answer("not_stored", 503, "it could not be stored; call again")
        self._recent.add(incoming.event_id)
        # 5. Respond.
        return self._answer(incoming.outcome, 200)

    async def _read(self, request: Request) -> Incoming:
        """Read no more of the body than an event may have, and for no longer than `BODY_SECONDS_MAX`."""
        body = b""
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > EVENT_BYTES_MAX:
                    break
        return read_pushed(request.headers, body, self._served)

    def _answer(self, outcome: str, status: int, error: str = "") -> Response:
        self._observer.notification_received(outcome)
        if not error:
            return Response(status_code=status)
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status in (429, 503) else None
        return JSONResponse({"error": error}, status, wait)


def receiver_server(receiver: Receiver, *, host: str, port: int, proxies: Sequence[str]) -> HttpServer:
    """The server of the receiver, not yet started. `proxies` are the reverse proxies in front of it."""
    setting = "TREKKPAALEGG_WEBHOOK_PORT"
    return HttpServer(receiver.app, name="receiver", host=host, port=port, setting=setting, proxies=proxies)
