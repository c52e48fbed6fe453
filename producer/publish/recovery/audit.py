"""Audits a lane's last transaction: whether all of its events are committed, and corrects the state if they are not.

The next transaction may already have been open when the last one was hanging, and its abort has then removed the
events of the last one in some partitions. So when a lane is acquired, the events that its last state records announce
are searched for in the topics, and events beyond the state are added to it. Everything before the last transaction is
complete, as the lane's producer checked before it continued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import Message

from producer.domain.state import NO_ORDER, LaneState
from producer.publish.port import Record
from producer.publish.recovery.records import (
    event_of,
    headers_of,
    identity_of,
    order_records,
    rollback_records,
    written_at,
)
from producer.publish.recovery.rollback import Rollback, events_between, with_events
from producer.publish.state import key_values, lane_state_of, order_of, read_partition
from producer.publish.topics import lane_of
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from producer.domain.state import OrderState
    from producer.publish.recovery.hanging import Found
    from producer.publish.recovery.rollback import PublishedEvent
    from producer.publish.topics import Topics
    from trekkpaalegg.incoming import Partition

MARGIN_MILLISECONDS = 2000
"""Events are written before their state. Events older than this are searched for in the whole topic."""

RECORDS_MAX = 100_000
"""Limits how much of other lanes' records is read in each topic, so that a lane that was long idle starts soon."""

_log = structlog.get_logger(__name__)


class Change(NamedTuple):
    """The state of an order before a transaction, and the events by which the transaction changed it."""

    before: OrderState
    events: list[PublishedEvent]


class LastTransaction(NamedTuple):
    """What the last transaction, or transactions, changed in a lane's state.

    `changes` are those that events go with, by trekkpliktig and key of the order. The times are those of its first and
    last record, in milliseconds since 1970.
    """

    changes: dict[tuple[str, bytes], Change]
    begun_at: int
    ended_at: int


def read_last_transaction(
    properties: Mapping[str, str], topic: str, partition: int, since: int | None
) -> tuple[LaneState, LastTransaction | None]:
    """The lane's state, and its last transaction. Call it after the fence, so that nobody writes meanwhile.

    With `since`, in milliseconds since 1970, all transactions from then on count as the last one. Raises as
    `read_lane_state`.
    """
    state, run = LaneState(), list[Message]()
    for message in read_partition(properties, topic, partition):
        # The marker that ends a transaction takes an offset.
        is_next = bool(run) and message.offset() != (run[-1].offset() or 0) + 1
        if is_next and (since is None or written_at(run[-1]) < since):
            lane_state_of(key_values(run), state)
            run.clear()
        run.append(message)
    if not run:
        return state, None
    orders = dict.fromkeys(filter(None, (order_of(key) for key, _ in key_values(run))))
    before = {order: _order_in(state, *order) for order in orders}
    lane_state_of(key_values(run), state)
    changes = {
        order: Change(known, events)
        for order, known in before.items()
        if (events := events_between(*order, known, _order_in(state, *order)))
    }
    times = list(map(written_at, run))
    return state, LastTransaction(changes, min(times), max(times))


def _order_in(state: LaneState, trekkpliktig: str, key: bytes) -> OrderState:
    known = state.get(trekkpliktig)
    return NO_ORDER if known is None else known.order(key)


class Window(NamedTuple):
    """What was committed lately: events of the last transaction or later ones, by `ce_id`.

    And of each of their orders the newest version among the records of `…-gjeldende` of that time.
    """

    events: dict[bytes, tuple[PublishedEvent, Message]]
    newest: dict[bytes, int]


