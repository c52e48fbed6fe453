"""The transactions of one lane: what its parts have ready goes into one, and the state follows it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from producer.detect.decide import UnencodableError
from producer.domain.state import LaneState
from producer.errors import RejectedTrekkpaaleggError
from producer.lane.signals import SignalOffsets
from producer.publish.port import NO_HEADERS, Record
from producer.publish.state import (
    decision_records,
    event_cursor_record,
    handed_over_record,
    known_records,
    observation_offsets_record,
    order_record,
    position_record,
    request_record,
    results_record,
    schema_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence

    from producer.detect.decide import Decision
    from producer.detect.requests import RequestDecision
    from producer.domain.requests import RequestResult, RequestState
    from producer.domain.state import (
        EventCursor,
        HandedOver,
        ObservationOffsets,
        OrderState,
        TrekkpliktigPosition,
        TrekkpliktigState,
    )
    from producer.domain.trekkpaalegg import Origin
    from producer.encode.event import EventEncoder
    from producer.encode.rejected import RejectedEncoder
    from producer.publish.port import LanePublisher
    from producer.publish.topics import Topics


class RecordBuilder:
    """Builds the records of transactions. It knows topics and encodings, and serves all lanes."""

    def __init__(self, topics: Topics, event: EventEncoder, rejected: RejectedEncoder) -> None:
        self._topics = topics
        self._event = event
        self._rejected = rejected

    def of_decision(
        self, lane: int, key: bytes, before: OrderState, decision: Decision, origin: Origin, now: int
    ) -> list[Record]:
        """What is decided on one order: its events in their order, then the quarantine, then its state.

        Raises `UnencodableError` for a version that the event schema or the topic cannot hold.
        """
        records: list[Record] = []
        for publication in decision.publications:
            try:
                event = self._event.encode(publication)
            except RejectedTrekkpaaleggError as error:
                raise UnencodableError(publication.trekkpaalegg, error) from error
            records.append(Record(self._topics.versjoner, event.key, event.value, event.headers, lane))
            if publication.current:
                records.append(Record(self._topics.gjeldende, event.key, event.value, event.headers, lane))
        for rejected in decision.rejected:
            event = self._rejected.encode(rejected, origin, now)
            records.append(Record(self._topics.quarantine, event.key, event.value, event.headers, lane))
        if decision.order != before:
            records.append(order_record(self._topics.positions, lane, key, decision.order))
        return records

    def of_schemas(self, lane: int, recorded: Container[bytes]) -> list[Record]:
        """The schemas of the lane's state, but for those whose fingerprints are recorded beside it."""
        return schema_records(self._topics.positions, lane, recorded)

    def of_home(
        self,
        lane: int,
        observations: ObservationOffsets,
        show_since: int | None,
        requests: Mapping[str, RequestState | None],
    ) -> list[Record]:
        """How far a home has come, and its figures of operator requests, None for one that is answered."""
        records = [observation_offsets_record(self._topics.positions, lane, observations, show_since)]
        records += [request_record(self._topics.positions, lane, name, each) for name, each in requests.items()]
        return records

    def of_handed_over(self, lane: int, trekkpliktig: str, orders: Mapping[bytes, HandedOver]) -> Iterator[Record]:
        """What was handed over of these orders."""
        for key, handed_over in orders.items():
            yield handed_over_record(self._topics.positions, lane, trekkpliktig, key, handed_over)

    def of_known(self, lane: int, trekkpliktig: str, keys: Collection[bytes]) -> list[Record]:
        """That the list has shown these orders."""
        return known_records(self._topics.positions, lane, trekkpliktig, keys)

    def of_position(
        self, lane: int, trekkpliktig: str, position: TrekkpliktigPosition, results: Sequence[RequestResult] = ()
    ) -> list[Record]:
        """The position alone, with the results of requests that end with it."""
        return [position_record(self._topics.positions, lane, trekkpliktig, position, results)]

    def of_results(self, lane: int, trekkpliktig: str, results: Sequence[RequestResult]) -> Record:
        """Results of requests about an order that is at home in this lane."""
        return results_record(self._topics.positions, lane, trekkpliktig, results)

    def of_request(
        self, lane: int, trekkpliktig: str, decision: RequestDecision, state: TrekkpliktigState | None
    ) -> list[Record]:
        """The records of a decision on an operator request."""
        return list(decision_records(self._topics.positions, lane, trekkpliktig, decision, state))

    def of_event_cursor(self, lane: int, trekkpliktig: str, cursor: EventCursor) -> Record:
        """The cursor of the events about it that have been processed."""
        return event_cursor_record(self._topics.positions, lane, trekkpliktig, cursor)

    def of_signal(self, lane: int, key: str, value: bytes | None) -> Record:
        """A signal, forwarded to the lane that it is for."""
        return Record(self._topics.signals, key.encode(), value, NO_HEADERS, lane)


