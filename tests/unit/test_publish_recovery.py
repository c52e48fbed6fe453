"""Recovery from hanging transactions: what an event on Kafka says, and the state of its order with and without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from producer.domain.state import Failing, HandedOver, LaneState, Missing, ObservationOffsets, OrderState
from producer.publish.recovery.audit import LastTransaction, read_last_transaction
from producer.publish.recovery.events import (
    PublishedEvent,
    copy_of,
    event_of,
    events_between,
    identity_of,
    is_recorded,
    with_event,
    without_events,
)
from producer.publish.recovery.recover import transact
from producer.publish.state import handed_over_record, observation_offsets_record, order_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.publish.port import Record

# Events that are not committed are removed from the state of their order, and come again
ONE, OTHER = "311111111", "322222222"
ORDER = b"order"
HASH, EARLIER_HASH, NO_HASH = b"12345678", b"87654321", bytes(8)
REJECTED, KEPT = b"r" * 8, b"k" * 8


def event(trekkversjon: int, *, by: str = ONE, **more: Any) -> PublishedEvent:
    return PublishedEvent(ORDER, trekkversjon, trekkpliktig=by, **more)


def undone(order: OrderState, *events: PublishedEvent, before: OrderState | None = None) -> OrderState:
    """The order's state without these events."""
    return without_events(order, before or OrderState(), events)


def test_without_the_newest_version_the_one_before_is_the_newest_and_the_lost_one_is_asked_for() -> None:
    assert undone(OrderState(3, HASH, 1), event(3)) == OrderState(2, NO_HASH, 0, seen=3, readers=(ONE,))


def test_the_hash_of_the_version_before_is_known_again() -> None:
    order, before = OrderState(3, HASH, 1), OrderState(2, EARLIER_HASH, 1)
    assert undone(order, event(3), before=before) == OrderState(2, EARLIER_HASH, 1, seen=3, readers=(ONE,))
    assert undone(order, event(2), event(3), before=before).content_hash == NO_HASH


def test_of_several_versions_all_are_asked_for_from_the_lowest_on() -> None:
    for events in ([event(2), event(3), event(4)], [event(4), event(3), event(2)]):
        assert undone(OrderState(4, HASH, 1), *events) == OrderState(1, seen=4, readers=(ONE,))


def test_everyone_whom_the_events_name_is_asked_before_those_whose_lists_showed_the_order() -> None:
    order = OrderState(4, HASH, 1, seen=6, readers=("333333333", ONE), tried_at=99)
    assert undone(order, event(3, by=OTHER), event(4)) == OrderState(
        2, seen=6, readers=(OTHER, ONE, "333333333"), tried_at=None
    )


def test_an_event_that_names_nobody_comes_again_with_the_lists() -> None:
    assert undone(OrderState(3, HASH, 1), event(3, by="")) == OrderState(2)


def test_what_else_is_known_of_the_order_is_kept() -> None:
    missing, failing = (Missing(1, 2, "HTTP 404"), Missing(7, 7, "rejected")), (Failing(8, 8, 5),)
    order = OrderState(6, HASH, 1, missing, (KEPT,), ((3, 1),), 8, failing, (ONE,), 99)
    assert undone(order, event(6)) == OrderState(5, NO_HASH, 0, missing, (KEPT,), ((3, 1),), 8, failing, (ONE,), None)


def test_a_late_version_is_missing_again() -> None:
    order = OrderState(5, HASH, 1, (Missing(3, 3, "HTTP 404"),))
    assert undone(order, event(2, late=True)) == OrderState(
        5, HASH, 1, (Missing(2, 2, "not committed"), Missing(3, 3, "HTTP 404")), readers=(ONE,)
    )


def test_a_correction_is_compared_again_with_what_was_known_before_it() -> None:
    order = OrderState(5, HASH, 1, corrections=((5, 1),))
    before = OrderState(5, EARLIER_HASH, 1)
    assert undone(order, event(5, correction=1), before=before) == before
    second = OrderState(5, HASH, 1, corrections=((4, 1), (5, 2)))
    assert undone(second, event(5, correction=2)) == OrderState(5, HASH, 1, corrections=((4, 1), (5, 1)))


def test_a_record_that_is_not_in_quarantine_is_quarantined_again() -> None:
    order = OrderState(5, HASH, 1, rejected=(KEPT, REJECTED))
    assert undone(order, event(0, rejected=REJECTED)) == OrderState(5, HASH, 1, rejected=(KEPT,))


@pytest.mark.parametrize(
    ("order", "lost"),
    [
        (OrderState(), event(1)),
        (OrderState(2, HASH, 1, seen=3, readers=(OTHER,), tried_at=9), event(3)),
        (OrderState(5, HASH, 1, (Missing(3, 3),), tried_at=9), event(3)),
        (OrderState(5, HASH, 1, (Missing(3, 3),)), event(3, late=True)),
        (OrderState(5, HASH, 1), event(5, correction=1)),
        (OrderState(5, HASH, 1, rejected=(KEPT,)), event(0, rejected=REJECTED)),
    ],
)
def test_an_event_that_is_not_recorded_changes_nothing(order: OrderState, lost: PublishedEvent) -> None:
    assert not is_recorded(order, lost)
    assert undone(order, lost) is order


