"""The forwarder's loop: store what is read from Kafka, send what is due, and store the results."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from consumers.webhook.cloudevent import request_for
from consumers.webhook.delivery import DeliveryResult, ResultKind
from consumers.webhook.observe import ForwarderObserver
from consumers.webhook.schedule import Complete, DeliverySchedule, Park, RetryLater, RetryPolicy, Stop, decide
from consumers.webhook.store import StateUpdate
from trekkpaalegg.errors import FatalError, RetryableError, UndecodableError
from trekkpaalegg.identifiers import mask_for_display
from trekkpaalegg.retry import Service, ServiceRetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from consumers.webhook.cloudevent import EventMessage, WebhookRequest
    from consumers.webhook.schedule import Decision, PendingEvent
    from consumers.webhook.store import ForwarderStore
    from trekkpaalegg.decode import Decoder

_T = TypeVar("_T")
_IDLE_SECONDS = 0.1
_BUSY_SECONDS = 0.05
_RELEASED_INTERVAL_SECONDS = 1.0
_SUMMARY_INTERVAL_SECONDS = 60.0
_COUNT_INTERVAL_SECONDS = 5.0
LEAVE_SECONDS_MAX = 8.0
"""How long the end waits for requests in flight; a process has ten seconds to stop."""


class Source(Protocol):
    """Where messages come from."""

    @property
    def has_reached_end(self) -> bool:
        """Whether everything that was there at the start has been returned."""

    def poll(self, seconds_max: float) -> list[EventMessage]:
        """New messages; waits up to `seconds_max` for the first."""


class Sender(Protocol):
    """Sends several requests at a time."""

    def send(self, pending: PendingEvent, request: WebhookRequest) -> None:
        """Start sending the request."""

    def results(self, seconds_max: float) -> list[tuple[PendingEvent, DeliveryResult]]:
        """The results that have arrived; waits up to `seconds_max` for the first."""


class Limits(msgspec.Struct, frozen=True):
    """How many events may be in flight, waiting before reading pauses, and parked before the forwarder stops."""

    concurrency_max: int = 4
    backlog_max: int = 1000
    parked_max: int = 100
    retry: RetryPolicy = RetryPolicy()


class ForwarderTally(msgspec.Struct):
    """How many events were read, delivered and parked since the start."""

    read: int = 0
    delivered: int = 0
    parked: int = 0

    def __str__(self) -> str:
        text = f"{self.read} read, {self.delivered} delivered"
        return f"{text}, {self.parked} parked" if self.parked else text


class Forwarder:
    """Forwards events in one thread, which takes all decisions and writes them; other threads only send.

    `note` receives lines for people. Setting `stopping` ends `run`, which first waits for requests in flight.
    """

    def __init__(
        self,
        store: ForwarderStore,
        decoder: Decoder,
        limits: Limits,
        note: Callable[[str], None],
        stopping: threading.Event,
        observer: ForwarderObserver | None = None,
    ) -> None:
        self._observer = observer or ForwarderObserver()
        self._store = store
        self._decoder = decoder
        self._limits = limits
        self._note = note
        self._stopping = stopping
        self._retry = ServiceRetry(stopping, self._note_event, self._observer)
        self._schedule = DeliverySchedule(limits.concurrency_max, store.blocked())
        for pending in store.pending():
            self._schedule.add(pending)
        self._counted_at = float("-inf")
        self._released_at = self._summary_at = time.monotonic()
        self._refusal = self._too_many_parked()
        self.tally = ForwarderTally()

    @property
    def waiting_count(self) -> int:
        """Events that are still to be delivered."""
        return self._schedule.waiting_count

    def run(self, source: Source, sender: Sender, *, until_end: bool = False) -> None:
        """Forward until `stopping` is set, or with `until_end` until every event is delivered or parked.

        Raises `FatalError` when the receiver answers that its address is gone or when too many events are parked, and
        what the store, the source and the decoder raise.
        """
        while not self._stopping.is_set() and self._refusal is None:
            self._unblock_released()
            self._read(source)
            self._send(sender)
            self._store_results(self._results(sender, _BUSY_SECONDS if self._schedule.in_flight_count else 0))
            self._report()
            self._observer.beat()
            self._observer.pending(self._schedule.waiting_count)
            if until_end and source.has_reached_end and not self._schedule.waiting_count:
                return
        self._leave(sender)
        if self._refusal is not None:
            raise FatalError(self._refusal)

    def _read(self, source: Source) -> None:
        """Store new messages, unless the backlog is full. An idle loop spends its time waiting here."""
        is_busy = self._schedule.in_flight_count > 0
        due_in = self._schedule.due_in_seconds(time.time())
        pause = 0.0 if is_busy else min(_IDLE_SECONDS, _IDLE_SECONDS if due_in is None else due_in)
        if self._schedule.waiting_count >= self._limits.backlog_max:
            if pause > 0:
                self._stopping.wait(pause)
            return
        messages = source.poll(pause)
        if messages:
            for pending in self._call_store(lambda: self._store.add(messages)):
                self._schedule.add(pending)
            self.tally.read += len(messages)
            self._observer.stored(len(messages))

    def _send(self, sender: Sender) -> None:
        due = self._schedule.start_due(time.time())
        if not due:
            return
        messages = self._call_store(lambda: self._store.messages([pending.sequence for pending in due]))
        unsent: list[tuple[PendingEvent, DeliveryResult]] = []
        for pending in due:
            request = self._request(messages[pending.sequence])
            if isinstance(request, DeliveryResult):
                unsent.append((pending, request))
            else:
                sender.send(pending, request)
        self._store_results(unsent)

    def _request(self, message: EventMessage) -> WebhookRequest | DeliveryResult:
        """The request that delivers the message, or the result of an event that cannot be sent."""
        try:
            request = request_for(self._decoder.decode_trekkpaalegg_versjon(message.value), message.headers)
        except UndecodableError as error:
            self._observer.undecodable()
            return DeliveryResult(ResultKind.REFUSED, f"it cannot be decoded: {mask_for_display(str(error))}")
        except RetryableError as error:
            self._observer.call_failed(Service.REGISTRY, str(error))
            return DeliveryResult(ResultKind.UNAVAILABLE, str(error))
        self._observer.call_ended(Service.REGISTRY)
        return request

    def _results(self, sender: Sender, seconds_max: float) -> list[tuple[PendingEvent, DeliveryResult]]:
        results = sender.results(seconds_max)
        for _, result in results:
            self._observer.attempted(result.kind)
            if result.kind is ResultKind.UNAVAILABLE:
                self._observer.call_failed(Service.RECEIVER, result.reason)
            else:
                self._observer.call_ended(Service.RECEIVER)
        return results

    def _store_results(self, results: Iterable[tuple[PendingEvent, DeliveryResult]]) -> None:
        """Write the results, and only then release the next event of each order."""
        now = time.time()
        decisions = [
            decide(
                pending,
                result,
                outages=self._schedule.outages,
                now_seconds=now,
                retry=self._limits.retry,
                chance=random.random,
            )
            for pending, result in results
        ]
        if not decisions:
            return
        update = StateUpdate(
            [each.pending.sequence for each in decisions if isinstance(each, Complete)],
            [(each.later, each.reason) for each in decisions if isinstance(each, RetryLater)],
            [(each.pending.sequence, each.reason) for each in decisions if isinstance(each, Park)],
        )
        self._call_store(lambda: self._store.update(update, now))
        for decision in decisions:
            self._apply(decision, now)

    def _apply(self, decision: Decision, now: float) -> None:
        match decision:
            case Complete(pending):
                if self._schedule.outages:
                    self._note("the receiver accepts events again")
                self._schedule.complete(pending)
                self.tally.delivered += 1
            case RetryLater(pending, later, reason, hold_until_seconds):
                if hold_until_seconds is None:
                    self._schedule.retry(pending, later)
                    pause = later.due_seconds - now
                    self._note(
                        f"{mask_for_display(pending.order)}: {reason}; attempt {later.tries + 1} in {pause:.0f} s"
                    )
                    return
                if not self._schedule.outages:
                    self._note(f"{reason}; all events wait until it is back")
                self._schedule.hold(pending, later, hold_until_seconds, now)
            case Park(pending, reason):
                self._schedule.park(pending)
                self.tally.parked += 1
                self._note(
                    f"{mask_for_display(pending.order)}: {reason}. Parked; later events of this order wait behind it"
                )
                self._refusal = self._too_many_parked()
            case Stop(pending, reason):
                self._schedule.retry(pending, pending)
                self._refusal = (
                    f"{reason}: it accepts no more events at this address. Nothing is lost: set its new address, and "
                    "start again with the same --state"
                )

    def _unblock_released(self) -> None:
        """Continue with orders whose parked event another process has released or dropped."""
        now = time.monotonic()
        if not self._schedule.blocked or now - self._released_at < _RELEASED_INTERVAL_SECONDS:
            return
        self._released_at = now
        for order in self._schedule.blocked - self._call_store(self._store.blocked):
            self._schedule.unblock(order, self._call_store(partial(self._store.pending, order)))

    def _too_many_parked(self) -> str | None:
        parked = len(self._schedule.blocked)
        if parked <= self._limits.parked_max:
            return None
        return (
            f"{parked} events are parked, more than --parked-max {self._limits.parked_max}: see `webhook parked`, "
            "correct the cause, then run `webhook release` or `webhook drop`"
        )

    def _leave(self, sender: Sender) -> None:
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        while self._schedule.in_flight_count and time.monotonic() < deadline:
            self._store_results(self._results(sender, _BUSY_SECONDS))

    def _call_store(self, call: Callable[[], _T]) -> _T:
        """The result of the call, which is retried while the database fails temporarily."""
        return self._retry.call(Service.STATE, call)

    def _note_event(self, event: str, **details: object) -> None:
        self._note(f"{event}: {details['reason']}" if "reason" in details else event)

    def _report(self) -> None:
        """Report counts now and then. They are read even if no events come, so that a failing database shows."""
        now = time.monotonic()
        if now - self._counted_at >= _COUNT_INTERVAL_SECONDS:
            self._counted_at = now
            self._observer.counts(self._call_store(self._store.counts), self._limits.parked_max)
        if now - self._summary_at >= _SUMMARY_INTERVAL_SECONDS:
            self._summary_at = now
            self._note(f"{self.tally}; {self._schedule.waiting_count} wait, {len(self._schedule.blocked)} are parked")
