"""The state of a home made again from its history: as it was, but for what only the home knew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.detect.decide import VERSION_JUMP_MAX, decide
from producer.detect.rebuild import RebuiltOrders
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.observation import Observation
from producer.domain.state import NO_ORDER, Missing, OrderState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, RejectionReason, Trekkstatus
from tests.kit.versions import TREKKPLIKTIG, rejected_version, version

NOW = 1_790_000_000_000_000


def of(newest, **changes):
    return OrderState(newest, content_hash(version(newest)), CONTENT_HASH_VERSION, **changes)


def rebuilt(*numbers, is_whole=True):
    orders = RebuiltOrders(is_whole=is_whole)
    for number in numbers:
        orders.add_event(version(number), None)
    return orders


def order_of(orders):
    return orders.orders().order(b"A")


def test_newest_version_is_found_and_what_lies_between_is_missing():
    assert order_of(rebuilt(1, 2, 3)) == of(3)
    assert order_of(rebuilt(2, 5, 7, 6)) == of(7, missing=(Missing(1, 1, "unknown"), Missing(3, 4, "unknown")))


def test_order_of_another_key_stands_for_itself():
    orders = rebuilt(1)
    orders.add_event(version(1, trekkid="B"), None)
    book = orders.orders()
    assert sorted(book) == [b"A", b"B"]
    assert book.order(b"B").content_hash == content_hash(version(1, trekkid="B"))


def test_corrections_count_and_those_of_the_newest_version_are_its_content():
    orders = rebuilt(1, 2)
    orders.add_event(version(1, 7), 1)
    orders.add_event(version(2, 8), 1)
    orders.add_event(version(2, 9), 2)
    order = order_of(orders)
    assert (order.corrections, order.content_hash) == (((1, 1), (2, 2)), content_hash(version(2, 9)))
    assert not order.is_open


def test_rejected_versions_are_missing_unless_they_were_published():
    orders = RebuiltOrders()
    for number in (1, 3, 6):
        orders.add_rejected(b"A", b"%d" % number, number)
    for number in (1, 4):
        orders.add_event(version(number), None)
    assert order_of(orders) == of(
        4,
        missing=(
            Missing(2, 2, "unknown"),
            Missing(3, 3, "rejected"),
            Missing(5, 5, "unknown"),
            Missing(6, 6, "rejected"),
        ),
        rejected=(b"1", b"3", b"6"),
    )


def test_rejected_record_that_shows_no_version_is_only_remembered():
    orders = rebuilt(1)
    orders.add_rejected(b"A", b"x", None)
    orders.add_rejected(b"A", b"x", None)
    orders.add_rejected(b"A", b"y", 2 + VERSION_JUMP_MAX)
    orders.add_rejected(b"#0f", b"\x0f", None)
    book = orders.orders()
    assert book.order(b"A") == of(1, rejected=(b"x", b"y"))
    assert book.order(b"#0f") == OrderState(rejected=(b"\x0f",))


def test_history_whose_begin_is_cut_off_counts_what_it_lacks_before_as_published():
    assert order_of(rebuilt(4, 6, is_whole=False)) == of(6, missing=(Missing(5, 5, "unknown"),))
    orders = rebuilt(is_whole=False)
    orders.add_event(version(9), None)
    orders.add_event(version(9), None)
    assert order_of(orders) == of(9)


numbers = st.integers(1, 6)
elements = st.one_of(
    st.builds(version, numbers),
    st.builds(version, numbers, st.just(200)),
    st.builds(lambda number: version(number, trekkstatus=Trekkstatus.AVSLUTTET), numbers),
    st.builds(rejected_version, numbers, st.sampled_from([b"x", b"y"])),
)
answers = st.dictionaries(numbers, st.sampled_from(["version", "failed"]))


@given(st.lists(st.tuples(elements, answers), max_size=10))
def test_rebuilt_state_is_the_one_that_was_decided(history):
    """But for reasons, and for versions above the newest one: of those there may be no trace in the history."""
    order, orders = NO_ORDER, RebuiltOrders()
    for element, plan in history:
        observation, versions = Observation(b"A", TREKKPLIKTIG, Origin.POLL, element), {}
        made = {number: version(number) if kind == "version" else Failed("503") for number, kind in plan.items()}
        while (found := decide(order, observation, versions, NOW)).wanted:
            versions |= {number: made.get(number, Gone()) for number in found.wanted}
        for each in found.publications:
            orders.add_event(each.trekkpaalegg, each.correction)
        for each in found.rejected:
            shows = each.reason is not RejectionReason.VERSION_JUMP
            orders.add_rejected(b"A", each.raw_hash, each.trekkversjon if shows else None)
        order = found.order
    same = order_of(orders)
    assert (same.trekkversjon, same.content_hash, same.corrections) == (
        order.trekkversjon,
        order.content_hash,
        order.corrections,
    )
    assert same.rejected == order.rejected
    for number in range(1, order.trekkversjon):
        assert same.is_missing(number) == order.is_missing(number)