# Events that are committed are added to the state of their order


def test_committed_versions_are_recorded_and_skipped_ones_are_missing() -> None:
    order = OrderState(3, HASH, 1, (Missing(2, 2),), (KEPT,), ((1, 1),))
    assert with_event(order, event(4)) == OrderState(4, NO_HASH, 0, (Missing(2, 2),), (KEPT,), ((1, 1),))
    assert with_event(with_event(order, event(4)), event(5)).trekkversjon == 5
    sixth = with_event(order, event(6))
    assert sixth.missing == (Missing(2, 2), Missing(4, 5, "unknown"))
    assert with_event(sixth, event(5, late=True)).missing == (Missing(2, 2), Missing(4, 4, "unknown"))
    assert with_event(OrderState(), event(1)) == OrderState(1)


def test_a_committed_version_is_no_longer_waited_for() -> None:
    order = OrderState(3, HASH, 1, seen=5, failing=(Failing(4, 5, 7),), readers=(ONE,), tried_at=9)
    fourth = with_event(order, event(4))
    assert fourth == OrderState(4, seen=5, failing=(Failing(5, 5, 7),), readers=(ONE,), tried_at=9)
    assert not with_event(fourth, event(5)).is_open


def test_committed_late_versions_and_corrections_are_recorded() -> None:
    order = OrderState(3, HASH, 1, (Missing(1, 2),))
    assert with_event(order, event(2, late=True)) == OrderState(3, HASH, 1, (Missing(1, 1),))
    assert with_event(order, event(3, correction=1)) == OrderState(
        3, NO_HASH, 0, (Missing(1, 2),), corrections=((3, 1),)
    )
    assert with_event(order, event(1, correction=2)) == OrderState(3, HASH, 1, (Missing(1, 2),), corrections=((1, 2),))


@pytest.mark.parametrize("known", [event(1), event(3), event(2, late=True), event(3, correction=1)])
def test_an_event_that_is_recorded_already_changes_nothing(known: PublishedEvent) -> None:
    order = OrderState(3, HASH, 1, corrections=((3, 2),))
    assert with_event(order, known) is order


# What a change of the state announces


def announced(before: OrderState, after: OrderState) -> list[PublishedEvent]:
    return list(events_between(ORDER, before, after))


def test_events_between_two_states_of_an_order_are_found() -> None:
    before = OrderState(5, EARLIER_HASH, 1, (Missing(1, 2), Missing(4, 4)), corrections=((3, 1),))
    after = OrderState(9, HASH, 1, (Missing(2, 2), Missing(6, 7)), corrections=((3, 3), (8, 1)))
    assert announced(before, after) == [
        event(1, by="", late=True),
        event(4, by="", late=True),
        event(8, by=""),
        event(9, by=""),
        event(3, by="", correction=2),
        event(3, by="", correction=3),
        event(8, by="", correction=1),
    ]


def test_versions_that_are_missing_above_the_newest_are_published_in_their_turn() -> None:
    before, after = OrderState(3, missing=(Missing(4, 4),), seen=4), OrderState(5)
    assert announced(before, after) == [event(4, by=""), event(5, by="")]


def test_a_billion_missing_versions_are_not_gone_through() -> None:
    before = OrderState(10**9 + 2, missing=(Missing(1, 10**9),))
    after = OrderState(2 * 10**9, missing=(Missing(1, 10**9 - 1), Missing(10**9 + 3, 2 * 10**9 - 1)))
    assert announced(before, after) == [event(10**9, by="", late=True), event(2 * 10**9, by="")]


@pytest.mark.parametrize(
    "after",
    [
        OrderState(5, HASH, 1, (Missing(1, 2),), (REJECTED,), failing=(Failing(6, 6, 7),), seen=6),
        OrderState(5, EARLIER_HASH, 2, (Missing(1, 2), Missing(7, 7))),
        OrderState(3, missing=(Missing(1, 2),)),
        OrderState(),
    ],
)
def test_a_change_without_an_event_announces_nothing(after: OrderState) -> None:
    assert announced(OrderState(5, HASH, 1, (Missing(1, 2),)), after) == []


# What a record on Kafka says of its event; one that says nothing is passed over


Headers = dict[str, bytes | None]


class FakeMessage:
    """A message as confluent-kafka gives it. `at` is in milliseconds since 1970."""

    def __init__(
        self, key: bytes, value: bytes | None, headers: Headers | None = None, *, offset: int = 0, at: int = 0
    ) -> None:
        self._key, self._value, self._offset, self._at = key, value, offset, at
        self._headers = list(headers.items()) if headers else None

    def topic(self) -> str:
        return "topic"

    def partition(self) -> int:
        return 3

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._at


