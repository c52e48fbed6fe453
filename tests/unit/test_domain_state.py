"""The state of a lane is returned as it was stored, however it is packed; ranges of missing versions stay sorted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.state import (
    NO_ORDER,
    REJECTED_MAX,
    LaneState,
    OrderState,
    TrekkpliktigPosition,
    TrekkpliktigState,
    with_missing,
    without_missing,
)

ONE = "311111111"
HASH = b"12345678"
PLAIN = OrderState(3, HASH, 1)
OPEN_ENDS = [
    OrderState(3, HASH, 1, missing=((1, 2),)),
    OrderState(3, HASH, 1, rejected=(b"x",)),
    OrderState(3, HASH, 1, corrections=((3, 1),)),
    OrderState(3, HASH, 1, failing_since=0),
]


@pytest.mark.parametrize("order", [PLAIN, OrderState(2**63 - 1, HASH, 255), *OPEN_ENDS])
def test_an_order_survives_a_round_trip(order):
    state = TrekkpliktigState()
    state.remember(b"A", order)
    assert state.order(b"A") == order
    assert state.newest(b"A") == order.trekkversjon
    assert len(state) == 1
    assert list(state.keys()) == [b"A"]


@pytest.mark.parametrize("before", [PLAIN, *OPEN_ENDS])
@pytest.mark.parametrize("after", [OrderState(4, b"87654321", 1), *OPEN_ENDS])
def test_newer_state_replaces_the_older_whether_or_not_it_has_open_ends(before, after):
    state = TrekkpliktigState()
    state.remember_all({b"A": before})
    state.remember_all({b"A": after})
    assert (state.order(b"A"), len(state)) == (after, 1)


@pytest.mark.parametrize("order", [PLAIN, *OPEN_ENDS])
def test_dropped_order_is_forgotten(order):
    state = TrekkpliktigState()
    state.remember(b"A", order)
    state.drop(b"A")
    state.drop(b"B")
    assert (state.order(b"A"), state.newest(b"A"), len(state)) == (NO_ORDER, 0, 0)


def test_an_order_without_open_ends_needs_little_memory():
    state = TrekkpliktigState()
    state.remember(b"A", PLAIN)
    assert [len(packed) for packed in state._orders.values()] == [13]  # noqa: SLF001 - the size is the promise


@pytest.mark.parametrize("trekkversjon", [0, 1, 2**32 - 1, 2**32, 2**63 - 1])
def test_every_number_of_version_is_remembered(trekkversjon):
    state = TrekkpliktigState()
    state.remember(b"A", OrderState(trekkversjon, HASH, 1))
    assert (state.order(b"A"), state.newest(b"A")) == (OrderState(trekkversjon, HASH, 1), trekkversjon)


def test_missing_versions_of_all_orders_are_returned():
    state = TrekkpliktigState()
    state.remember(b"A", OrderState(9, HASH, 1, missing=((1, 2), (5, 5))))
    state.remember(b"B", PLAIN)
    assert list(state.missing()) == [(b"A", 1, 2), (b"A", 5, 5)]


def test_hashes_of_rejected_records_are_bounded_the_oldest_going_first():
    order = NO_ORDER
    for number in range(REJECTED_MAX + 1):
        order = order.with_rejected(bytes([number]))
    assert order.rejected == tuple(bytes([number]) for number in range(1, REJECTED_MAX + 1))


def test_corrections_are_counted_by_version():
    order = OrderState(3, HASH, 1, corrections=((2, 4), (3, 1)))
    assert [order.corrections_of(number) for number in (1, 2, 3)] == [0, 4, 1]


def test_lane_state_makes_one_per_trekkpliktig_and_forgets_it_whole():
    state = LaneState()
    state.ensure(ONE).remember(b"A", PLAIN)
    state.ensure(ONE).position = TrekkpliktigPosition(7)
    assert state.of(ONE).order(b"A") == PLAIN
    assert [name for name, _ in state] == [ONE]
    state.forget(ONE)
    state.forget("nobody")
    assert len(state) == 0
    assert state.of(ONE).position == TrekkpliktigPosition()


versions = st.integers(1, 30)
ranges = st.tuples(versions, versions).map(sorted).map(tuple)


def numbers(missing):
    return {number for first, last in missing for number in range(first, last + 1)}


def assert_tidy(missing):
    assert all(first <= last for first, last in missing)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(missing))


@given(st.lists(st.tuples(st.booleans(), ranges), max_size=12))
def test_missing_ranges_hold_what_was_added_and_not_removed(steps):
    missing, expected = (), set()
    for adds, (first, last) in steps:
        if adds:
            missing = with_missing(missing, first, last)
            expected |= set(range(first, last + 1))
        else:
            missing = without_missing(missing, first)
            expected.discard(first)
        assert_tidy(missing)
        assert numbers(missing) == expected
        assert all(OrderState(missing=missing).is_missing(number) == (number in expected) for number in range(1, 31))
