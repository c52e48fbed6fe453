"""Recovery from hanging transactions: what an event on Kafka says, and what is removed from the state."""

from __future__ import annotations

from typing import Any

import pytest

from producer.domain.state import LaneState, OrderState, TrekkpliktigPosition
from producer.publish.recovery.records import event_of, identity_of
from producer.publish.recovery.rollback import (
    PublishedEvent,
    Rollback,
    events_between,
    is_recorded,
    with_events,
    without_events,
)

# Events that are not committed are removed from the state, and no others
ONE, OTHER = "311111111", "322222222"
ORDER, SECOND = b"order", b"second"
HASH, EARLIER_HASH = b"12345678", b"87654321"
REJECTED, KEPT = b"r" * 8, b"k" * 8


def lane(position: int, **orders: OrderState) -> LaneState:
    state = LaneState()
    state.ensure(ONE).position = TrekkpliktigPosition(position)
    state.ensure(ONE).remember_all({key.encode(): order for key, order in orders.items()})
    return state


def undone(order: OrderState, *events: PublishedEvent, before: OrderState | None = None) -> OrderState | None:
    """What is remembered of the order instead; fails when it is left as it is."""
    earlier = lane(10) if before is None else lane(10, order=before)
    return without_events(lane(20, order=order), earlier, events)[ONE].orders[ORDER]


def event(trekkversjon: int, **more: object) -> PublishedEvent:
    return PublishedEvent(ONE, ORDER, trekkversjon, **more)  # type: ignore[arg-type]  # each case gives what it needs


def test_without_the_newest_version_the_one_before_is_the_newest() -> None:
    left = undone(OrderState(3, HASH, 1), event(3))
    assert left == OrderState(2)
    assert left.content_hash_version == 0, "no hash is of this method, so that the next reading's is taken over"


def test_of_several_versions_all_are_found_again_from_the_lowest_on() -> None:
    for events in ([event(2), event(3), event(4)], [event(4), event(3), event(2)]):
        assert undone(OrderState(4, HASH, 1), *events) == OrderState(1)


def test_an_order_of_which_nothing_is_left_is_forgotten() -> None:
    assert undone(OrderState(1, HASH, 1), event(1)) is None


def test_what_is_known_of_lower_versions_is_kept_and_of_higher_ones_is_not() -> None:
    order = OrderState(6, HASH, 1, ((1, 2), (4, 5)), (KEPT,), ((3, 1), (6, 2)), 99)
    assert undone(order, event(5), event(6)) == OrderState(5, b"\0" * 8, 0, ((1, 2), (4, 5)), (KEPT,), ((3, 1),), 99)
    assert undone(order, event(3)) == OrderState(2, b"\0" * 8, 0, ((1, 2),), (KEPT,), (), 99)


def test_a_late_version_is_missing_again() -> None:
    assert undone(OrderState(5, HASH, 1), event(2, late=True)) == OrderState(5, HASH, 1, ((2, 2),))


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
        (OrderState(2, HASH, 1), event(3)),
        (OrderState(5, HASH, 1, ((3, 3),)), event(3)),
        (OrderState(5, HASH, 1, ((3, 3),)), event(3, late=True)),
        (OrderState(5, HASH, 1), event(5, correction=1)),
        (OrderState(5, HASH, 1, rejected=(KEPT,)), event(0, rejected=REJECTED)),
        (OrderState(5, HASH, 1), PublishedEvent(ONE, SECOND, 1)),
        (OrderState(5, HASH, 1), PublishedEvent(OTHER, ORDER, 5)),
    ],
)
def test_an_event_that_is_not_recorded_changes_nothing(order: OrderState, lost: PublishedEvent) -> None:
    state = lane(20, order=order)
    assert not is_recorded(state, lost)
    assert without_events(state, lane(10), [lost]) == {}


def test_the_source_is_read_again_from_the_former_position() -> None:
    state = lane(20, order=OrderState(3, HASH, 1), second=OrderState(1, HASH, 1))
    assert without_events(state, lane(10), [event(3)]) == {ONE: Rollback(10, {ORDER: OrderState(2)})}
    assert without_events(state, LaneState(), [event(3)])[ONE].position == 0
    assert without_events(state, lane(30), [event(3)])[ONE].position == 20, "a position that was lowered stays so"


def test_events_between_two_states_of_an_order_are_found() -> None:
    before = OrderState(5, EARLIER_HASH, 1, ((1, 2), (4, 4)), corrections=((3, 1),))
    after = OrderState(8, HASH, 1, ((2, 2), (6, 6)), corrections=((3, 2), (8, 1)))
    assert events_between(ONE, ORDER, before, after) == [
        event(1, late=True),
        event(4, late=True),
        event(3, correction=2),
        event(8, correction=1),
        event(8),
    ]


