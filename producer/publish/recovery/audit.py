"""Audits a lane's last transaction: whether the history agrees with the state, and what to write if it does not.

The next transaction may already have been open when the last one was hanging, and its abort has then removed the
records of the last one in some partitions. So when a lane is acquired, the events that its last state records announce
are searched for in the history. Everything before the last transaction is complete, as the lane's producer checked
before it continued.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import Message

from producer.domain.state import NO_ORDER, LaneState
from producer.publish.port import Record
from producer.publish.recovery.events import (
    event_of,
    events_between,
    headers_of,
    identity_of,
    with_event,
    without_events,
    written_at,
)
from producer.publish.state import (
    key_values,
    lane_state_of,
    observation_offsets_record,
    order_of,
    order_record,
    schema_records,
)
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from producer.domain.state import OrderState
    from producer.publish.recovery.events import PublishedEvent
    from producer.publish.recovery.hanging import Found
    from producer.publish.topics import Topics

MARGIN_MILLISECONDS = 2000
"""Events are written before their state. Events older than this are searched for in the whole partition."""

_log = structlog.get_logger(__name__)


class LastTransaction(NamedTuple):
    """The last transaction, or transactions, in a lane's state.

    `before` are the orders whose state it wrote, by key, each as it was before. `begun_at` is the time of its first
    record, in milliseconds since 1970.
    """

    before: dict[bytes, OrderState]
    begun_at: int


def read_last_transaction(messages: Iterable[Message], since: int | None) -> tuple[LaneState, LastTransaction | None]:
    """The lane's state after these messages of `…-positions`, and the last transaction among them, if there is any.

    With `since`, in milliseconds since 1970, all transactions from then on count as the last one.
    """
    state, run = LaneState(), list[Message]()
    for message in messages:
        # The marker that ends a transaction takes an offset.
        is_next = bool(run) and message.offset() != (run[-1].offset() or 0) + 1
        if is_next and (since is None or written_at(run[-1]) < since):
            lane_state_of(key_values(run), state)
            run.clear()
        run.append(message)
    if not run:
        return state, None
    keys = dict.fromkeys(order_of(key) for key, _ in key_values(run))
    before = {key: state.orders.order(key) for key in keys if key is not None}
    lane_state_of(key_values(run), state)
    return state, LastTransaction(before, min(map(written_at, run)))


def audit(properties: Mapping[str, str], topics: Topics, lane: int, found: Found) -> tuple[LaneState, list[Record]]:
    """The lane's state as it must be, and the records that make it so: none if the state agrees with the history.

    Call it after the fence, so that nobody writes meanwhile. `found` is what hangs: its state counts as committed, its
    events do not, and its newest versions must have been aborted. Raises `RetryableError` if Kafka does not answer,
    `RefusedError` if we may not read a topic.
    """
    with as_retryable(), RangeReader(properties) as reader:
        return _Audit(Admin(properties), reader, topics, lane, found).compare()


class _Audit:
    def __init__(self, admin: Admin, reader: RangeReader, topics: Topics, lane: int, found: Found) -> None:
        self._admin = admin
        self._reader = reader
        self._topics = topics
        self._lane = lane
        self._found = found

    def compare(self) -> tuple[LaneState, list[Record]]:
        times = [written_at(each) for messages in self._found.hanging.values() for each in messages]
        state, last = read_last_transaction(self._read_positions(), min(times, default=None))
        if last is None:
            return state, []
        committed = list(self._read_lately(self._topics.versjoner, last))
        lost = self._find_lost(state, last, {identity_of(event) for event, _ in committed})
        orders = {}
        for key, events in lost.items():
            orders[key] = without_events(state.orders.order(key), last.before.get(key, NO_ORDER), events)
        for event, _ in committed:
            orders[event.order] = with_event(orders.get(event.order, state.orders.order(event.order)), event)
        changed = {key: order for key, order in orders.items() if order != state.orders.order(key)}
        newest = {
            event.order: (identity_of(event), message)
            for event, message in committed
            if not event.late and event.trekkversjon == orders[event.order].trekkversjon
        }
        positions, copies = self._topics.positions, self._copies(newest, last)
        records = [
            order_record(positions, self._lane, key, None if order == NO_ORDER else order)
            for key, order in changed.items()
        ]
        if not lost.keys().isdisjoint(changed):
            show_since = max(time.time_ns() // 1000, (state.show_since or 0) + 1)
            records.append(observation_offsets_record(positions, self._lane, state.observations, show_since))
        if records:
            records = [*schema_records(positions, self._lane, state.schemas), *records]
        lane_state_of(((each.key, each.value) for each in records), state)
        if records or copies:
            _log.warning(
                "the last transaction is incomplete: repairing it",
                lane=self._lane,
                orders=len(changed),
                orders_published_again=len(changed.keys() & lost.keys()),
                copied=len(copies),
            )
        return state, [*records, *copies]

    def _read_positions(self) -> Iterator[Message]:
        """The messages of the state: those that are committed, and those that hang."""
        place = Partition(self._topics.positions, self._lane)
        for messages in self._reader.read(self._admin.begins([place]), {place: self._found.ends[place.topic]}):
            yield from messages
        yield from self._found.hanging.get(place.topic, ())

    def _read_lately(self, topic: str, last: LastTransaction) -> Iterator[tuple[PublishedEvent, Message]]:
        """The committed events of the last transaction or later ones, and some before."""
        ends = {Partition(topic, self._lane): self._found.ends[topic]}
        starts = self._admin.offsets_since(ends, last.begun_at - MARGIN_MILLISECONDS)
        for messages in self._reader.read(starts, ends):
            yield from ((event, message) for message in messages if (event := event_of(message)))

    def _find_lost(
        self, state: LaneState, last: LastTransaction, committed: set[bytes]
    ) -> dict[bytes, list[PublishedEvent]]:
        """The events that hang, and those of the last transaction that are not committed, by the key of the order."""
        hanging = self._found.hanging
        events = [event_of(each) for each in hanging.get(self._topics.versjoner, ())]
        events += [event_of(each, is_rejected=True) for each in hanging.get(self._topics.quarantine, ())]
        found = [event for event in events if event]
        known = committed | {identity_of(event) for event in found}
        announced = [
            event
            for key, before in last.before.items()
            for event in events_between(key, before, state.orders.order(key))
        ]
        found += self._not_committed([event for event in announced if identity_of(event) not in known])
        lost: dict[bytes, list[PublishedEvent]] = {}
        for event in found:
            lost.setdefault(event.order, []).append(event)
        return lost

    def _not_committed(self, events: list[PublishedEvent]) -> Iterable[PublishedEvent]:
        """Those of these events that are committed nowhere; none if the beginning of the partition was deleted."""
        left = {identity_of(event): event for event in events}
        place = Partition(self._topics.versjoner, self._lane)
        starts = self._admin.begins([place]) if left else {}
        if any(starts.values()):
            return ()
        orders = {event.order for event in events}
        for messages in self._reader.read(starts, {place: self._found.ends[place.topic] for place in starts}):
            for message in messages:
                if message.key() in orders:
                    left.pop(headers_of(message).get("ce_id", b""), None)
        return left.values()

    def _copies(self, newest: Mapping[bytes, tuple[bytes, Message]], last: LastTransaction) -> list[Record]:
        """Copies of these events, the newest of their orders, for those that are missing in `…-gjeldende`.

        One that was published again, as the history had lost it, may be there from before.
        """
        topic = self._topics.gjeldende
        lacking = {identity: (key, message) for key, (identity, message) in newest.items()}
        for event, _ in self._read_lately(topic, last) if lacking else ():
            lacking.pop(identity_of(event), None)
        place = Partition(topic, self._lane)
        starts = self._admin.begins([place]) if lacking else {}
        for messages in self._reader.read(starts, dict.fromkeys(starts, self._found.ends[topic])):
            for message in messages:
                lacking.pop(headers_of(message).get("ce_id", b""), None)
        return [
            Record(topic, key, message.value(), headers_of(message), self._lane) for key, message in lacking.values()
        ]
