"""Messages of `<prefix>-versjoner` in, each delivered to the receiver or kept out: the loop that does it."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from consumers.stream.readable import masked
from consumers.webhook.cloudevent import parcel_of
from consumers.webhook.delivery import Meaning, Outcome
from consumers.webhook.observe import NullObserver, Observer
from consumers.webhook.schedule import Again, Deliver, Park, RetryPolicy, Schedule, Stop, decide
from consumers.webhook.store import Settled
from trekkpaalegg.errors import FatalError, RetryableError, UndecodableError
from trekkpaalegg.retry import Service, ServiceRetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from consumers.webhook.cloudevent import Message, Parcel
    from consumers.webhook.schedule import Decision, Waiting
    from consumers.webhook.store import Store
    from trekkpaalegg.decode import Decoder

_T = TypeVar("_T")
_IDLE_SECONDS = 0.1
_BUSY_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 60.0
_COUNT_SECONDS = 5.0
LEAVE_SECONDS_MAX = 8.0
"""How long what is on its way is waited for at the end: a stop has ten seconds."""


class Source(Protocol):
    """Where messages come from."""

    @property
    def has_reached_end(self) -> bool:
        """Whether all has been given that was there at the start."""

    def poll(self, seconds_max: float) -> list[Message]:
        """What has come, waiting at most so long."""


class Carrier(Protocol):
    """Who sends, several at a time."""

    def send(self, waiting: Waiting, parcel: Parcel) -> None:
        """Begin to send it."""

    def come_back(self, seconds_max: float) -> list[tuple[Waiting, Outcome]]:
        """What came of those that were sent, waiting at most so long for the first."""


class Limits(msgspec.Struct, frozen=True):
    """How much at a time: deliveries, events that wait until reading pauses, and parked ones until all stops."""

    concurrency_max: int = 4
    backlog_max: int = 1000
    parked_max: int = 100
    retry: RetryPolicy = RetryPolicy()


class Tally(msgspec.Struct):
    """What has been done so far."""

    read: int = 0
    delivered: int = 0
    parked: int = 0

    def __str__(self) -> str:
        text = f"{self.read} read, {self.delivered} delivered"
        return f"{text}, {self.parked} parked" if self.parked else text


class Forwarder:
    """One process's forwarding. All is decided and written in one thread; couriers only send.

    `note` takes lines for people; `stopping` ends it. What is on its way at the end is waited for, and written.
    """

    def __init__(
        self,
        store: Store,
        decoder: Decoder,
        limits: Limits,
        note: Callable[[str], None],
        stopping: threading.Event,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or NullObserver()
        self._counted = float("-inf")
        self._store = store
        self._decoder = decoder
        self._limits = limits
        self._note = note
        self._stopping = stopping
        self._retry = ServiceRetry(stopping, self._report, self._observer)
        self._schedule = Schedule(limits.concurrency_max, store.blocked())
        for waiting in store.waiting():
            self._schedule.add(waiting)
        self._looked = self._told = time.monotonic()
        self._refusal = self._too_many_parked()
        self.tally = Tally()

    @property
    def waiting_count(self) -> int:
        """How many are to be sent."""
        return self._schedule.waiting_count

    def run(self, source: Source, carrier: Carrier, *, until_end: bool = False) -> None:
        """Forward until `stopping` is set, or with `until_end` until all is delivered or parked.

        Raises `FatalError` when the receiver says that its address is gone, when too many are parked, and as the
        store, the source and the decoder do.
        """
        while not self._stopping.is_set() and self._refusal is None:
            self._look_for_released()
            self._read(source)
            self._send(carrier)
            self._settle(self._came_back(carrier, _BUSY_SECONDS if self._schedule.on_the_way_count else 0))
            self._tell_now_and_then()
            self._observer.beat()
            self._observer.waits(self._schedule.waiting_count)
            if until_end and source.has_reached_end and not self._schedule.waiting_count:
                return
        self._leave(carrier)
        if self._refusal is not None:
            raise FatalError(self._refusal)

    def _read(self, source: Source) -> None:
        """Keep what has come, unless enough waits. Where there is nothing to do, this is where time is passed."""
        is_busy = self._schedule.on_the_way_count > 0
        due_in = self._schedule.due_in_seconds(time.time())
        pause = 0.0 if is_busy else min(_IDLE_SECONDS, _IDLE_SECONDS if due_in is None else due_in)
        if self._schedule.waiting_count >= self._limits.backlog_max:
            if pause > 0:
                self._stopping.wait(pause)
            return
        messages = source.poll(pause)
        if messages:
            for waiting in self._write(lambda: self._store.take(messages)):
                self._schedule.add(waiting)
            self.tally.read += len(messages)
            self._observer.taken(len(messages))

    def _send(self, carrier: Carrier) -> None:
        due = self._schedule.take_due(time.time())
        if not due:
            return
        messages = self._write(lambda: self._store.messages([waiting.sequence for waiting in due]))
        unsent: list[tuple[Waiting, Outcome]] = []
        for waiting in due:
            parcel = self._parcel(messages[waiting.sequence])
            if isinstance(parcel, Outcome):
                unsent.append((waiting, parcel))
            else:
                carrier.send(waiting, parcel)
        self._settle(unsent)

    def _parcel(self, message: Message) -> Parcel | Outcome:
        """The event as it is sent, or why it cannot be."""
        try:
            parcel = parcel_of(self._decoder.decode_trekkpaalegg_versjon(message.value), message.headers)
        except UndecodableError as error:
            self._observer.undecodable()
            return Outcome(Meaning.REFUSED, f"it cannot be decoded: {masked(str(error))}")
        except RetryableError as error:
            self._observer.call_failed(Service.REGISTRY, str(error))
            return Outcome(Meaning.UNAVAILABLE, str(error))
        self._observer.call_ended(Service.REGISTRY)
        return parcel

    def _came_back(self, carrier: Carrier, seconds_max: float) -> list[tuple[Waiting, Outcome]]:
        came = carrier.come_back(seconds_max)
        for _, outcome in came:
            self._observer.attempted(outcome.meaning)
            if outcome.meaning is Meaning.UNAVAILABLE:
                self._observer.call_failed(Service.RECEIVER, outcome.words)
            else:
                self._observer.call_ended(Service.RECEIVER)
        return came

    def _settle(self, came: Iterable[tuple[Waiting, Outcome]]) -> None:
        """Write what became of those that came back, and only then let the next of their orders go."""
        now = time.time()
        decisions = [
            decide(
                waiting,
                outcome,
                troubles=self._schedule.troubles,
                now_seconds=now,
                retry=self._limits.retry,
                chance=random.random,
            )
            for waiting, outcome in came
        ]
        if not decisions:
            return
        settled = Settled(
            [each.waiting.sequence for each in decisions if isinstance(each, Deliver)],
            [(each.later, each.words) for each in decisions if isinstance(each, Again)],
            [(each.waiting.sequence, each.words) for each in decisions if isinstance(each, Park)],
        )
        self._write(lambda: self._store.settle(settled, now))
        for decision in decisions:
            self._apply(decision, now)

    def _apply(self, decision: Decision, now: float) -> None:
        match decision:
            case Deliver(waiting):
                if self._schedule.troubles:
                    self._note("the receiver takes events again")
                self._schedule.delivered(waiting)
                self.tally.delivered += 1
            case Again(waiting, later, words, hold_until_seconds):
                if hold_until_seconds is None:
                    self._schedule.again(waiting, later)
                    pause = later.due_seconds - now
                    self._note(f"{masked(waiting.order)}: {words}; attempt {later.tries + 1} in {pause:.0f} s")
                    return
                if not self._schedule.troubles:
                    self._note(f"{words}; all events wait, and go on when it is back")
                self._schedule.hold(waiting, later, hold_until_seconds, now)
            case Park(waiting, words):
                self._schedule.parked(waiting)
                self.tally.parked += 1
                self._note(f"{masked(waiting.order)}: {words}. Parked, and what follows of this order waits behind it")
                self._refusal = self._too_many_parked()
            case Stop(waiting, words):
                self._schedule.again(waiting, waiting)
                self._refusal = (
                    f"{words}: it wants no more events at this address. Nothing is lost: set the address that it has "
                    "now, and start again with the same --state"
                )

    def _look_for_released(self) -> None:
        """Another process may have released or dropped what is parked."""
        now = time.monotonic()
        if not self._schedule.blocked or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for order in self._schedule.blocked - self._write(self._store.blocked):
            self._schedule.unblock(order, self._write(partial(self._store.waiting, order)))

    def _too_many_parked(self) -> str | None:
        parked = len(self._schedule.blocked)
        if parked <= self._limits.parked_max:
            return None
        return (
            f"{parked} events are parked, more than --parked-max {self._limits.parked_max}: see `webhook parked`, "
            "mend what is wrong, then `webhook release` or `webhook drop`"
        )

    def _leave(self, carrier: Carrier) -> None:
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        while self._schedule.on_the_way_count and time.monotonic() < deadline:
            self._settle(self._came_back(carrier, _BUSY_SECONDS))

    def _write(self, action: Callable[[], _T]) -> _T:
        """The result of the action, retried while the database fails temporarily."""
        return self._retry.call(Service.STATE, action)

    def _report(self, event: str, **details: object) -> None:
        self._note(f"{event}: {details['reason']}" if "reason" in details else event)

    def _tell_now_and_then(self) -> None:
        """What is kept is asked for also where nothing comes, so that a state that is away shows."""
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS:
            self._counted = now
            self._observer.kept(self._write(self._store.kept), self._limits.parked_max)
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._note(f"{self.tally}; {self._schedule.waiting_count} wait, {len(self._schedule.blocked)} are parked")
