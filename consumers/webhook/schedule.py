"""Which event is sent next, and what happens to it after an attempt. Pure.

At most one event of an order (trekkid) is in flight, and the next one is sent only after it was delivered. An order
with a parked event is blocked: its later events stay in the store until somebody releases or drops the parked one.
Other orders are not affected.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from consumers.webhook.delivery import DeliveryResult, ResultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class PendingEvent(msgspec.Struct, frozen=True):
    """One event to deliver. `sequence` is its position in the store, `order` the trekkid.

    `tries` counts all attempts, `failures` only those that the receiver answered; `due_seconds` is the earliest time
    of the next attempt, in seconds since 1970.
    """

    sequence: int
    order: str
    tries: int = 0
    failures: int = 0
    due_seconds: float = 0.0


class DeliverySchedule:
    """Which events are pending and in flight, and which orders are blocked.

    `concurrency_max` limits the events in flight.
    """

    def __init__(self, concurrency_max: int, blocked: Iterable[str] = ()) -> None:
        self._concurrency_max = concurrency_max
        self._queues: dict[str, deque[PendingEvent]] = {}
        self._heads: list[tuple[float, int, str]] = []
        self._in_flight: dict[str, PendingEvent] = {}
        self._count = 0
        self._held_until_seconds = 0.0
        self._outages = 0
        self.blocked = set(blocked)

    @property
    def waiting_count(self) -> int:
        """Events to deliver, those in flight included; blocked ones do not count."""
        return self._count

    @property
    def in_flight_count(self) -> int:
        """Events that `start_due` has returned and that have no result yet."""
        return len(self._in_flight)

    @property
    def outages(self) -> int:
        """How many times in a row the receiver was unavailable."""
        return self._outages

    def add(self, pending: PendingEvent) -> None:
        """Append an event to its order. Does nothing for a blocked order, whose events stay in the store."""
        if pending.order in self.blocked:
            return
        queue = self._queues.setdefault(pending.order, deque())
        queue.append(pending)
        self._count += 1
        if len(queue) == 1:
            self._push(pending)

    def start_due(self, now_seconds: float) -> list[PendingEvent]:
        """The events to send now, which are in flight from here on, the longest due first.

        While the receiver is unavailable, only one event at a time probes it.
        """
        if now_seconds < self._held_until_seconds:
            return []
        room = (1 if self._outages else self._concurrency_max) - len(self._in_flight)
        started: list[PendingEvent] = []
        while len(started) < room and self._heads and self._heads[0][0] <= now_seconds:
            _, _, order = heapq.heappop(self._heads)
            pending = self._queues[order][0]
            self._in_flight[order] = pending
            started.append(pending)
        return started

    def due_in_seconds(self, now_seconds: float) -> float | None:
        """Time until `start_due` may return something; None if that depends on a result or on a new event."""
        room = (1 if self._outages else self._concurrency_max) - len(self._in_flight)
        if not self._heads or room <= 0:
            return None
        return max(self._heads[0][0], self._held_until_seconds, now_seconds) - now_seconds

    def complete(self, pending: PendingEvent) -> None:
        """The event was delivered: the next one of its order may be sent."""
        self._outages = 0
        queue = self._finish(pending)
        queue.popleft()
        self._count -= 1
        if queue:
            self._push(queue[0])
        else:
            del self._queues[pending.order]

    def retry(self, pending: PendingEvent, later: PendingEvent) -> None:
        """The receiver answered, but did not accept: the event is sent again as `later` says, and its order waits."""
        self._outages = 0
        self._requeue(pending, later)

    def hold(self, pending: PendingEvent, later: PendingEvent, until_seconds: float, now_seconds: float) -> None:
        """The receiver was unavailable: as `retry`, and nothing at all is sent before `until_seconds`.

        Several events that were in flight at the same time count as one outage.
        """
        if now_seconds >= self._held_until_seconds:
            self._outages += 1
        self._held_until_seconds = max(self._held_until_seconds, until_seconds)
        self._requeue(pending, later)

    def park(self, pending: PendingEvent) -> None:
        """The event was parked: its order is blocked, and the order's later events stay in the store."""
        self._outages = 0
        self._finish(pending)
        self._count -= len(self._queues.pop(pending.order))
        self.blocked.add(pending.order)

    def unblock(self, order: str, pending: Iterable[PendingEvent]) -> None:
        """The order's parked event was released or dropped. `pending`: all its stored events, in order."""
        self.blocked.discard(order)
        for each in pending:
            self.add(each)

    def _finish(self, pending: PendingEvent) -> deque[PendingEvent]:
        del self._in_flight[pending.order]
        return self._queues[pending.order]

    def _requeue(self, pending: PendingEvent, later: PendingEvent) -> None:
        self._finish(pending)[0] = later
        self._push(later)

    def _push(self, pending: PendingEvent) -> None:
        heapq.heappush(self._heads, (pending.due_seconds, pending.sequence, pending.order))