@pytest.mark.parametrize(
    "after",
    [
        OrderState(5, HASH, 1, ((1, 2),), (REJECTED,), failing_since=7),
        OrderState(5, EARLIER_HASH, 2, ((1, 2), (7, 7))),
        OrderState(3, missing=((1, 2),)),
        OrderState(),
    ],
)
def test_a_change_without_an_event_is_left_out(after: OrderState) -> None:
    assert events_between(ONE, ORDER, OrderState(5, HASH, 1, ((1, 2),)), after) == []


def test_committed_versions_are_recorded_and_skipped_ones_are_missing() -> None:
    state = lane(20, order=OrderState(3, HASH, 1, ((2, 2),), (KEPT,), ((1, 1),)))
    assert with_events(state, [event(4)]) == {
        ONE: {ORDER: OrderState(4, missing=((2, 2),), rejected=(KEPT,), corrections=((1, 1),))}
    }
    assert with_events(state, [event(4), event(5)])[ONE][ORDER].trekkversjon == 5
    assert with_events(state, [event(6)])[ONE][ORDER].missing == ((2, 2), (4, 5))
    assert with_events(state, [event(6), event(5, late=True)])[ONE][ORDER].missing == ((2, 2), (4, 4))
    assert with_events(state, [PublishedEvent(OTHER, SECOND, 1)]) == {OTHER: {SECOND: OrderState(1)}}


def test_committed_late_versions_and_corrections_are_recorded() -> None:
    state = lane(20, order=OrderState(3, HASH, 1, ((1, 2),)))
    assert with_events(state, [event(2, late=True)]) == {ONE: {ORDER: OrderState(3, HASH, 1, ((1, 1),))}}
    newest, older = event(3, correction=1), event(1, correction=2)
    assert with_events(state, [newest])[ONE][ORDER] == OrderState(3, HASH, 0, ((1, 2),), corrections=((3, 1),))
    assert with_events(state, [older])[ONE][ORDER] == OrderState(3, HASH, 1, ((1, 2),), corrections=((1, 2),))


def test_an_event_that_is_recorded_already_changes_nothing() -> None:
    state = lane(20, order=OrderState(3, HASH, 1, corrections=((3, 2),)))
    assert with_events(state, [event(1), event(3), event(2, late=True), event(3, correction=1)]) == {}


# What a record on Kafka says of its event; one that says nothing is passed over
KEY_ONE, STRANGER = b"311111111", b"399999999"


class FakeMessage:
    """What is read of a message here."""

    def __init__(self, key: bytes | None, **headers: bytes | None) -> None:
        self._key, self._headers = key, list(headers.items()) or None

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers


def told(key: bytes | None, *, is_rejected: bool = False, **headers: bytes | None) -> PublishedEvent | None:
    message: Any = FakeMessage(key, **headers)
    return event_of(message, is_rejected=is_rejected)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ce_id": b"a/b/7"}, PublishedEvent("311111111", b"a/b", 7)),
        ({"ce_id": b"a/b/7/2", "ce_correction": b"2"}, PublishedEvent("311111111", b"a/b", 7, correction=2)),
        ({"ce_id": b"a/b/7", "ce_late": b"true"}, PublishedEvent("311111111", b"a/b", 7, late=True)),
    ],
)
def test_an_event_says_its_version(headers: dict[str, bytes], expected: PublishedEvent) -> None:
    seen = told(b"a/b", ce_trekkpliktig=KEY_ONE, **headers)
    assert seen == expected
    assert identity_of(expected) == headers["ce_id"]


def test_an_event_that_names_a_stranger_is_of_the_one_it_was_read_for() -> None:
    assert told(b"a", ce_id=b"a/1", ce_trekkpliktig=STRANGER, ce_readfor=KEY_ONE) == PublishedEvent(
        "311111111", b"a", 1
    )


def test_a_rejected_record_is_known_by_its_hash_and_remembered_with_its_order() -> None:
    shared = {"ce_id": b"00ff", "ce_trekkpliktig": KEY_ONE}
    assert told(b"a", is_rejected=True, ce_subject=b"a", **shared) == PublishedEvent(
        "311111111", b"a", rejected=b"\x00\xff"
    )
    assert told(b"00ff", is_rejected=True, **shared) == PublishedEvent("311111111", b"#00ff", rejected=b"\x00\xff")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ce_id": b"a/1"},
        {"ce_trekkpliktig": KEY_ONE},
        {"ce_id": None, "ce_trekkpliktig": KEY_ONE},
        {"ce_id": b"a/x", "ce_trekkpliktig": KEY_ONE},
        {"ce_id": b"b", "ce_trekkpliktig": KEY_ONE},
        {"ce_id": b"\xff/1", "ce_trekkpliktig": b"\xff"},
    ],
)
def test_what_others_have_written_says_nothing(headers: dict[str, bytes | None]) -> None:
    assert told(b"a", **headers) is None
    assert told(b"a", is_rejected=True, **{**headers, **({"ce_id": b"zz"} if "ce_id" in headers else {})}) is None