def _nothing() -> None:
    pass


class Part(NamedTuple):
    """What one part of a lane has ready for a transaction.

    `begun` is called just before it is written, then `committed`, or `aborted` if nothing of it was written.
    """

    records: Sequence[Record]
    committed: Callable[[], None]
    begun: Callable[[], None] = _nothing
    aborted: Callable[[], None] = _nothing


OFFSET_WAIT_SECONDS = 0.5
"""How long after a transaction one may hold only a signal offset: notified changes would wait behind it."""

BEAT_SECONDS = 6 * 3600.0
"""A lane that has nothing to write commits so often all the same. Otherwise one that was fenced by a former owner that
had been frozen, and has nothing to write, would never learn that its state is out of date."""

_LONG_AGO = float("-inf")


class Committer:
    """The transactions of one lane, and its state. Only the lane's thread may use it."""

    def __init__(self, publisher: LanePublisher, clock: Callable[[], float] = time.monotonic) -> None:
        self._publisher = publisher
        self._clock = clock
        self._published_at = _LONG_AGO
        self._signals_committed = 0
        self._leading: list[Record] = []
        self.state = LaneState()
        self.signals = SignalOffsets(0)

    def acquire(self, first_signal_offset: int, is_stopping: Callable[[], bool]) -> None:
        """Acquire the lane and read back its state. Raises as `LanePublisher.acquire`."""
        self.state = self._publisher.acquire(is_stopping)
        self.signals = SignalOffsets(first_signal_offset)
        self._signals_committed, self._published_at = first_signal_offset, self._clock()
        self._leading = []

    def lead(self, records: list[Record]) -> None:
        """Write these before all else in the next transaction."""
        self._leading = records

    def check(self) -> None:
        """Check that the last transaction is committed. Raises as `LanePublisher.check`."""
        self._publisher.check()

    def close(self) -> None:
        """Release the lane."""
        self._publisher.close()

    def commit(self, parts: Sequence[Part]) -> None:
        """Write these parts in one transaction.

        Where they have no records, there is none, unless the signal offset has changed some time ago or nothing was
        written for `BEAT_SECONDS`. Raises as `LanePublisher.publish`; if the transaction was aborted, the parts are
        told so first.
        """
        for part in parts:
            part.begun()
        records = [record for part in parts for record in part.records]
        if records or self._is_offset_due() or self._clock() - self._published_at >= BEAT_SECONDS:
            first_open = self.signals.first_open
            try:
                self._publisher.publish([*self._leading, *records], first_open)
            except BaseException:
                for part in parts:
                    part.aborted()
                raise
            self._signals_committed, self._published_at = first_open, self._clock()
            self._leading = []
        for part in parts:
            part.committed()

    def commit_offset(self) -> None:
        """Commit the signal offset now, if it has changed. Raises as `commit`."""
        if self.signals.first_open > self._signals_committed:
            self._published_at = _LONG_AGO
            self.commit([])

    def _is_offset_due(self) -> bool:
        is_behind = self.signals.first_open > self._signals_committed
        return is_behind and self._clock() - self._published_at >= OFFSET_WAIT_SECONDS