HOLD_SECONDS_MAX = 60.0
"""The longest pause between two attempts to reach an unavailable receiver, unless it asks for a longer one."""

_GROWTH = 2.0
_EXPONENT_MAX = 30
_JITTER = 0.2


class RetryPolicy(msgspec.Struct, frozen=True):
    """Exponential backoff. By default an event is parked after its twelfth failure, about 2.4 hours after the first.

    Each pause is twice the previous one, varied by a fifth so that many retries do not coincide.
    """

    attempts_max: int = 12
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 3600.0

    def pause_seconds(self, tries: int, chance: float) -> float:
        """The pause after this number of attempts; `chance` is a random number from 0 to 1."""
        grown = self.first_pause_seconds * _GROWTH ** min(tries - 1, _EXPONENT_MAX)
        return min(grown, self.longest_pause_seconds) * (1 - _JITTER + 2 * _JITTER * chance)


class Complete(msgspec.Struct, frozen=True):
    """The event was delivered: delete it."""

    pending: PendingEvent


class RetryLater(msgspec.Struct, frozen=True):
    """Send the event again as `later` says; nothing at all is sent before `hold_until_seconds`, if given."""

    pending: PendingEvent
    later: PendingEvent
    reason: str
    hold_until_seconds: float | None = None


class Park(msgspec.Struct, frozen=True):
    """Put the event aside with its reason, until somebody releases or drops it."""

    pending: PendingEvent
    reason: str


class Stop(msgspec.Struct, frozen=True):
    """Stop sending altogether; the event stays."""

    pending: PendingEvent
    reason: str


Decision = Complete | RetryLater | Park | Stop


def decide(
    pending: PendingEvent,
    result: DeliveryResult,
    *,
    outages: int,
    now_seconds: float,
    retry: RetryPolicy,
    chance: Callable[[], float],
) -> Decision:
    """What to do after an attempt. `outages`: how many times in a row the receiver was unavailable before it.

    An unavailable receiver is not the event's fault: such attempts never lead to parking, however many there are. A
    pause that the receiver asks for is respected if it is longer than ours. `chance` gives random numbers from 0 to 1.
    """
    asked = result.retry_after_seconds or 0.0
    tries = pending.tries + 1
    pause = max(retry.pause_seconds(tries, chance()), asked)
    match result.kind:
        case ResultKind.DELIVERED:
            return Complete(pending)
        case ResultKind.GONE:
            return Stop(pending, result.reason)
        case ResultKind.REFUSED:
            return Park(pending, result.reason)
        case ResultKind.UNAVAILABLE:
            hold = max(min(retry.pause_seconds(outages + 1, chance()), HOLD_SECONDS_MAX), asked)
            # If the receiver is down, the event is retried as soon as it is back. If only this event meets with an
            # outage again and again, the others must not wait for it as often.
            mine = pause if outages == 0 else min(pause, hold)
            later = msgspec.structs.replace(pending, tries=tries, due_seconds=now_seconds + mine)
            return RetryLater(pending, later, result.reason, now_seconds + hold)
        case ResultKind.FAILED:
            failures = pending.failures + 1
            if failures >= retry.attempts_max:
                return Park(pending, f"{result.reason}, at the last of {failures} attempts")
            later = PendingEvent(pending.sequence, pending.order, tries, failures, now_seconds + pause)
            return RetryLater(pending, later, result.reason)
