"""The state of a lane is returned as it was stored, however it is packed; ranges of versions stay sorted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.identity import Identity, TopicIdentity
from producer.domain.state import (
    NO_ORDER,
    NOT_HANDED_OVER,
    REJECTED_MAX,
    Failing,
    HandedOver,
    LaneState,
    Missing,
    OrderBook,
    OrderState,
    TrekkpliktigPosition,
    TrekkpliktigState,
    with_failing,
    with_missing,
    without,
)

ONE = "311111111"
HASH = b"12345678"
PLAIN = OrderState(3, HASH, 1)
OPEN_ENDS = [
    OrderState(3, HASH, 1, missing=(Missing(1, 2),)),
    OrderState(3, HASH, 1, rejected=(b"x",)),
    OrderState(3, HASH, 1, corrections=((3, 1),)),
    OrderState(3, HASH, 1, seen=4),
    OrderState(3, HASH, 1, failing=(Failing(4, 4, 0),)),
    OrderState(3, HASH, 1, readers=(ONE,)),
    OrderState(3, HASH, 1, tried_at=0),
]

# The orders at home in a lane


@pytest.mark.parametrize("order", [PLAIN, OrderState(2**63 - 1, HASH, 255), *OPEN_ENDS])
def test_an_order_survives_a_round_trip(order):
    orders = OrderBook()
    orders.remember(b"A", order)
    assert orders.order(b"A") == order
    assert len(orders) == 1
    assert list(orders) == [b"A"]


@pytest.mark.parametrize("before", [PLAIN, *OPEN_ENDS])
@pytest.mark.parametrize("after", [OrderState(4, b"87654321", 1), *OPEN_ENDS])
def test_newer_state_replaces_the_older_whether_or_not_it_has_open_ends(before, after):
    orders = OrderBook()
    orders.remember(b"A", before)
    orders.remember(b"A", after)
    assert (orders.order(b"A"), len(orders)) == (after, 1)


@pytest.mark.parametrize("order", [PLAIN, *OPEN_ENDS])
def test_dropped_order_is_forgotten(order):
    orders = OrderBook()
    orders.remember(b"A", order)
    orders.drop(b"A")
    orders.drop(b"B")
    assert (orders.order(b"A"), len(orders)) == (NO_ORDER, 0)


def test_an_order_without_open_ends_needs_little_memory():
    orders = OrderBook()
    orders.remember(b"A", PLAIN)
    assert [len(packed) for packed in orders._orders.values()] == [13]  # noqa: SLF001 - the size is the promise


@pytest.mark.parametrize("trekkversjon", [0, 1, 2**32 - 1, 2**32, 2**63 - 1])
def test_every_number_of_version_is_remembered(trekkversjon):
    orders = OrderBook()
    orders.remember(b"A", OrderState(trekkversjon, HASH, 1))
    assert orders.order(b"A") == OrderState(trekkversjon, HASH, 1)


def test_open_orders_are_those_with_versions_that_are_not_published():
    orders = OrderBook()
    states = {
        b"plain": PLAIN,
        b"missing": OrderState(3, HASH, 1, missing=(Missing(2, 2),)),
        b"waiting": OrderState(3, HASH, 1, seen=4),
        b"corrected": OrderState(3, HASH, 1, corrections=((3, 1),)),
        b"rejected": OrderState(0, rejected=(b"x",)),
    }
    for key, order in states.items():
        orders.remember(key, order)
    assert dict(orders.open_orders()) == {key: states[key] for key in (b"missing", b"waiting")}
    assert set(orders) == states.keys()


def test_hashes_of_rejected_records_are_bounded_the_oldest_going_first():
    order = NO_ORDER
    for number in range(REJECTED_MAX + 1):
        order = order.with_rejected(bytes([number]))
    assert order.rejected == tuple(bytes([number]) for number in range(1, REJECTED_MAX + 1))


def test_corrections_are_counted_by_version():
    order = OrderState(3, HASH, 1, corrections=((2, 4), (3, 1)))
    assert [order.corrections_of(number) for number in (1, 2, 3)] == [0, 4, 1]


def test_a_failing_version_tells_since_when():
    order = OrderState(3, HASH, 1, seen=7, failing=(Failing(4, 5, 10), Failing(7, 7, 20)))
    assert [order.failing_since(number) for number in range(3, 9)] == [None, 10, 10, None, 20, None]


# What was handed over of the orders in the list of one trekkpliktig


@pytest.mark.parametrize("handed_over", [NOT_HANDED_OVER, HandedOver(3, HASH, 1), HandedOver(2**32 - 1, HASH, 255)])
def test_what_was_handed_over_survives_a_round_trip(handed_over):
    state = TrekkpliktigState()
    assert b"A" not in state
    state.remember_all({b"A": handed_over})
    assert (state.handed_over(b"A"), len(state), list(state.keys())) == (handed_over, 1, [b"A"])
    assert b"A" in state


def test_an_order_that_was_never_shown_was_not_handed_over():
    assert TrekkpliktigState().handed_over(b"A") == NOT_HANDED_OVER


def test_orders_that_are_forgotten_stay_known_and_one_that_is_dropped_does_not():
    state = TrekkpliktigState()
    state.remember_all(dict.fromkeys((b"A", b"B", b"C"), HandedOver(1, HASH, 1)))
    state.drop(b"A")
    state.drop(b"Z")
    state.forget_handed_over()
    assert {key: state.handed_over(key) for key in list(state.keys())} == dict.fromkeys((b"B", b"C"), NOT_HANDED_OVER)


def test_what_was_handed_over_needs_little_memory():
    state = TrekkpliktigState()
    state.remember(b"A", HandedOver(3, HASH, 1))
    assert [len(packed) for packed in state._handed_over.values()] == [13]  # noqa: SLF001 - the size is the promise


def test_lane_state_makes_one_per_trekkpliktig_and_forgets_it_whole():
    state = LaneState()
    state.ensure(ONE).remember(b"A", HandedOver(3, HASH, 1))
    state.ensure(ONE).position = TrekkpliktigPosition(7)
    assert state.of(ONE).handed_over(b"A") == HandedOver(3, HASH, 1)
    assert [name for name, _ in state] == [ONE]
    state.forget(ONE)
    state.forget("nobody")
    assert len(state) == 0
    assert state.get(ONE) is None
    assert state.of(ONE).position == TrekkpliktigPosition()


# Ranges of versions
versions = st.integers(1, 30)
ranges = st.tuples(versions, versions).map(sorted).map(tuple)
reasons = st.sampled_from(["", "HTTP 404", "failing"])


def numbers(each_range):
    return {number for each in each_range for number in range(each.first, each.last + 1)}


def assert_sorted_and_merged(each_range, kind_of):
    assert all(each.first <= each.last for each in each_range)
    for before, after in itertools.pairwise(each_range):
        assert before.last < after.first
        assert before.last + 1 < after.first or kind_of(before) != kind_of(after)


@given(st.lists(st.tuples(st.none() | reasons, ranges), max_size=12))
def test_missing_ranges_hold_what_was_added_and_not_removed_with_the_last_reason(steps):
    missing, expected = (), {}
    for reason, (first, last) in steps:
        if reason is None:
            missing = without(missing, first, last)
            expected = {number: kept for number, kept in expected.items() if not first <= number <= last}
        else:
            missing = with_missing(missing, first, last, reason)
            expected |= dict.fromkeys(range(first, last + 1), reason)
        assert_sorted_and_merged(missing, lambda each: each.reason)
        found = {number: each.reason for each in missing for number in range(each.first, each.last + 1)}
        assert found == expected
        assert all(OrderState(missing=missing).is_missing(number) == (number in expected) for number in range(1, 31))


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), max_size=12))
def test_a_version_keeps_the_time_since_which_it_fails(steps):
    failing, expected = (), {}
    for trekkversjon, now in steps:
        failing = with_failing(failing, trekkversjon, now)
        expected.setdefault(trekkversjon, now)
        assert_sorted_and_merged(failing, lambda each: each.since)
        order = OrderState(failing=failing)
        assert {number: order.failing_since(number) for number in numbers(failing)} == expected


def test_a_range_of_ten_million_is_no_work_by_number():
    missing = with_missing((), 1, 10**7, "HTTP 404")
    missing = with_missing(missing, 5, 5, "HTTP 403")
    assert missing == (Missing(1, 4, "HTTP 404"), Missing(5, 5, "HTTP 403"), Missing(6, 10**7, "HTTP 404"))
    assert without(missing, 5, 10**7) == (Missing(1, 4, "HTTP 404"),)


# Whose topics these are
RECORDED = Identity(6, "app", "cluster", (TopicIdentity("t-versjoner", "v", 6), TopicIdentity("t-signals", "s", 6)))


def test_the_same_identity_has_no_differences():
    assert RECORDED.differences(RECORDED) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Identity(6, "other", "cluster", RECORDED.topics), "application id: recorded app, now other"),
        (Identity(6, "app", "moved", RECORDED.topics), "cluster id: recorded cluster, now moved"),
        (Identity(7, "app", "cluster", RECORDED.topics), "lanes: recorded 6, now 7"),
        (Identity(6, "app", "cluster", RECORDED.topics[:1]), "t-signals: recorded, and not there now"),
        (
            Identity(6, "app", "cluster", (*RECORDED.topics, TopicIdentity("t-new", "n", 6))),
            "t-new: not recorded",
        ),
        (
            Identity(6, "app", "cluster", (TopicIdentity("t-versjoner", "v", 7), RECORDED.topics[1])),
            "t-versjoner: recorded with 6 partitions, now 7",
        ),
        (
            Identity(6, "app", "cluster", (TopicIdentity("t-versjoner", "w", 6), RECORDED.topics[1])),
            "t-versjoner: made again since it was recorded",
        ),
    ],
)
def test_every_difference_of_identity_is_told(found, sentence):
    assert RECORDED.differences(found) == [sentence]


@pytest.mark.parametrize(
    ("found", "moved"),
    [
        (RECORDED, False),
        (Identity(6, "renamed", "cluster", RECORDED.topics), False),
        (Identity(6, "app", "another", RECORDED.topics), True),
        (Identity(6, "app", "cluster", (TopicIdentity("t-versjoner", "w", 6), RECORDED.topics[1])), True),
        (Identity(6, "app", "cluster", (RECORDED.topics[0], TopicIdentity("t-signals", "w", 6))), False),
    ],
)
def test_topics_have_moved_where_the_cluster_or_one_of_those_named_is_another(found, moved):
    assert RECORDED.has_moved(found, ["t-versjoner"]) is moved
