"""Aborts a lane's hanging transactions, so that their events are found again by reading the source.

1. A hanging state record is committed, as some of its events may be committed already. 2. The state is rolled back by
the hanging events, and that is committed before 3. the events are removed by a transaction that is aborted in their
partitions. After a crash at any point the next owner finds what is left and continues: nothing is lost or doubled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from producer.domain.state import LaneState
from producer.errors import LaneFencedError
from producer.publish.recovery.hanging import find_hanging
from producer.publish.recovery.records import copy_of, event_of, headers_of, rollback_records, written_at
from producer.publish.recovery.rollback import is_recorded, without_events
from producer.publish.state import lane_state_of, read_partition
from producer.publish.transaction import Step, TransactionError, Verdict, judge
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.incoming import Partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message, Producer

    from producer.observe.port import Observer
    from producer.publish.port import Record
    from producer.publish.recovery.hanging import Found
    from producer.publish.topics import Topics

TRANSACTION_SECONDS_MAX = 20.0
ROUNDS_MAX = 20
"""A round ends the first hanging transaction in each partition; more may be found behind those of other lanes."""

_log = structlog.get_logger(__name__)


def abort_hanging(
    producer: Producer, properties: Mapping[str, str], topics: Topics, lane: int, observer: Observer
) -> tuple[Found, int | None]:
    """End all hanging transactions of the lane. Call it after the fence, and before the state is read.

    Returns the last stable offsets reached, and when the first hanging record was written, in milliseconds since 1970,
    None if there was none. Raises `RetryableError` if that cannot be done now, `LaneFencedError` if another
    instance has acquired the lane.
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
            "hanging transactions: all replicas of partitions were down; aborting them",
            lane=lane,
            records=records,
            partitions=len(found.hanging),
        )
        _Round(producer, properties, topics, lane).abort(found.hanging)
        observer.records_recovered("hanging", records)
    raise RetryableError(f"lane {lane} cannot be acquired: its hanging transactions do not end with the next ones")


class _Round:
    def __init__(self, producer: Producer, properties: Mapping[str, str], topics: Topics, lane: int) -> None:
        self._producer = producer
        self._properties = properties
        self._topics = topics
        self._lane = lane

    def abort(self, hanging: dict[Partition, list[Message]]) -> None:
        """Abort these records; see the module."""
        of_state = hanging.pop(Partition(self._topics.positions, self._lane), None)
        if of_state is not None:
            self._transact([copy_of(of_state[-1])], commit=True)
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
        rollbacks = without_events(state, before, lost)
        records = list(rollback_records(self._topics.positions, self._lane, state, rollbacks))
        # Their twins in the history are committed, so a copy commits them too.
        records += [copy_of(each) for each in lone]
        if records:
            self._transact(records, commit=True)
        committed = {Partition(each.topic() or "", each.partition() or 0) for each in lone}
        aborted = [copy_of(messages[0]) for place, messages in hanging.items() if place not in committed]
        if aborted:
            self._transact(aborted, commit=False)

    def _states(self, instant: int) -> tuple[LaneState, LaneState]:
        """The lane's state, and its state before this instant in milliseconds since 1970."""
        state, before = LaneState(), LaneState()
        for message in read_partition(self._properties, self._topics.positions, self._lane):
            record = [(message.key() or b"", message.value())]
            lane_state_of(record, state)
            if written_at(message) < instant:
                lane_state_of(record, before)
        return state, before

    def _transact(self, records: Sequence[Record], *, commit: bool) -> None:
        transact(self._producer, self._lane, records, commit=commit)


def transact(producer: Producer, lane: int, records: Sequence[Record], *, commit: bool) -> None:
    """Write these records in a transaction of their own, and commit or abort it.

    Raises `RetryableError` if it did not end so, or may not have: acquire the lane again. `LaneFencedError` if another
    instance has acquired it.
    """
    try:
        producer.begin_transaction()
        for record in records:
            producer.produce(record.topic, record.value, record.key, record.partition, headers=dict(record.headers))
        if commit:
            producer.commit_transaction(TRANSACTION_SECONDS_MAX)
        else:
            # Kafka ends a transaction only in the partitions where records of it were written.
            producer.flush(TRANSACTION_SECONDS_MAX)
            producer.abort_transaction(TRANSACTION_SECONDS_MAX)
    except KafkaException as error:
        failed = error.args[0]
        found = TransactionError(failed.name(), failed.retriable(), failed.txn_requires_abort(), failed.fatal())
        if judge(Step.BEGIN, found) is Verdict.FENCED:
            raise LaneFencedError(f"lane {lane} was acquired by another instance meanwhile") from error
        raise RetryableError(f"hanging transactions of lane {lane} cannot be ended: {failed.name()}") from error