class Audit:
    """Compares a lane's last transaction with what is committed in the topics. Used once."""

    def __init__(
        self, properties: Mapping[str, str], topics: Topics, lane: int, found: Found, last: LastTransaction
    ) -> None:
        self._properties = properties
        self._topics = topics
        self._lane = lane
        self._found = found
        self._last = last
        self._announced = {
            identity_of(event): order for order, change in last.changes.items() for event in change.events
        }

    def repair(self, state: LaneState) -> list[Record]:
        """Records that make state and events agree, none if they do; `state` is changed accordingly.

        Raises `RetryableError` if Kafka does not answer, `RefusedError` if we may not read a topic.
        """
        with as_retryable(), RangeReader(self._properties) as reader:
            admin = Admin(self._properties)
            window = self._window(admin, reader)
            lost = self._lost(admin, reader, window.events)
        beyond = with_events(state, [event for event, message in window.events.values() if self._is_beyond(message)])
        records = [
            *rollback_records(self._topics.positions, self._lane, state, self._rollbacks(lost)),
            *order_records(self._topics.positions, self._lane, beyond),
        ]
        lane_state_of(((each.key, each.value) for each in records), state)
        copies = self._copies(window, state)
        if records or copies:
            _log.warning(
                "the last transaction is incomplete: repairing it",
                lane=self._lane,
                published_again=len(lost),
                not_published_again=sum(map(len, beyond.values())),
                copied=len(copies),
            )
        return [*records, *copies]

    def _is_beyond(self, message: Message) -> bool:
        return written_at(message) > self._last.ended_at

    def _places(self, topic: str) -> dict[Partition, int]:
        return {place: end for place, end in self._found.decided.items() if place.topic == topic}

    def _window(self, admin: Admin, reader: RangeReader) -> Window:
        window = Window({}, {})
        for event, message in self._lately(admin, reader, self._topics.versjoner):
            is_beyond = self._is_beyond(message) and lane_of(event.trekkpliktig, self._found.lanes) == self._lane
            if is_beyond or identity_of(event) in self._announced:
                window.events[identity_of(event)] = event, message
        orders = {event.order for event, _ in window.events.values()}
        for event, _ in self._lately(admin, reader, self._topics.gjeldende):
            if event.order in orders:
                window.newest[event.order] = max(event.trekkversjon, window.newest.get(event.order, 0))
        return window

    def _lately(self, admin: Admin, reader: RangeReader, topic: str) -> Iterator[tuple[PublishedEvent, Message]]:
        ends = self._places(topic)
        starts = admin.offsets_since(ends, self._last.begun_at - MARGIN_MILLISECONDS)
        most = RECORDS_MAX // max(1, len(ends))
        ends = {place: min(end, starts[place] + most) for place, end in ends.items()}
        for messages in reader.read(starts, ends):
            for message in messages:
                event = event_of(message)
                if event is not None:
                    yield event, message

    def _lost(self, admin: Admin, reader: RangeReader, seen: Iterable[bytes]) -> set[tuple[str, bytes]]:
        """Orders whose events are not committed anywhere; none if the beginning of the topic was deleted."""
        lost = set(self._last.changes) - {self._announced[each] for each in seen if each in self._announced}
        ends = self._places(self._topics.versjoner)
        starts = admin.begins(ends) if lost else {}
        if not lost or any(starts.values()):
            return set()
        for messages in reader.read(starts, ends):
            for event in map(event_of, messages):
                if event is not None and identity_of(event) in self._announced:
                    lost.discard(self._announced[identity_of(event)])
        return lost

    def _rollbacks(self, lost: set[tuple[str, bytes]]) -> dict[str, Rollback]:
        """To before the transaction; the source is read again from the beginning."""
        rollbacks: dict[str, Rollback] = {}
        for trekkpliktig, key in lost:
            before = self._last.changes[trekkpliktig, key].before
            rollback = rollbacks.setdefault(trekkpliktig, Rollback(0, {}))
            rollback.orders[key] = None if before == NO_ORDER else before
        return rollbacks

    def _copies(self, window: Window, state: LaneState) -> list[Record]:
        """Copies of the newest events of their orders that are missing in `…-gjeldende`."""
        return [
            Record(self._topics.gjeldende, event.order, message.value(), headers_of(message))
            for event, message in window.events.values()
            if not event.late
            and event.trekkversjon > window.newest.get(event.order, 0)
            and event.trekkversjon == state.of(event.trekkpliktig).newest(event.order)
        ]
