"""The state of a home made again from its history: as it was, but for what only the home knew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from producer.detect.decide import VERSION_JUMP_MAX, decide
from producer.detect.rebuild import RebuiltOrders
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.observation import Observation
from producer.domain.state import NO_ORDER, Failing, Missing, OrderState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected, RejectionReason, Trekkstatus
from tests.kit.versions import TREKKPLIKTIG, rejected_version, version

NOW = 1_790_000_000_000_000
OTHER = "322222222"


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
    missing = (Missing(1, 1, "unknown"), Missing(3, 4, "unknown"))
    assert order_of(rebuilt(2, 5, 7, 6)) == of(7, missing=missing, readers=(TREKKPLIKTIG,))


def test_versions_that_are_missing_are_asked_for_as_all_whom_the_events_name():
    orders = rebuilt(1, 3)
    orders.add_event(version(4, trekkpliktig=OTHER), None)
    assert order_of(orders).readers == (TREKKPLIKTIG, OTHER)
    orders.add_event(version(2), None)
    assert order_of(orders) == OrderState(4, content_hash(version(4, trekkpliktig=OTHER)), CONTENT_HASH_VERSION)


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
        orders.add_rejected(b"A", b"%d" % number, number, OTHER)
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
        readers=(TREKKPLIKTIG, OTHER),
    )


def test_rejected_record_that_shows_no_version_is_only_remembered():
    orders = rebuilt(1)
    orders.add_rejected(b"A", b"x", None, OTHER)
    orders.add_rejected(b"A", b"x", None, OTHER)
    orders.add_rejected(b"A", b"y", 2 + VERSION_JUMP_MAX, OTHER)
    orders.add_rejected(b"#0f", b"\x0f", None, OTHER)
    book = orders.orders()
    assert book.order(b"A") == of(1, rejected=(b"x", b"y"))
    assert book.order(b"#0f") == OrderState(rejected=(b"\x0f",))


def test_history_whose_begin_is_cut_off_counts_what_it_lacks_before_as_published():
    order = order_of(rebuilt(4, 6, is_whole=False))
    assert order == of(6, missing=(Missing(5, 5, "unknown"),), readers=(TREKKPLIKTIG,))
    orders = rebuilt(is_whole=False)
    orders.add_event(version(9), None)
    orders.add_event(version(9), None)
    assert order_of(orders) == of(9)


# What a former state recorded as open

GONE = "HTTP 404"


def after(former, *numbers, is_whole=True):
    orders = RebuiltOrders(is_whole=is_whole)
    orders.add_former(b"A", former)
    for number in numbers:
        orders.add_event(version(number), None)
    return order_of(orders)


def test_what_a_former_state_says_is_published_does_not_count():
    assert after(OrderState(9, b"12345678", 1)) == NO_ORDER
    assert after(OrderState(9, b"12345678", 1), 1, 2) == of(2)
    orders = RebuiltOrders()
    orders.add_former(b"A", OrderState(9, b"12345678", 1))
    assert list(orders.orders()) == []


def test_versions_stay_missing_for_their_reason_unless_the_history_has_them():
    former = OrderState(6, b"12345678", 1, missing=(Missing(2, 4, GONE), Missing(8, 8, "rejected")), readers=(OTHER,))
    order = after(former, 1, 3, 6)
    missing = (Missing(2, 2, GONE), Missing(4, 4, GONE), Missing(5, 5, "unknown"), Missing(8, 8, "rejected"))
    assert order == of(6, missing=missing, readers=(OTHER, TREKKPLIKTIG))


def test_what_is_open_is_asked_for_at_once_if_it_is_not_what_it_was():
    former = OrderState(3, b"12345678", 1, missing=(Missing(2, 2, GONE),), readers=(TREKKPLIKTIG,), tried_at=99)
    assert after(former, 1, 3) == replace(former, content_hash=content_hash(version(3)))
    assert after(former, 1, 3, 5).tried_at is None


def test_versions_below_the_first_of_a_history_that_is_cut_off_stay_missing():
    former = OrderState(6, b"12345678", 1, missing=(Missing(2, 4, GONE),), readers=(OTHER,))
    order = after(former, 6, 3, is_whole=False)
    assert order == of(6, missing=(Missing(2, 2, GONE), Missing(4, 4, GONE)), readers=(OTHER, TREKKPLIKTIG))


def test_what_was_waited_for_is_waited_for_until_the_history_has_it():
    failing = (Failing(3, 3, 77), Failing(4, 4, 88))
    former = OrderState(2, b"12345678", 1, seen=5, failing=failing, readers=(OTHER,), tried_at=99)
    waits = {"seen": 5, "readers": (OTHER, TREKKPLIKTIG), "tried_at": 99}
    assert after(former, 1, 2) == of(2, failing=failing, **waits)
    assert after(former, 1, 2, 3) == of(3, failing=failing[1:], **waits)
    assert after(former, 1, 2, 3, 4, 5) == of(5)


def test_rejected_elements_stay_known_when_their_records_are_gone():
    former = OrderState(0, missing=(Missing(1, 1, "rejected"),), rejected=(b"x",), readers=(OTHER,))
    assert after(former) == former
    assert after(OrderState(4, rejected=(b"x",)), 1) == of(1, rejected=(b"x",))


def test_corrections_of_which_the_events_are_gone_still_count():
    former = OrderState(4, b"12345678", 1, corrections=((2, 3),))
    assert after(former, 1, 2).corrections == ()
    assert after(former, 3, is_whole=False).corrections == ((2, 3),)


def test_several_lists_of_the_former_layout_recorded_the_same_order():
    orders = RebuiltOrders()
    orders.add_former(b"A", OrderState(4, missing=(Missing(1, 2),), rejected=(b"x",)))
    orders.add_former(b"A", OrderState(2, missing=(Missing(2, 2), Missing(5, 5)), rejected=(b"x", b"y")))
    orders.add_event(version(1), None)
    expected = of(1, missing=(Missing(2, 2), Missing(5, 5)), rejected=(b"x", b"y"), readers=(TREKKPLIKTIG,))
    assert order_of(orders) == expected


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
    """But for reasons, and without the former state for versions above the newest: the history may say nothing of them.

    With the former state it is the same for them too, and what it waits for.
    """
    order, added = NO_ORDER, []
    for element, plan in history:
        observation, versions = Observation(b"A", TREKKPLIKTIG, Origin.POLL, element), {}
        made = {number: version(number) if kind == "version" else Failed("503") for number, kind in plan.items()}
        while (found := decide(order, observation, versions, NOW)).wanted:
            versions |= {number: made.get(number, Gone()) for number in found.wanted}
        added += [*found.publications, *found.rejected]
        order = found.order
    without, with_former = RebuiltOrders(), RebuiltOrders()
    with_former.add_former(b"A", order)
    for orders in (without, with_former):
        for each in added:
            if isinstance(each, Rejected):
                shows = each.reason is not RejectionReason.VERSION_JUMP
                orders.add_rejected(b"A", each.raw_hash, each.trekkversjon if shows else None, TREKKPLIKTIG)
            else:
                orders.add_event(each.trekkpaalegg, each.correction)
        same = order_of(orders)
        assert (same.trekkversjon, same.content_hash) == (order.trekkversjon, order.content_hash)
        assert (same.corrections, same.rejected) == (order.corrections, order.rejected)
        for number in range(1, order.trekkversjon + (2 * VERSION_JUMP_MAX if orders is with_former else 0)):
            assert same.is_missing(number) == order.is_missing(number)
    assert (same.seen, same.failing, same.readers) == (order.seen, order.failing, order.readers)
