"""The loop of a lane: read the trekkpliktige that are due, detect new versions, publish them, update the state.

It runs in a thread of its own, the only one that uses the lane's state. Calls to the source run in a pool that all
lanes share; their results come back as callbacks through a queue.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from producer.domain.trekkpaalegg import Failed, Origin
from producer.errors import AbortedError, SuspendedError
from producer.lane.calls import Calls
from producer.lane.commit import Committer
from producer.lane.intake import Intake
from producer.lane.pulling import Pulling
from producer.lane.reading import (
    NOTIFIED_MORE_MAX,
    READINGS_MIN,
    begin_reading,
    ends_wait_seconds,
    is_urgent,
    missed_after,
    position_has_gone,
    readings_allowed,
    vanished_of,
)
from producer.lane.releasing import Releasing
from producer.observe.port import LaneMetrics
from trekkpaalegg.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from producer.domain.state import LaneState
    from producer.lane.calls import CallPool
    from producer.lane.commit import RecordBuilder
    from producer.lane.priority import TransactionPriority
    from producer.lane.pulling import PullParts
    from producer.lane.reading import LaneOptions, Reading
    from producer.lane.releasing import Understand
    from producer.lane.schedule import Schedule
    from producer.observe.port import Observer
    from producer.publish.port import LanePublisher
    from producer.source.port import TrekkpaaleggSource


def metrics_of(
    schedule: Schedule, state: LaneState, now: float, oldest_pull_seconds: dict[str, float] | None = None
) -> LaneMetrics:
    """The lane's metrics at `now`, in monotonic seconds."""
    counts, oldest = schedule.classes(now)
    return LaneMetrics(
        trekkpliktige=counts,
        oldest_read_seconds=oldest,
        orders=sum(len(each) for _, each in state),
        versions_missing=sum(last - first + 1 for _, each in state for _, first, last in each.missing()),
        position_max=max((each.position.position for _, each in state), default=0),
        oldest_pull_seconds=oldest_pull_seconds or {},
    )


METRICS_INTERVAL_SECONDS = 5.0
METRICS_SHARE_MAX = 0.005


class MetricsReport:
    """Reports one lane's metrics to the observer. Used by the lane's thread only."""

    def __init__(self, lane: int, observer: Observer) -> None:
        self._lane = lane
        self._observer = observer
        self._due = 0.0

    def turn(self, schedule: Schedule, state: LaneState, pulling: Pulling) -> None:
        """Report them, if it is time."""
        now = time.monotonic()
        if now < self._due:
            return
        self._observer.lane_metrics(self._lane, metrics_of(schedule, state, now, pulling.oldest_seconds(now)))
        # With a hundred thousand employers in a lane they take a tenth of a second, in which nothing else is done.
        self._due = now + max(METRICS_INTERVAL_SECONDS, (time.monotonic() - now) / METRICS_SHARE_MAX)


_WAIT_SECONDS_MAX = 0.5
_PAGES_AVERAGED = 16

_log = structlog.get_logger(__name__)


class LaneParts(NamedTuple):
    """What a lane works with. It has a `publisher` and a `schedule` of its own and shares the rest with other lanes.

    `understand` reads a quarantined record again, given its trekkpliktig and its partition/offset. It is None where
    nothing is released.
    """

    source: TrekkpaaleggSource
    pool: CallPool
    publisher: LanePublisher
    records: RecordBuilder
    schedule: Schedule
    observer: Observer
    priority: TransactionPriority
    pull: PullParts | None = None
    understand: Understand | None = None


class LaneWatch(Protocol):
    """Observes whether the loop of a lane is running."""

    def beat(self) -> None:
        """The loop has started another turn."""

    def ended(self) -> None:
        """The loop has ended."""


