"""One lane: who is due → read → detect → publish → remember.

Runs in a thread of its own, which alone touches the lane's state. Calls to the source run in a pool shared by all
lanes; their answers come back through a queue.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import structlog

from producer.calls import Calls
from producer.domain.detection import Context
from producer.domain.state import LaneState
from producer.domain.trekkpaalegg import Failed, Origin
from producer.errors import AbortedError, RetryableError, SuspendedError
from producer.figures import figures_of
from producer.plan import begin_reading, has_lost_its_place, position_after
from producer.signals import SignalOffsets

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from producer.domain.detection import Detection
    from producer.domain.state import TrekkpliktigPosition
    from producer.observe.port import Observer
    from producer.plan import LaneOptions
    from producer.publish.port import LanePublisher, Record
    from producer.reading import Reading
    from producer.records import RecordBuilder
    from producer.schedule import Schedule
    from producer.source.port import TrekkpaaleggSource

FIGURES_INTERVAL_SECONDS = 5.0
_WAIT_SECONDS_MAX = 0.5

_log = structlog.get_logger(__name__)


class LaneParts(NamedTuple):
    """What a lane works with. `publisher` and `schedule` are its own, the rest is shared by all lanes."""

    source: TrekkpaaleggSource
    pool: ThreadPoolExecutor
    publisher: LanePublisher
    records: RecordBuilder
    schedule: Schedule
    observer: Observer


class LaneWatch(Protocol):
    """Told at every turn of the loop, and when it has ended."""

    def beat(self) -> None:
        """The loop has turned."""

    def ended(self) -> None:
        """The loop has ended."""


class Lane:
    """See the module."""

    def __init__(self, number: int, parts: LaneParts, options: LaneOptions, watch: LaneWatch) -> None:
        self.number = number
        self.schedule = parts.schedule
        self._calls = Calls(parts.source, parts.pool)
        self._publisher = parts.publisher
        self._records = parts.records
        self._observer = parts.observer
        self._options = options
        self._watch = watch
        self._state = LaneState()
        self._signals = SignalOffsets(0)
        self._readings: dict[str, Reading] = {}
        self._stopping = threading.Event()
        self._figures_at = 0.0

    def stop(self) -> None:
        """Ask the loop to end after the transaction under way. Any thread may call it."""
        self._stopping.set()
        self._calls.put(lambda: None)

    def signal(self, trekkpliktig: str, offset: int) -> None:
        """A signal came for this lane. Any thread may call it."""
        self._calls.put(lambda: self._take_signal(trekkpliktig, offset))

    def set_trekkpliktige(self, trekkpliktige: list[str]) -> None:
        """The list of those that the lane serves has changed. Any thread may call it."""
        self._calls.put(lambda: self.schedule.set_trekkpliktige(trekkpliktige, time.monotonic()))

    @property
    def first_open_signal(self) -> int:
        """Offset of the first signal that is not done with."""
        return self._signals.first_open

    def run(self, first_signal_offset: int) -> None:
        """Take the lane and turn until stopped. Raises what the publisher raises; an order to end is no error."""
        try:
            self._state = self._publisher.take()
            self._signals = SignalOffsets(first_signal_offset)
            orders = sum(len(state) for _, state in self._state)
            _log.info("lane taken", lane=self.number, trekkpliktige=len(self.schedule), orders=orders)
            self._observer.lane_taken(self.number, len(self.schedule), orders)
            while not self._stopping.is_set() and not (self.schedule.is_done and not self._readings):
                self._watch.beat()
                self._begin_due()
                self._calls.take_answers(self._wait_seconds())
                self._publish_ready()
                self._tell_figures()
        finally:
            for reading in self._readings.values():
                reading.dropped = True
            self._publisher.close()
            self._watch.ended()
            self._observer.lane_left(self.number)

    def _take_signal(self, trekkpliktig: str, offset: int) -> None:
        self._signals.seen(trekkpliktig, offset, ours=self.schedule.notify(trekkpliktig))

    # Reading

    def _begin_due(self) -> None:
        while len(self._readings) < self._options.readings_max:
            trekkpliktig = self.schedule.take(time.monotonic())
            if trekkpliktig is None:
                return
            position = self._state.of(trekkpliktig).position
            reading = begin_reading(trekkpliktig, position, self._signals.next_offset, self._options)
            self._readings[trekkpliktig] = reading
            self._ask_page(reading)

    def _ask_page(self, reading: Reading) -> None:
        cursor = reading.next_cursor()
        if cursor is not None:
            self._calls.ask_page(reading, cursor, lambda call: self._take_page(reading, call))

    def _ask_version(self, reading: Reading, wanted: tuple[str, int]) -> None:
        self._calls.ask_version(reading, wanted, lambda call: self._take_version(reading, wanted, call))

    def _wait_seconds(self) -> float:
        if any(reading.is_ready for reading in self._readings.values()):
            return 0.0
        if len(self._readings) >= self._options.readings_max:
            return _WAIT_SECONDS_MAX
        return min(self.schedule.wait_seconds(time.monotonic()), _WAIT_SECONDS_MAX)

    def _take_page(self, reading: Reading, call: Future[Any]) -> None:
        if reading.dropped:
            return
        error = call.exception()
        if error is not None:
            self._end(reading, error)
            return
        reading.take_page(call.result())
        position = self._state.of(reading.trekkpliktig).position
        if has_lost_its_place(reading, position):
            _log.warning("the order at the position has gone: comparing everything", trekkpliktig=reading.trekkpliktig)
            reading.read_all(Origin.RECONCILE)
        self._ask_page(reading)
        self._advance(reading)

    def _take_version(self, reading: Reading, wanted: tuple[str, int], call: Future[Any]) -> None:
        if reading.dropped:
            return
        error = call.exception()
        if isinstance(error, RetryableError):
            reading.take_version(wanted, Failed(str(error)))
        elif error is not None:
            self._end(reading, error)
            return
        else:
            reading.take_version(wanted, call.result())
        self._advance(reading)

    def _advance(self, reading: Reading) -> None:
        """Cut the next chunk when there is none; end the reading when nothing is left of it."""
        if reading.chunk or reading.is_waiting:
            return
        for wanted in reading.cut_chunk(self._state.of(reading.trekkpliktig)):
            self._ask_version(reading, wanted)
        self._ask_page(reading)
        if reading.is_done:
            self._end(reading, None)

    def _end(self, reading: Reading, error: BaseException | None) -> None:
        """The reading has come to its end, or cannot go on."""
        reading.dropped = True
        del self._readings[reading.trekkpliktig]
        now = time.monotonic()
        if error is None:
            try:
                self._remember_end(reading)
            except AbortedError as aborted:
                error = aborted
        if error is None:
            self.schedule.succeeded(reading.trekkpliktig, now)
        elif isinstance(error, SuspendedError):
            self.schedule.suspend(reading.trekkpliktig, now)
        elif isinstance(error, RetryableError):
            self.schedule.failed(reading.trekkpliktig, now, error.retry_after_seconds)
        else:
            raise error
        if error is not None:
            _log.warning("reading failed", trekkpliktig=reading.trekkpliktig, lane=self.number, reason=str(error))
        vanished = max(len(self._state.of(reading.trekkpliktig)) - reading.orders_seen, 0) if reading.full else 0
        self._observer.reading_ended(self.number, reading.trekkpliktig, error, vanished)

    def _remember_end(self, reading: Reading) -> None:
        """Make the position stand; let go of the signals that asked for this reading."""
        state = self._state.of(reading.trekkpliktig)
        position = position_after(reading, state.position, self._options.now())
        if position.position < state.position.position:
            self._tell_position_lowered(reading, state.position)
        signals_before = self._signals.first_open
        self._signals.ended(reading.trekkpliktig, reading.signals_begun_at)
        if position != state.position or self._signals.first_open != signals_before:
            records = self._records.of_position(self.number, reading.trekkpliktig, position)
            self._publisher.publish(records, self._signals.first_open)
            state.position = position

    def _tell_position_lowered(self, reading: Reading, position: TrekkpliktigPosition) -> None:
        self._observer.position_ahead(reading.trekkpliktig, position.position, reading.sekvensnummer_max)
        _log.error(
            "the position was ahead of the source: lowered",
            trekkpliktig=reading.trekkpliktig,
            position=position.position,
            source_max=reading.sekvensnummer_max,
        )

    # Publishing

    def _publish_ready(self) -> None:
        """Put what all ready chunks lead to into one transaction; remember it only when that is committed."""
        ready = [reading for reading in self._readings.values() if reading.is_ready]
        detections: list[Detection] = []
        records: list[Record] = []
        for reading in ready:
            context = Context(
                reading.trekkpliktig, self._options.own, reading.origin, self._options.now(), reading.moves_position
            )
            detection, made = self._records.decide(self.number, self._state.of(reading.trekkpliktig), reading, context)
            detections.append(detection)
            records += made
        if records:
            try:
                self._publisher.publish(records, self._signals.first_open)
            except AbortedError as error:
                for reading in ready:
                    self._end(reading, error)
                return
        for reading, detection in zip(ready, detections, strict=True):
            self._remember(reading, detection)

    def _remember(self, reading: Reading, detection: Detection) -> None:
        state = self._state.of(reading.trekkpliktig)
        state.remember_all(detection.orders)
        if detection.position > state.position.position:
            state.position = msgspec.structs.replace(state.position, position=detection.position)
        self._observer.published(self.number, reading.trekkpliktig, detection)
        reading.chunk_done()
        if detection.stopped is not None:
            self._end(reading, RetryableError(f"a version could not be fetched: {detection.stopped.reason}"))
        else:
            self._advance(reading)

    def _tell_figures(self) -> None:
        now = time.monotonic()
        if now - self._figures_at < FIGURES_INTERVAL_SECONDS:
            return
        self._figures_at = now
        self._observer.figures(self.number, figures_of(self.schedule, self._state, now))
