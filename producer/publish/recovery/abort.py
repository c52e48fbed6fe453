"""A lane's fenced producer in, nothing of the lane that hangs out: what hung is taken away, and is to be found anew.

1. What hangs of the lane's state is made to stand, since some of its events may. 2. Those of its events that hang are
no longer held published: that is committed before 3. they are taken away, by a transaction that is aborted there. So a
crash at any point leaves what the next owner of the lane finds and settles; nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from producer.domain.rollback import is_recorded, without_events
from producer.domain.state import LaneState
from producer.errors import FencedError
from producer.publish.reader import Place
from producer.publish.recovery.hanging import again, event_of, find_hanging, headers_of, written_at
from producer.publish.state import lane_state_of, read_to_end, rollback_records
from producer.publish.transaction import Step, TransactionError, Verdict, judge
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message, Producer

    from producer.observe.port import Observer
    from producer.publish.port import Record
    from producer.publish.recovery.hanging import Found
    from producer.publish.topics import Topics

TRANSACTION_SECONDS_MAX = 20.0
ROUNDS_MAX = 20
"""A round settles what hangs first in each partition; more may hang behind what hangs of other lanes."""

_log = structlog.get_logger(__name__)


def settle(
    producer: Producer, properties: Mapping[str, str], topics: Topics, lane: int, observer: Observer
) -> tuple[Found, int | None]:
    """Leave nothing of the lane that hangs. Call it only after the fence, and before its state is read.

    Returns up to where all is decided then, and when the first of what hung was written, in milliseconds since 1970,
    None where nothing did. Raises `RetryableError` when that cannot be done now, `FencedError` when another instance
    has taken the lane.
    """
    since: int | None = None
    for _ in range(ROUNDS_MAX):
        found = find_hanging(properties, topics, lane)
        if not found.hanging:
            return found, since
        first = min(written_at(each) for messages in found.hanging.values() for each in messages)
        since = first if since is None else min(first, since)
        records = sum(map(len, found.hanging.values()))
        _log.warning(
            "records hang since all copies of their partitions were down: settling them",
            lane=lane,
            records=records,
            partitions=len(found.hanging),
        )
        _Settling(producer, properties, topics, lane).settle(found.hanging)
        observer.records_settled("hanging", records)
    raise RetryableError(f"lane {lane} cannot be taken: records that hang are not settled by what settles them")


class _Settling:
    def __init__(self, producer: Producer, properties: Mapping[str, str], topics: Topics, lane: int) -> None:
        self._producer = producer
        self._properties = properties
        self._topics = topics
        self._lane = lane

    def settle(self, hanging: dict[Place, list[Message]]) -> None:
        """One round."""
        of_state = hanging.pop(Place(self._topics.positions, self._lane), None)
        if of_state is not None:
            self._transact([again(of_state[-1])], commit=True)
        if not hanging:
            return
        state, before = self._states(min(written_at(each) for messages in hanging.values() for each in messages))
        events = [(place, each) for place, messages in hanging.items() for each in messages]
        in_history = {headers_of(each).get("ce_id") for place, each in events if place.topic == self._topics.versjoner}
        lost, lone = [], []
        for place, message in events:
            event = event_of(message, is_rejected=place.topic == self._topics.quarantine)
            if event is None:
                continue
            if place.topic != self._topics.gjeldende:
                lost.append(event)
            elif headers_of(message).get("ce_id") not in in_history and is_recorded(state, event):
                lone.append(message)
        records = list(rollback_records(self._topics.positions, self._lane, state, without_events(state, before, lost)))
        # Of these the event in the history stands: a copy makes its twin stand too.
        records += [again(each) for each in lone]
        if records:
            self._transact(records, commit=True)
        settled = {Place(each.topic() or "", each.partition() or 0) for each in lone}
        taken_away = [again(messages[0]) for place, messages in hanging.items() if place not in settled]
        if taken_away:
            self._transact(taken_away, commit=False)

    def _states(self, instant: int) -> tuple[LaneState, LaneState]:
        """What the lane holds published, and what it held before this instant in milliseconds since 1970."""
        state, before = LaneState(), LaneState()
        for message in read_to_end(self._properties, self._topics.positions, self._lane):
            record = [(message.key() or b"", message.value())]
            lane_state_of(record, state)
            if written_at(message) < instant:
                lane_state_of(record, before)
        return state, before

    def _transact(self, records: Sequence[Record], *, commit: bool) -> None:
        transact(self._producer, self._lane, records, commit=commit)


def transact(producer: Producer, lane: int, records: Sequence[Record], *, commit: bool) -> None:
    """One transaction of these records alone, committed or aborted.

    Raises `RetryableError` when it was not, or may not have been: then the lane must be taken anew. `FencedError` when
    another instance has taken it.
    """
    try:
        producer.begin_transaction()
        for record in records:
            producer.produce(record.topic, record.value, record.key, record.partition, headers=dict(record.headers))
        if commit:
            producer.commit_transaction(TRANSACTION_SECONDS_MAX)
        else:
            # What is not written yet would not be: Kafka ends a transaction only where it has begun.
            producer.flush(TRANSACTION_SECONDS_MAX)
            producer.abort_transaction(TRANSACTION_SECONDS_MAX)
    except KafkaException as error:
        failed = error.args[0]
        found = TransactionError(failed.name(), failed.retriable(), failed.txn_requires_abort(), failed.fatal())
        if judge(Step.BEGIN, found) is Verdict.FENCED:
            raise FencedError(f"lane {lane} was taken by another instance meanwhile") from error
        raise RetryableError(f"what hangs of lane {lane} cannot be settled: {failed.name()}") from error
