"""A lane's last transaction in, whether all of it stands out; and what the lane holds published, set right.

Of a transaction whose markers were left out in a part of its partitions (`hanging.py`) the next transaction of the same
producer may have been under way already, and its abort has then taken away what hung there. So when a lane is taken,
what its state told last to be published is looked for among the events, and what the events tell beyond it in the
state. All that is written before the last transaction stands, as the lane's producer looked before it went on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import KafkaException

from producer.domain.rollback import Rollback, with_events
from producer.domain.state import NO_ORDER
from producer.publish.port import Record
from producer.publish.reader import Place, offsets_since, read_stretches, starts_of
from producer.publish.recovery.abort import settle, transact
from producer.publish.recovery.hanging import event_of, headers_of, identity_of, written_at
from producer.publish.state import held_records, lane_state_of, read_lane, rollback_records
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.clients import create_admin_client
from trekkpaalegg.kafka.partitioning import lane_of
from trekkpaalegg.kafka.renewal import client_made_later

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from confluent_kafka import Message, Producer
    from confluent_kafka.admin import AdminClient

    from producer.domain.rollback import PublishedEvent
    from producer.domain.state import LaneState
    from producer.observe.port import Observer
    from producer.publish.recovery.hanging import Found
    from producer.publish.state import LastTransaction
    from producer.publish.topics import Topics

MARGIN_MILLISECONDS = 2000
"""Events are written before the state that tells of them. Those written still earlier are looked for everywhere."""

RECORDS_MAX = 100_000
"""So many are read of what others wrote since, in each topic: a lane that long wrote nothing is not held up by them."""

_log = structlog.get_logger(__name__)


def settled_state(
    producer: Producer, properties: Mapping[str, str], topics: Topics, lane: int, observer: Observer
) -> LaneState:
    """What a lane knows that was just fenced, after nothing of it hangs and its events say the same.

    Raises as `settle` and `read_lane`.
    """
    found, since = settle(producer, properties, topics, lane, observer)
    state, last = read_lane(properties, topics.positions, lane, since)
    if last is not None:
        records = Audit(properties, topics, lane, found, last).mend(state)
        if records:
            transact(producer, lane, records, commit=True)
            observer.records_settled("incomplete", len(records))
    return state


class Window(NamedTuple):
    """What was written lately, and stands: events told of by the last transaction or written since, by `ce_id`.

    And the newest version in `…-gjeldende` of each order that is among what was written there lately.
    """

    events: dict[bytes, tuple[PublishedEvent, Message]]
    newest: dict[bytes, int]


class Audit:
    """Looks once at what a lane wrote `last`."""

    def __init__(
        self, properties: Mapping[str, str], topics: Topics, lane: int, found: Found, last: LastTransaction
    ) -> None:
        self._properties = properties
        self._topics = topics
        self._lane = lane
        self._found = found
        self._last = last
        self._told = {identity_of(told): order for order, change in last.changes.items() for told in change.events}

    def mend(self, state: LaneState) -> list[Record]:
        """Records by which state and events agree, none where they do; `state` is changed with them.

        Raises `RetryableError` when Kafka does not answer, `RefusedError` when a topic may not be read.
        """
        with client_made_later():
            client = create_admin_client(self._properties)
        try:
            window = self._window(client)
            lost = self._lost(client, window.events)
        except KafkaException as error:
            raise RetryableError(f"what lane {self._lane} wrote last is not told: {error.args[0].name()}") from error
        beyond = with_events(state, [told for told, message in window.events.values() if self._is_beyond(message)])
        records = [
            *rollback_records(self._topics.positions, self._lane, state, self._undone(lost)),
            *held_records(self._topics.positions, self._lane, beyond),
        ]
        lane_state_of(((each.key, each.value) for each in records), state)
        copies = self._copies(window, state)
        if records or copies:
            _log.warning(
                "a part of the last transaction does not stand: setting it right",
                lane=self._lane,
                published_again=len(lost),
                not_published_again=sum(map(len, beyond.values())),
                copied=len(copies),
            )
        return [*records, *copies]

    def _is_beyond(self, message: Message) -> bool:
        return written_at(message) > self._last.ended_at

    def _places(self, topic: str) -> dict[Place, int]:
        return {place: end for place, end in self._found.decided.items() if place.topic == topic}

    def _window(self, client: AdminClient) -> Window:
        window = Window({}, {})
        for told, message in self._lately(client, self._topics.versjoner):
            is_beyond = self._is_beyond(message) and lane_of(told.trekkpliktig, self._found.lanes) == self._lane
            if is_beyond or identity_of(told) in self._told:
                window.events[identity_of(told)] = told, message
        orders = {told.order for told, _ in window.events.values()}
        for told, _ in self._lately(client, self._topics.gjeldende):
            if told.order in orders:
                window.newest[told.order] = max(told.trekkversjon, window.newest.get(told.order, 0))
        return window

    def _lately(self, client: AdminClient, topic: str) -> Iterator[tuple[PublishedEvent, Message]]:
        ends = self._places(topic)
        starts = offsets_since(client, ends, self._last.begun_at - MARGIN_MILLISECONDS)
        most = RECORDS_MAX // max(1, len(ends))
        ends = {place: min(end, starts[place] + most) for place, end in ends.items()}
        for _, message in read_stretches(self._properties, starts, ends, "read_committed"):
            told = event_of(message)
            if told is not None:
                yield told, message

    def _lost(self, client: AdminClient, seen: Iterable[bytes]) -> set[tuple[str, bytes]]:
        """The orders whose events stand nowhere. Of a topic whose beginning was deleted nothing is said."""
        lost = set(self._last.changes) - {self._told[each] for each in seen if each in self._told}
        ends = self._places(self._topics.versjoner)
        starts = starts_of(client, ends) if lost else {}
        if not lost or any(starts.values()):
            return set()
        for _, message in read_stretches(self._properties, starts, ends, "read_committed"):
            told = event_of(message)
            if told is not None and identity_of(told) in self._told:
                lost.discard(self._told[identity_of(told)])
        return lost

    def _undone(self, lost: set[tuple[str, bytes]]) -> dict[str, Rollback]:
        """As before the transaction; the source is read again from the first number on."""
        undone: dict[str, Rollback] = {}
        for trekkpliktig, key in lost:
            before = self._last.changes[trekkpliktig, key].before
            change = undone.setdefault(trekkpliktig, Rollback(0, {}))
            change.orders[key] = None if before == NO_ORDER else before
        return undone

    def _copies(self, window: Window, state: LaneState) -> list[Record]:
        """Events of the newest versions of their orders that `…-gjeldende` lacks."""
        return [
            Record(self._topics.gjeldende, told.order, message.value(), headers_of(message))
            for told, message in window.events.values()
            if not told.late
            and told.trekkversjon > window.newest.get(told.order, 0)
            and told.trekkversjon == state.of(told.trekkpliktig).newest(told.order)
        ]
