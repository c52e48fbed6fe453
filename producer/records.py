"""From a decision to the records of one transaction: events, quarantine and state. Pure.

What turns out not to fit the schema or the broker is decided once more, as rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.detect import detect
from producer.domain.detection import rejection_of
from producer.domain.trekkpaalegg import RejectionReason
from producer.encode.event import READ_FOR
from producer.errors import RejectedTrekkpaaleggError
from producer.publish.port import NO_HEADERS, Record
from producer.publish.state_records import answer_record, event_cursor_record, granted_records, state_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.domain.detection import Context, Detection
    from producer.domain.state import EventCursor, TrekkpliktigPosition, TrekkpliktigState
    from producer.domain.trekkpaalegg import Trekkpaalegg
    from producer.domain.wish import Answer
    from producer.encode.event import EventEncoder
    from producer.encode.rejected import RejectedEncoder
    from producer.publish.topics import Topics
    from producer.reading import Reading
    from producer.wishes import Granted


class DoesNotFitError(Exception):
    """A version that schema or broker cannot hold; `why` says what of it."""

    def __init__(self, trekkpaalegg: Trekkpaalegg, why: RejectedTrekkpaaleggError) -> None:
        super().__init__()
        self.trekkpaalegg = trekkpaalegg
        self.why = why


class RecordBuilder:
    """Knows topics and encodings; one for all lanes."""

    def __init__(self, topics: Topics, event: EventEncoder, rejected: RejectedEncoder) -> None:
        self._topics = topics
        self._event = event
        self._rejected = rejected

    def decide(
        self, lane: int, state: TrekkpliktigState, reading: Reading, context: Context
    ) -> tuple[Detection, list[Record]]:
        """Detect what the reading's chunk leads to, and write it down as records."""
        while True:
            detection = detect(state, reading.elements(), reading.versions, context)
            try:
                return detection, self.of_detection(lane, state, detection, context)
            except DoesNotFitError as misfit:
                reason = RejectionReason(misfit.why.reason)
                rejected = rejection_of(misfit.trekkpaalegg, context.trekkpliktig, reason, misfit.why.field_path)
                reading.replace(misfit.trekkpaalegg, rejected)

    def of_detection(self, lane: int, state: TrekkpliktigState, detection: Detection, context: Context) -> list[Record]:
        """Events in their order, then quarantine, then state."""
        records: list[Record] = []
        for publication in detection.publications:
            try:
                event = self._event.encode(publication)
            except RejectedTrekkpaaleggError as error:
                raise DoesNotFitError(publication.trekkpaalegg, error) from error
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
        self, lane: int, trekkpliktig: str, position: TrekkpliktigPosition, answers: Sequence[Answer] = ()
    ) -> list[Record]:
        """The position alone, with the answers given by it."""
        return [answer_record(self._topics.positions, lane, trekkpliktig, position, answers)]

    def of_granted(
        self, lane: int, trekkpliktig: str, granted: Granted, state: TrekkpliktigState | None
    ) -> list[Record]:
        """What makes a wish stand."""
        return list(granted_records(self._topics.positions, lane, trekkpliktig, granted, state))

    def of_event_cursor(self, lane: int, trekkpliktig: str, cursor: EventCursor) -> Record:
        """How far the events about it were dealt with."""
        return event_cursor_record(self._topics.positions, lane, trekkpliktig, cursor)

    def of_signal(self, lane: int, trekkpliktig: str, value: bytes | None) -> Record:
        """A signal, to the lane that it is for."""
        return Record(self._topics.signals, trekkpliktig.encode(), value, NO_HEADERS, lane)