class Lane:
    """See the module."""

    def __init__(self, number: int, parts: LaneParts, options: LaneOptions, watch: LaneWatch) -> None:
        self.number = number
        self.schedule = parts.schedule
        self._calls = Calls(parts.source, parts.pool)
        self._committer = Committer(number, parts.publisher, parts.records, options, parts.observer)
        releasing = Releasing(
            number, self._committer, parts.records, self._calls, parts.source, options, parts.understand
        )
        self._intake = Intake(
            number, self._committer, parts.records, parts.schedule, options, parts.observer, releasing
        )
        self._pulling = Pulling(parts.pull, parts.schedule, options.served, self._calls.call_soon, parts.observer)
        self._observer = parts.observer
        self._options = options
        self._watch = watch
        self._readings: dict[str, Reading] = {}
        self._ended: list[Reading] = []
        self._missed = 0
        self._elements_per_page = 0.0
        self._priority = parts.priority
        self._stopping = threading.Event()
        self._metrics = MetricsReport(number, parts.observer)

    def stop(self) -> None:
        """Request that the loop ends after the current transaction. Any thread may call it."""
        self._stopping.set()
        self._calls.call_soon(lambda: None)

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None = None) -> None:
        """Receive a signal for this lane. Any thread may call it."""
        self._calls.call_soon(lambda: self._intake.receive(trekkpliktig, offset, value))

    def set_trekkpliktige(self, trekkpliktige: list[str]) -> None:
        """Change the list of trekkpliktige that the lane serves. Any thread may call it."""
        self._calls.call_soon(lambda: self._set_trekkpliktige(trekkpliktige))

    @property
    def first_open_signal(self) -> int:
        """The offset of the first signal that is not processed yet."""
        return self._committer.signals.first_open

    def run(self, first_signal_offset: int) -> None:
        """Acquire the lane and work until stopped. Raises what the publisher raises; being stopped is not an error."""
        try:
            self._committer.acquire(first_signal_offset, self._stopping.is_set)
            orders = sum(len(state) for _, state in self._committer.state)
            _log.info("lane acquired", lane=self.number, trekkpliktige=len(self.schedule), orders=orders)
            self._observer.lane_acquired(self.number, len(self.schedule), orders)
            self._intake.begin()
            self._pulling.update_list()
            while not self._stopping.is_set() and not self._is_done:
                self._watch.beat()
                self._committer.check()
                self._pulling.request_due(self._committer.state)
                self._begin_due()
                self._calls.run_callbacks(self._wait_seconds())
                self._commit_signals()
                self._publish()
                self._metrics.turn(self.schedule, self._committer.state, self._pulling)
            if self._is_done:
                with contextlib.suppress(AbortedError):
                    self._committer.commit_offset()
        finally:
            for reading in self._readings.values():
                reading.dropped = True
            self._committer.close()
            self._watch.ended()
            self._observer.lane_released(self.number)

    @property
    def _is_done(self) -> bool:
        return self.schedule.is_done and not self._readings and not self._ended

    def _set_trekkpliktige(self, trekkpliktige: list[str]) -> None:
        self.schedule.set_trekkpliktige(trekkpliktige, time.monotonic())
        self._intake.update_list()
        self._pulling.update_list()

    def _commit_signals(self) -> None:
        try:
            self._intake.commit(self._interrupt)
        except AbortedError as error:
            _log.warning("signals are committed later", lane=self.number, reason=str(error))

    def _interrupt(self, trekkpliktig: str) -> None:
        """Abort the reading of one trekkpliktig: its decisions would no longer fit the state."""
        reading = self._readings.pop(trekkpliktig, None)
        ended = [each for each in self._ended if each.trekkpliktig == trekkpliktig]
        if reading is None and not ended:
            return
        if reading is not None:
            reading.dropped = True
            self._pulling.reading_failed(reading)
        for each in ended:
            self._pulling.reading_failed(each)
        self._ended = [each for each in self._ended if each not in ended]
        self.schedule.interrupted(trekkpliktig, time.monotonic())

    # Reading

    def _begin_due(self) -> None:
        allowed = readings_allowed(self._elements_per_page)
        while len(self._readings) < allowed + NOTIFIED_MORE_MAX:
            # Those that were notified do not wait until fewer are being read.
            trekkpliktig = self.schedule.start_next(time.monotonic(), notified_only=len(self._readings) >= allowed)
            if trekkpliktig is None:
                return
            if trekkpliktig in self._readings:  # removed from the list and added again while it was being read
                self.schedule.failed(trekkpliktig, time.monotonic())
                continue
            position = self._committer.state.of(trekkpliktig).position
            signals_begun_at = self._committer.signals.next_offset
            is_notified = self._intake.is_notified(trekkpliktig) or self._pulling.is_notified(trekkpliktig)
            reading = begin_reading(trekkpliktig, position, signals_begun_at, self._options, is_notified=is_notified)
            self._pulling.reading_begins(reading)
            is_waited_for = is_notified or self._committer.signals.is_waiting(trekkpliktig)
            reading.urgent = is_urgent(reading, position, is_waited_for=is_waited_for)
            if reading.urgent:
                self._priority.urgent_began()
            self._readings[trekkpliktig] = reading
            self._request_page(reading)

    def _request_page(self, reading: Reading) -> None:
        cursor = reading.begin_page()
        if cursor is not None:
            self._calls.request_page(reading, cursor, lambda call: self._receive_page(reading, call))

    def _request_version(self, reading: Reading, wanted: tuple[str, int]) -> None:
        self._calls.request_version(reading, wanted, lambda call: self._receive_version(reading, wanted, call))

    def _wait_seconds(self) -> float:
        if any(reading.is_ready for reading in self._readings.values()):
            return 0.0
        if self._ended:
            return ends_wait_seconds(self._ended, others=len(self._readings))
        if len(self._readings) >= READINGS_MIN:
            return _WAIT_SECONDS_MAX
        now = time.monotonic()
        return min(self.schedule.wait_seconds(now), self._pulling.wait_seconds(now), _WAIT_SECONDS_MAX)

    def _receive_page(self, reading: Reading, call: Future[Any]) -> None:
        if reading.dropped:
            return
        error = call.exception()
        if isinstance(error, RetryableError):
            reading.page_failed(error)
            self._advance(reading)
            return
        if error is not None:
            self._fail(reading, error)
            return
        page = call.result()
        reading.add_page(page)
        self._elements_per_page += (len(page.elements) - self._elements_per_page) / _PAGES_AVERAGED
        position = self._committer.state.of(reading.trekkpliktig).position
        if position_has_gone(reading, position):
            _log.warning(
                "the order at the position has vanished: comparing everything", trekkpliktig=reading.trekkpliktig
            )
            reading.read_all(Origin.RECONCILE)
        self._request_page(reading)
        self._advance(reading)

    def _receive_version(self, reading: Reading, wanted: tuple[str, int], call: Future[Any]) -> None:
        if reading.dropped:
            return
        error = call.exception()
        if isinstance(error, RetryableError):
            reading.add_version(wanted, Failed(str(error)))
        elif error is not None:
            self._fail(reading, error)
            return
        else:
            reading.add_version(wanted, call.result())
        self._advance(reading)

    def _advance(self, reading: Reading) -> None:
        """Cut the next chunk if there is none; end the reading if nothing is left of it."""
        if reading.chunk or reading.is_waiting:
            return
        state = self._committer.state.of(reading.trekkpliktig)
        for wanted in reading.cut_chunk(state, self._options.served, self._priority.elements_max):
            self._request_version(reading, wanted)
        self._request_page(reading)
        if not reading.is_done:
            return
        if reading.failure is not None:
            self._fail(reading, reading.failure)
        else:
            self._ended.append(self._readings.pop(reading.trekkpliktig))

    # Publishing

    def _publish(self) -> None:
        """Publish chunks that are ready, and the ends of readings, in one transaction."""
        ready = [reading for reading in self._readings.values() if reading.is_ready]
        with self._priority.chosen(ready, self._missed) as chosen:
            self._missed = missed_after(self._missed, ready, chosen)
            self._commit(chosen)

    def _commit(self, ready: list[Reading]) -> None:
        ended, self._ended = self._ended, []
        try:
            detections = self._committer.commit(ready, ended)
        except AbortedError as error:
            for reading in (*ready, *ended):
                self._fail(reading, error)
            return
        for reading in ended:
            self._succeed(reading)
        for reading, detection in zip(ready, detections, strict=True):
            reading.chunk_done()
            reading.found = reading.found or bool(detection.publications or detection.rejected)
            if detection.stopped is not None:
                self._fail(reading, RetryableError(f"a version could not be fetched: {detection.stopped.reason}"))
            else:
                self._advance(reading)

    def _succeed(self, reading: Reading) -> None:
        vanished = vanished_of(reading, len(self._committer.state.of(reading.trekkpliktig)))
        self.schedule.succeeded(reading.trekkpliktig, time.monotonic(), found=reading.found)
        self._intake.read(reading.trekkpliktig)
        self._observer.reading_ended(self.number, reading.trekkpliktig, None, vanished)

    def _fail(self, reading: Reading, error: BaseException) -> None:
        """End a reading that cannot continue. Others continue, unless the error concerns all of them."""
        if isinstance(error, FatalError):
            raise error
        reading.dropped = True
        self._readings.pop(reading.trekkpliktig, None)
        self._pulling.reading_failed(reading)
        now = time.monotonic()
        if isinstance(error, SuspendedError):
            self.schedule.suspend(reading.trekkpliktig, now)
        elif isinstance(error, RetryableError):
            self.schedule.failed(reading.trekkpliktig, now, error.retry_after_seconds)
        else:
            # Unexpected: a fault of ours, which must not keep the others from being served.
            _log.error("reading crashed", trekkpliktig=reading.trekkpliktig, exc_info=error)
            self.schedule.failed(reading.trekkpliktig, now)
        reason = str(error) or type(error).__name__
        _log.warning("reading failed", trekkpliktig=reading.trekkpliktig, lane=self.number, reason=reason)
        self._intake.reading_failed(reading, reason, for_good=isinstance(error, SuspendedError))
        self._observer.reading_ended(self.number, reading.trekkpliktig, error, 0)
