"""What a lane has decided, as the records of one transaction; and the lane's state, which follows the transaction."""

from __future__ import annotations

import time
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import structlog

from producer.detect.detect import Context, Detection, UnencodableError, detect_encodable
from producer.detect.requests import with_progress, without
from producer.domain.state import LaneState, TrekkpliktigPosition
from producer.domain.trekkpaalegg import Origin
from producer.encode.event import READ_FOR
from producer.errors import RejectedTrekkpaaleggError
from producer.lane.intake import SignalOffsets
from producer.lane.reading import position_after, results_of, vanished_of
from producer.publish.port import NO_HEADERS, Record
from producer.publish.state import decision_records, event_cursor_record, position_record, state_records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from producer.detect.requests import RequestDecision
    from producer.domain.requests import OperatorRequest, RequestResult
    from producer.domain.state import EventCursor, TrekkpliktigState
    from producer.encode.event import EventEncoder
    from producer.encode.rejected import RejectedEncoder
    from producer.lane.reading import LaneOptions, Reading
    from producer.observe.port import Observer
    from producer.publish.port import LanePublisher
    from producer.publish.topics import Topics


class RecordBuilder:
    """Builds the records of transactions. It knows topics and encodings, and serves all lanes."""

    def __init__(self, topics: Topics, event: EventEncoder, rejected: RejectedEncoder) -> None:
        self._topics = topics
        self._event = event
        self._rejected = rejected

    def of_detection(self, lane: int, state: TrekkpliktigState, context: Context, detection: Detection) -> list[Record]:
        """The events in their order, then the quarantine, then the state.

        Raises `UnencodableError` for a version that the event schema or the topic cannot hold.
        """
        records: list[Record] = []
        for publication in detection.publications:
            try:
                event = self._event.encode(publication)
            except RejectedTrekkpaaleggError as error:
                raise UnencodableError(publication.trekkpaalegg, error) from error
            if publication.trekkpaalegg.trekkpliktig != context.trekkpliktig:
                event.headers[READ_FOR] = context.trekkpliktig.encode()
            records.append(Record(self._topics.versjoner, event.key, event.value, event.headers))
            if publication.current:
                records.append(Record(self._topics.gjeldende, event.key, event.value, event.headers))
        for rejected in detection.rejected:
            event = self._rejected.encode(rejected, context.origin, context.now)
            records.append(Record(self._topics.quarantine, event.key, event.value, event.headers))
        position = None
        if detection.position > state.position.position:
            position = msgspec.structs.replace(state.position, position=detection.position)
        records += state_records(self._topics.positions, lane, context.trekkpliktig, position, detection.orders)
        return records

    def of_position(
        self, lane: int, trekkpliktig: str, position: TrekkpliktigPosition, results: Sequence[RequestResult] = ()
    ) -> list[Record]:
        """The position alone, with the results of requests that end with it."""
        return [position_record(self._topics.positions, lane, trekkpliktig, position, results)]

    def of_decision(
        self, lane: int, trekkpliktig: str, decision: RequestDecision, state: TrekkpliktigState | None
    ) -> list[Record]:
        """The records of a decision on an operator request."""
        return list(decision_records(self._topics.positions, lane, trekkpliktig, decision, state))

    def of_event_cursor(self, lane: int, trekkpliktig: str, cursor: EventCursor) -> Record:
        """The cursor of the events about it that have been processed."""
        return event_cursor_record(self._topics.positions, lane, trekkpliktig, cursor)

    def of_signal(self, lane: int, trekkpliktig: str, value: bytes | None) -> Record:
        """A signal, forwarded to the lane that it is for."""
        return Record(self._topics.signals, trekkpliktig.encode(), value, NO_HEADERS, lane)


OFFSET_WAIT_SECONDS = 0.5
"""How long after a transaction one may hold only a signal offset: notified changes would wait behind it."""

_LONG_AGO = float("-inf")
_OWN_INITIATIVE = frozenset({Origin.POLL, Origin.RECONCILE})

_log = structlog.get_logger(__name__)


