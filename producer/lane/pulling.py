"""A lane's polling of Altinn events: when each trekkpliktig is due, its wake-ups, and its event cursor.

Each trekkpliktig is polled at an interval, by calls in a pool of their own; results come back through the lane's queue.
If polling fails for a trekkpliktig, it pauses, but its readings continue.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from producer.domain.state import NO_EVENT
from producer.errors import SuspendedError
from producer.lane.schedule import Schedule
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from concurrent.futures import Future, ThreadPoolExecutor

    from producer.domain.state import EventCursor, LaneState
    from producer.lane.reading import Reading
    from producer.notifications.port import EventFeed, Pulled
    from producer.observe.port import Observer

    CallSoon = Callable[[Callable[[], None]], None]

UNDER_WAY_MAX = 5
"""Calls of one lane that wait for the pool or run, so that no lane keeps the others from it."""

_log = structlog.get_logger(__name__)


class PullParts(NamedTuple):
    """What polling needs, shared by all lanes: the feed, the threads that call it, and the interval."""

    feed: EventFeed
    pool: ThreadPoolExecutor
    interval_seconds: float


class Pulling:
    """See the module. Only the lane's thread may use it. Without `parts` nothing is polled.

    A cursor is kept here until a reading that began after it has ended, and is committed with that end: by then the
    changes that the events announced are handed over. If the lane ends before, the same events are read again.
    """

    def __init__(
        self,
        parts: PullParts | None,
        readings: Schedule,
        served: Container[str],
        call_soon: CallSoon,
        observer: Observer,
    ) -> None:
        self._parts = parts
        self._readings = readings
        self._served = served
        self._call_soon = call_soon
        self._observer = observer
        self._schedule = Schedule(parts.interval_seconds if parts is not None else 0.0, random.random)
        self._cursors: dict[str, EventCursor] = {}
        """The cursors read so far, which may be ahead of those committed."""
        self._notified: set[str] = set()
        """Trekkpliktige with events after which no reading has begun."""
        self._under_way: set[str] = set()

    def update_list(self) -> None:
        """Poll for the trekkpliktige that the lane serves now, and no others."""
        if self._parts is None:
            return
        self._schedule.set_trekkpliktige(self._readings, time.monotonic())
        self._cursors = {each: cursor for each, cursor in self._cursors.items() if each in self._schedule}
        self._notified = {each for each in self._notified if each in self._schedule}

    def request_due(self, state: LaneState) -> None:
        """Start the calls that are due. Trekkpliktige that an operator has suspended are skipped."""
        while self._parts is not None and len(self._under_way) < UNDER_WAY_MAX:
            trekkpliktig = self._schedule.start_next(time.monotonic())
            if trekkpliktig is None:
                return
            if trekkpliktig in self._under_way or self._readings.is_blocked(trekkpliktig):
                self._schedule.succeeded(trekkpliktig, time.monotonic())
                continue
            self._under_way.add(trekkpliktig)
            cursor = self._cursors.get(trekkpliktig) or _committed_cursor(state, trekkpliktig)
            call = self._parts.pool.submit(self._parts.feed.pull, trekkpliktig, cursor, self._served)
            call.add_done_callback(partial(self._enqueue_answer, trekkpliktig))

    def wait_seconds(self, now: float) -> float:
        """How long until a call is due; infinite if another must end first."""
        if self._parts is None or len(self._under_way) >= UNDER_WAY_MAX:
            return float("inf")
        return self._schedule.wait_seconds(now)

    def oldest_seconds(self, now: float) -> dict[str, float]:
        """By class: how long ago the trekkpliktig that has waited longest was polled. Empty without `parts`."""
        if self._parts is None:
            return {}
        counts, oldest = self._schedule.classes(now)
        return {name: seconds for name, seconds in oldest.items() if counts[name]}

    def reading_begins(self, reading: Reading) -> None:
        """A reading begins: if it ends well, the events so far are processed."""
        reading.event_cursor = self._cursors.get(reading.trekkpliktig)
        reading.is_notified = reading.trekkpliktig in self._notified
        self._notified.discard(reading.trekkpliktig)

    def reading_failed(self, reading: Reading) -> None:
        """The reading failed: the next one is for the same events."""
        if reading.is_notified and reading.trekkpliktig in self._schedule:
            self._notified.add(reading.trekkpliktig)

    def is_notified(self, trekkpliktig: str) -> bool:
        """Whether it has events after which no reading has begun."""
        return trekkpliktig in self._notified

    def _enqueue_answer(self, trekkpliktig: str, call: Future[Any]) -> None:
        """Called in a thread of the pool."""
        self._call_soon(lambda: self._receive(trekkpliktig, call))

    def _receive(self, trekkpliktig: str, call: Future[Any]) -> None:
        self._under_way.discard(trekkpliktig)
        if call.cancelled() or trekkpliktig not in self._schedule:
            return
        error = call.exception()
        if error is not None:
            self._fail(trekkpliktig, error)
            return
        pulled: Pulled = call.result()
        for outcome, count in pulled.outcomes.items():
            for _ in range(count):
                self._observer.notification_received(outcome)
        self._cursors[trekkpliktig] = pulled.cursor
        is_notified = any(notification.trekkpliktig == trekkpliktig for notification in pulled.notifications)
        if is_notified and self._readings.notify(trekkpliktig):
            self._notified.add(trekkpliktig)
        now = time.monotonic()
        if pulled.stuck:  # the same events every time: poll ever less often
            self._schedule.failed(trekkpliktig, now)
            return
        self._schedule.succeeded(trekkpliktig, now)
        if pulled.has_more:
            self._schedule.notify(trekkpliktig)

    def _fail(self, trekkpliktig: str, error: BaseException) -> None:
        """No error here ends the lane: readings continue, and find changes without notifications."""
        now = time.monotonic()
        if isinstance(error, RetryableError):
            self._schedule.failed(trekkpliktig, now, error.retry_after_seconds)
            self._observer.notification_received("pull_failed")
        else:
            self._schedule.suspend(trekkpliktig, now)
            self._observer.notification_received("pull_refused")
        if isinstance(error, RetryableError | SuspendedError):
            _log.warning("cannot poll for events", trekkpliktig=trekkpliktig, reason=str(error))
        else:
            _log.error("cannot poll for events", trekkpliktig=trekkpliktig, exc_info=error)


def _committed_cursor(state: LaneState, trekkpliktig: str) -> EventCursor:
    known = state.get(trekkpliktig)
    return known.event_cursor if known is not None else NO_EVENT
