"""What a lane knows and writes: decided chunks and ended readings in, one transaction and the state after it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from producer.domain.detection import Context
from producer.domain.state import LaneState
from producer.plan import position_after
from producer.signals import SignalOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.domain.detection import Detection
    from producer.domain.state import TrekkpliktigPosition
    from producer.observe.port import Observer
    from producer.plan import LaneOptions
    from producer.publish.port import LanePublisher, Record
    from producer.reading import Reading
    from producer.records import RecordBuilder

_log = structlog.get_logger(__name__)


class Committer:
    """The state of one lane, which changes only when a transaction stands. Used by the lane's thread only."""

    def __init__(
        self, lane: int, publisher: LanePublisher, records: RecordBuilder, options: LaneOptions, observer: Observer
    ) -> None:
        self._lane = lane
        self._publisher = publisher
        self._records = records
        self._options = options
        self._observer = observer
        self._signals_committed = 0
        self.state = LaneState()
        self.signals = SignalOffsets(0)

    def take(self, first_signal_offset: int, is_stopping: Callable[[], bool]) -> None:
        """Take the lane, and read back what is known. Raises as `LanePublisher.take`."""
        self.state = self._publisher.take(is_stopping)
        self.signals = SignalOffsets(first_signal_offset)
        self._signals_committed = first_signal_offset

    def close(self) -> None:
        """Let go of the lane."""
        self._publisher.close()

    def commit(self, ready: Sequence[Reading], ended: Sequence[Reading]) -> list[Detection]:
        """Put what the ready chunks lead to, and the ends of readings, into one transaction; then remember it.

        Returns what was decided for each ready reading. Raises `AbortedError` when nothing of it stands, and then
        nothing is remembered; else as `LanePublisher.publish`.
        """
        records: list[Record] = []
        detections: list[Detection] = []
        for reading in ready:
            detection, made = self._records.decide(
                self._lane, self.state.of(reading.trekkpliktig), reading, self._context(reading)
            )
            detections.append(detection)
            records += made
        positions = self._positions_of(ended)
        for trekkpliktig, position in positions.items():
            records += self._records.of_position(self._lane, trekkpliktig, position)
        for reading in ended:
            self.signals.ended(reading.trekkpliktig, reading.signals_begun_at)
        if records or self.signals.first_open > self._signals_committed:
            self._publisher.publish(records, self.signals.first_open)
            self._signals_committed = self.signals.first_open
        self._remember(positions, zip(ready, detections, strict=True))
        return detections

    def _context(self, reading: Reading) -> Context:
        options = self._options
        now = options.now()
        return Context(reading.trekkpliktig, options.own, reading.origin, now, reading.moves_position, reading.moved)

    def _positions_of(self, ended: Sequence[Reading]) -> dict[str, TrekkpliktigPosition]:
        """Those that change with the end of a reading."""
        positions: dict[str, TrekkpliktigPosition] = {}
        for reading in ended:
            before = self.state.of(reading.trekkpliktig).position
            after = position_after(reading, before, self._options.now())
            if after.position < before.position:
                self._observer.position_ahead(reading.trekkpliktig, before.position, after.position)
                _log.error(
                    "the position was ahead of the source: lowered",
                    trekkpliktig=reading.trekkpliktig,
                    position=before.position,
                    source_max=after.position,
                )
            if after != before:
                positions[reading.trekkpliktig] = after
        return positions

    def _remember(self, positions: dict[str, TrekkpliktigPosition], decided: zip[tuple[Reading, Detection]]) -> None:
        for trekkpliktig, position in positions.items():
            self.state.of(trekkpliktig).position = position
        for reading, detection in decided:
            state = self.state.of(reading.trekkpliktig)
            state.remember_all(detection.orders)
            if detection.position > state.position.position:
                state.position = msgspec.structs.replace(state.position, position=detection.position)
            self._observer.published(self._lane, reading.trekkpliktig, detection)