class Committer:
    """The state of one lane, which changes only when a transaction is committed. Only the lane's thread may use it."""

    def __init__(
        self,
        lane: int,
        publisher: LanePublisher,
        records: RecordBuilder,
        options: LaneOptions,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lane = lane
        self._publisher = publisher
        self._records = records
        self._options = options
        self._observer = observer
        self._clock = clock
        self._published_at = _LONG_AGO
        self._signals_committed = 0
        self.state = LaneState()
        self.signals = SignalOffsets(0)

    def acquire(self, first_signal_offset: int, is_stopping: Callable[[], bool]) -> None:
        """Acquire the lane and read back its state. Raises as `LanePublisher.acquire`."""
        self.state = self._publisher.acquire(is_stopping)
        self.signals = SignalOffsets(first_signal_offset)
        self._signals_committed = first_signal_offset

    def check(self) -> None:
        """Check that the last transaction is committed. Raises as `LanePublisher.check`."""
        self._publisher.check()

    def close(self) -> None:
        """Release the lane."""
        self._publisher.close()

    def commit(self, ready: Sequence[Reading], ended: Sequence[Reading]) -> list[Detection]:
        """Publish what the ready chunks and the ends of readings lead to in one transaction, then update the state.

        If only the signal offset has changed, it waits for a while (`OFFSET_WAIT_SECONDS`). Returns the detection of
        each ready reading. Raises `AbortedError` if the transaction was rolled back, and then the state is unchanged;
        otherwise as `LanePublisher.publish`.
        """
        records: list[Record] = []
        detections: list[Detection] = []
        for reading in ready:
            state, context = self.state.of(reading.trekkpliktig), self._context(reading)
            encode = partial(self._records.of_detection, self._lane, state, context)
            detection, encoded = detect_encodable(state, reading.elements(), reading.versions, context, encode)
            detections.append(detection)
            records += encoded
        positions: dict[str, TrekkpliktigPosition] = {}
        for reading, detection in zip(ready, detections, strict=True):
            if reading.requests:
                positions[reading.trekkpliktig] = self._progressed(reading, detection)
                records += self._records.of_position(self._lane, reading.trekkpliktig, positions[reading.trekkpliktig])
        for reading in ended:
            records += self._end(reading, positions)
        cursors = self._moved_cursors(ended)
        records += [self._records.of_event_cursor(self._lane, each, cursor) for each, cursor in cursors.items()]
        done_with = [
            (each.trekkpliktig, self.signals.ended(each.trekkpliktig, each.signals_begun_at)) for each in ended
        ]
        try:
            self._publish(records)
        except BaseException:
            for trekkpliktig, offsets in done_with:
                self.signals.reopen(trekkpliktig, offsets)
            raise
        for trekkpliktig, cursor in cursors.items():
            self.state.ensure(trekkpliktig).event_cursor = cursor
        for reading in ended:
            requests = self.state.of(reading.trekkpliktig).position.requests
            self.mark_completed([(reading.trekkpliktig, each) for each in requests if each.id in reading.requests])
        self._remember(positions, zip(ready, detections, strict=True))
        return detections

    def write(
        self,
        records: Sequence[Record],
        positions: Mapping[str, TrekkpliktigPosition],
        forgotten: Collection[str],
        signals_done: Collection[int],
        detections: Mapping[str, Detection] = MappingProxyType({}),
    ) -> None:
        """Publish these records, then update the state: positions, and all orders of `forgotten` dropped.

        `detections` are what the records publish, by trekkpliktig. `signals_done` are the offsets of the signals that
        are processed by this. Raises as `commit`, and then nothing has changed.
        """
        self.signals.release(signals_done)
        try:
            self._publish(records)
        except BaseException:
            for offset in signals_done:
                self.signals.hold(offset)
            raise
        for trekkpliktig in forgotten:
            self.state.ensure(trekkpliktig).drop_all()
        for trekkpliktig, position in positions.items():
            if position != TrekkpliktigPosition() or self.state.get(trekkpliktig) is not None:
                self.state.ensure(trekkpliktig).position = position
        for trekkpliktig, detection in detections.items():
            self.state.ensure(trekkpliktig).remember_all(detection.orders)
            self._observer.published(self._lane, trekkpliktig, detection)

    def is_completed(self, trekkpliktig: str, request: OperatorRequest) -> bool:
        """Whether this request was completed before: then its signal has arrived twice."""
        return self.state.completed.has(trekkpliktig, request)

    def mark_completed(self, completed: Iterable[tuple[str, OperatorRequest]]) -> None:
        """Remember that these requests have been completed."""
        for trekkpliktig, request in completed:
            self.state.completed.add(trekkpliktig, request)

    def position_of(self, trekkpliktig: str) -> TrekkpliktigPosition:
        """Its position, 0 if nothing is known of it."""
        return self.state.of(trekkpliktig).position

    def commit_offset(self) -> None:
        """Commit the signal offset now, if it has changed. Raises as `commit`."""
        self._published_at = _LONG_AGO
        self._publish(())

    def _publish(self, records: Sequence[Record]) -> None:
        first_open = self.signals.first_open
        if records or self._is_offset_due(first_open):
            self._publisher.publish(records, first_open)
            self._signals_committed, self._published_at = first_open, self._clock()

    def _is_offset_due(self, first_open: int) -> bool:
        return first_open > self._signals_committed and self._clock() - self._published_at >= OFFSET_WAIT_SECONDS

    def _progressed(self, reading: Reading, detection: Detection) -> TrekkpliktigPosition:
        position = self.state.of(reading.trekkpliktig).position
        if detection.position > position.position:
            position = msgspec.structs.replace(position, position=detection.position)
        published, quarantined = len(detection.publications), len(detection.rejected)
        return with_progress(position, reading.requests, reading.orders_seen, published, quarantined)

    def _moved_cursors(self, ended: Sequence[Reading]) -> dict[str, EventCursor]:
        """The event cursors that these ended readings allow to be committed."""
        return {
            reading.trekkpliktig: reading.event_cursor
            for reading in ended
            if reading.event_cursor is not None
            and reading.event_cursor != self.state.of(reading.trekkpliktig).event_cursor
        }

    def _context(self, reading: Reading) -> Context:
        options = self._options
        now = options.now()
        return Context(reading.trekkpliktig, options.served, reading.origin, now, reading.moves_position, reading.moved)

    def _end(self, reading: Reading, positions: dict[str, TrekkpliktigPosition]) -> list[Record]:
        """What changes with the end of a reading: adds the position to `positions` and returns its records."""
        trekkpliktig = reading.trekkpliktig
        state = self.state.of(trekkpliktig)
        before = positions.get(trekkpliktig, state.position)
        after = position_after(reading, before, self._options.now())
        is_lowered = after.position < before.position
        if is_lowered:
            self._observer.position_ahead(trekkpliktig, before.position, after.position)
            _log.error(
                "the position was ahead of the source: lowered",
                trekkpliktig=trekkpliktig,
                position=before.position,
                source_max=after.position,
            )
        results: list[RequestResult] = []
        if reading.requests:
            after, gone = without(after, reading.requests)
            results = results_of(reading, gone, vanished_of(reading, len(state)), position_lowered=is_lowered)
        if after == before and not results:
            return []
        positions[trekkpliktig] = after
        return self._records.of_position(self._lane, trekkpliktig, after, results)

    def _remember(self, positions: dict[str, TrekkpliktigPosition], decided: zip[tuple[Reading, Detection]]) -> None:
        for trekkpliktig, position in positions.items():
            self.state.ensure(trekkpliktig).position = position
        for reading, detection in decided:
            state = self.state.ensure(reading.trekkpliktig)
            state.remember_all(detection.orders)
            if detection.position > state.position.position:
                state.position = msgspec.structs.replace(state.position, position=detection.position)
            self._observer.published(self._lane, reading.trekkpliktig, detection)
            if detection.publications and self._was_unannounced(reading, first=state.position.reconciled_at is None):
                self._observer.unannounced(len(detection.publications))

    def _was_unannounced(self, reading: Reading, *, first: bool) -> bool:
        """Whether no signal announced what this reading found. The first reading of all does not count."""
        is_own_initiative = reading.origin in _OWN_INITIATIVE and not (reading.requests or reading.is_notified)
        return is_own_initiative and not first and not self.signals.is_waiting(reading.trekkpliktig)