def told(key: bytes, headers: Headers, *, is_rejected: bool = False) -> PublishedEvent | None:
    message: Any = FakeMessage(key, b"value", headers)
    return event_of(message, is_rejected=is_rejected)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ce_id": b"a/b/7"}, PublishedEvent(b"a/b", 7)),
        ({"ce_id": b"a/b/7", "ce_trekkpliktig": ONE.encode()}, PublishedEvent(b"a/b", 7, trekkpliktig=ONE)),
        ({"ce_id": b"a/b/7/2", "ce_correction": b"2"}, PublishedEvent(b"a/b", 7, correction=2)),
        ({"ce_id": b"a/b/7", "ce_late": b"true"}, PublishedEvent(b"a/b", 7, late=True)),
    ],
)
def test_an_event_says_its_version(headers: Headers, expected: PublishedEvent) -> None:
    assert told(b"a/b", headers) == expected
    assert identity_of(expected) == headers["ce_id"]


def test_a_rejected_record_is_known_by_its_hash_and_remembered_with_its_order() -> None:
    known = told(b"a", {"ce_id": b"00ff", "ce_subject": b"a"}, is_rejected=True)
    assert known == PublishedEvent(b"a", rejected=b"\x00\xff")
    unknown = told(b"00ff", {"ce_id": b"00ff"}, is_rejected=True)
    assert unknown == PublishedEvent(b"#00ff", rejected=b"\x00\xff")


@pytest.mark.parametrize(
    "headers",
    [{}, {"ce_id": None}, {"ce_id": b"a/x"}, {"ce_id": b"b"}, {"ce_id": b"a/1", "ce_trekkpliktig": b"\xff"}],
)
def test_what_others_have_written_says_nothing(headers: Headers) -> None:
    assert told(b"a", headers) is None
    assert told(b"a", headers | ({"ce_id": b"zz"} if "ce_id" in headers else {}), is_rejected=True) is None


def test_a_copy_goes_to_the_same_partition_with_the_same_headers() -> None:
    message: Any = FakeMessage(b"a", None, {"ce_id": b"a/1", "other": None})
    copy = copy_of(message)
    assert (copy.topic, copy.partition, copy.key, copy.value) == ("topic", 3, b"a", None)
    assert copy.headers == {"ce_id": b"a/1"}


# The last transaction in the state of a lane


def last_of(*transactions: Sequence[Record], since: int | None = None) -> tuple[LaneState, LastTransaction | None]:
    """The state after these transactions of one partition, each written at one hundred times its number."""
    messages: list[Any] = []
    offset = 0
    for number, records in enumerate(transactions, start=1):
        messages += [
            FakeMessage(each.key, each.value, offset=offset + n, at=100 * number) for n, each in enumerate(records)
        ]
        offset += len(records) + 1
    return read_last_transaction(messages, since)


def order(key: bytes, trekkversjon: int) -> Record:
    return order_record("positions", 3, key, OrderState(trekkversjon, HASH, 1))


FIRST, SECOND = b"first", b"second"
NEWER = observation_offsets_record("positions", 3, ObservationOffsets(7, 8), None)
SHOWN = handed_over_record("positions", 3, ONE, FIRST, HandedOver(9))


def test_what_the_last_transaction_has_changed_is_found() -> None:
    state, last = last_of([order(FIRST, 1), order(SECOND, 1)], [order(FIRST, 2)], [order(FIRST, 3), NEWER, SHOWN])
    assert last == LastTransaction({FIRST: OrderState(2, HASH, 1)}, 300)
    assert state.orders.order(FIRST).trekkversjon == 3
    assert state.observations == ObservationOffsets(7, 8)


def test_all_transactions_since_something_hangs_count_as_the_last() -> None:
    transactions = [order(FIRST, 1)], [order(FIRST, 2)], [order(SECOND, 1)], [NEWER]
    _, last = last_of(*transactions, since=150)
    assert last == LastTransaction({FIRST: OrderState(1, HASH, 1), SECOND: OrderState()}, 200)
    _, last = last_of(*transactions, since=10_000)
    assert last == LastTransaction({}, 400)


def test_a_lane_that_has_written_nothing_has_no_last_transaction() -> None:
    state, last = last_of()
    assert last is None
    assert len(state.orders) == 0


class FullProducer:
    """Has room for one record between two polls."""

    def __init__(self) -> None:
        self.has_room = True
        self.keys: list[bytes] = []
        self.ended: list[str] = []

    def begin_transaction(self) -> None:
        self.ended.append("begun")

    def produce(self, _topic: str, _value: bytes, key: bytes, *_: object, **__: object) -> None:
        if not self.has_room:
            raise BufferError
        self.has_room = False
        self.keys.append(key)

    def poll(self, _seconds: float) -> None:
        self.has_room = True

    def commit_transaction(self, _seconds: float) -> None:
        self.ended.append("committed")


def test_a_transaction_may_hold_more_records_than_the_producer_has_room_for() -> None:
    producer: Any = FullProducer()
    transact(producer, 3, [order(FIRST, 1), order(SECOND, 1), order(FIRST, 2)])
    assert producer.keys == [b"/first", b"/second", b"/first"]
    assert producer.ended == ["begun", "committed"]
