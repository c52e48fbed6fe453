"""Detection, edge cases: versions fetched by number, jumps, rejected elements among good ones, and the counts."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.detect.detect import VERSION_JUMP_MAX, Context, detect, needed_versions
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected, RejectionReason, Trekkstatus
from tests.kit.fakes.source import make_trekkpaalegg

ONE, TWO = "311111111", "322222222"
CONTEXT = Context(ONE, frozenset({ONE, TWO}), Origin.POLL, 1_790_000_000_000_000)
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)


def version(trekkversjon=1, trekkid="A", amount=100, **changes):
    periode = msgspec.structs.replace(TEMPLATE.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(amount))
    named = {"trekkid": trekkid, "trekkversjon": trekkversjon, "sekvensnummer": 10 * trekkversjon}
    return msgspec.structs.replace(TEMPLATE, **{**named, "trekkstoerrelse_for_periode": (periode,), **changes})


def rejected(trekkversjon=1, trekkid="A", raw=b"bad", sekvensnummer=None):
    number = sekvensnummer or 10 * (trekkversjon or 1)
    reason = RejectionReason.INVALID_FIELD
    return Rejected(ONE, raw, raw.ljust(16), reason, "skyldner", "", trekkid, trekkversjon, number)


class Desk:
    """A state, and what each detection on it led to."""

    def __init__(self, order=None):
        self.state = TrekkpliktigState()
        if order is not None:
            self.state.remember(b"A", order)

    def take(self, *elements, versions=None):
        found = detect(self.state, elements, versions or {}, CONTEXT)
        self.state.remember_all(found.orders)
        self.state.position = TrekkpliktigPosition(found.position)
        return found

    @property
    def order(self):
        return self.state.order(b"A")


def published(found):
    return [each.trekkpaalegg.trekkversjon for each in found.publications]


def of(newest, **changes):
    return OrderState(newest, content_hash(version(newest)), CONTENT_HASH_VERSION, **changes)


# Versions fetched by number


def test_versions_of_one_order_in_one_page_want_only_what_is_between_them():
    state = TrekkpliktigState()
    assert needed_versions(state, [version(2), version(5)]) == [("A", 1), ("A", 3), ("A", 4)]
    assert needed_versions(state, [version(2), version(3), version(4)]) == [("A", 1)]
    assert needed_versions(state, [version(3), version(3), version(2)]) == [("A", 1), ("A", 2)]
    state.remember(b"A", of(1))
    assert needed_versions(state, [version(2), version(4)]) == [("A", 3)]


def test_version_that_was_rejected_is_requested_again_when_a_good_one_follows_it():
    desk = Desk(of(1))
    desk.take(rejected(2))
    assert needed_versions(desk.state, [version(3)]) == [("A", 2)]


def test_versions_known_to_be_missing_are_not_requested_by_a_rejected_one():
    desk = Desk(of(1, missing=((2, 3),)))
    assert needed_versions(desk.state, [rejected(5)]) == [("A", 4)]


def test_element_without_identity_wants_nothing():
    assert needed_versions(TrekkpliktigState(), [rejected(7, None), rejected(None)]) == []


@pytest.mark.parametrize(("ahead", "wanted"), [(1, 0), (2, 1), (VERSION_JUMP_MAX, 999), (VERSION_JUMP_MAX + 1, 0)])
def test_jump_up_to_a_thousand_is_believed(ahead, wanted):
    desk = Desk(of(1))
    for element in (version(1 + ahead), rejected(1 + ahead)):
        assert len(needed_versions(desk.state, [element])) == wanted
    gone = {("A", number): Gone() for number in range(2, 1 + ahead)}
    found = desk.take(version(1 + ahead), versions=gone)
    believed = ahead <= VERSION_JUMP_MAX
    assert desk.order.trekkversjon == (1 + ahead if believed else 1)
    assert found.tally.version_jumps == (0 if believed else 1)


@pytest.mark.parametrize(("ahead", "believed"), [(VERSION_JUMP_MAX, True), (VERSION_JUMP_MAX + 1, False)])
def test_rejected_version_beyond_a_thousand_is_quarantined_and_nothing_more(ahead, believed):
    desk = Desk(of(1))
    gone = {("A", number): Gone() for number in range(2, 1 + ahead)}
    assert len(desk.take(rejected(1 + ahead), versions=gone).rejected) == 1
    assert desk.order.missing == (((2, 1 + ahead),) if believed else ())


elements = st.lists(
    st.one_of(
        st.builds(version, st.integers(1, 8), st.sampled_from("AB")),
        st.builds(
            rejected, st.integers(1, 8) | st.none(), st.sampled_from("AB") | st.none(), st.sampled_from([b"x", b"y"])
        ),
    ),
    max_size=6,
)
orders = st.builds(
    OrderState,
    st.integers(0, 5),
    st.just(bytes(8)),
    st.just(0),
    st.lists(st.integers(1, 8), max_size=3).map(lambda numbers: tuple((n, n) for n in sorted(set(numbers)))),
)


@given(elements, orders, orders)
def test_the_fetched_versions_are_those_that_detection_needs(page, order_a, order_b):
    """Nothing that is not needed, nothing twice; with every answer there, detection never stops for want of one."""
    state = TrekkpliktigState()
    state.remember(b"A", order_a)
    state.remember(b"B", order_b)
    needed = needed_versions(state, page)
    assert len(set(needed)) == len(needed)
    assert all(number > state.newest(trekkid.encode()) for trekkid, number in needed)
    for answer in (lambda trekkid, number: version(number, trekkid), lambda *_: Gone()):
        found = detect(state, page, {wanted: answer(*wanted) for wanted in needed}, CONTEXT)
        assert found.stopped is None
        assert len({(p.trekkpaalegg.trekkid, p.trekkpaalegg.trekkversjon) for p in found.publications}) == len(
            found.publications
        )


# Position


def test_position_is_not_moved_by_a_rejected_element_nor_back_by_an_older_one():
    desk = Desk()
    desk.take(
        version(1, sekvensnummer=38), rejected(1, "B", sekvensnummer=99), rejected(None, None, sekvensnummer=10**12)
    )
    assert desk.state.position.position == 38
    desk.take(version(1, "C", sekvensnummer=5))
    assert desk.state.position.position == 38


# Rejected elements among good ones


@pytest.mark.parametrize("number", [1, 2])
def test_rejected_copy_of_a_published_version_is_no_gap(number):
    desk = Desk(of(2))
    assert len(desk.take(rejected(number)).rejected) == 1
    assert (desk.order.missing, desk.order.trekkversjon) == ((), 2)


def test_rejected_element_that_comes_again_changes_nothing():
    desk = Desk(of(1))
    desk.take(rejected(2))
    assert not desk.take(rejected(2)).changes_something


def test_version_known_to_be_missing_that_cannot_be_fetched_now_does_not_stop_the_newer_one():
    desk = Desk(of(1))
    desk.take(rejected(2))
    found = desk.take(version(3), versions={("A", 2): Failed("503")})
    assert (found.stopped, published(found)) == (None, [3])
    assert desk.order.missing == ((2, 2),)
    assert found.tally.gaps_given_up == 0


def test_missing_version_that_is_rejected_in_another_way_is_quarantined_again():
    desk = Desk(of(1))
    desk.take(rejected(2, raw=b"bad"))
    found = desk.take(version(3), versions={("A", 2): rejected(2, raw=b"bad otherwise")})
    assert [each.raw for each in found.rejected] == [b"bad otherwise"]
    assert desk.order.missing == ((2, 2),)


def test_version_between_that_was_rejected_is_quarantined_once_though_the_reading_stops_behind_it():
    desk = Desk()
    answers = {("A", 1): rejected(1), ("A", 2): Failed("503")}
    assert len(desk.take(version(3), versions=answers).rejected) == 1
    assert desk.take(version(3), versions=answers).rejected == []
    answers[("A", 2)] = version(2)
    found = desk.take(version(3), versions=answers)
    assert (published(found), found.rejected) == ([2, 3], [])


def test_memory_of_what_was_rejected_outlives_newer_versions():
    desk = Desk(of(1))
    desk.take(rejected(1))
    desk.take(version(2))
    assert desk.take(rejected(1)).rejected == []


# Content


def test_number_of_corrections_outlives_newer_versions():
    desk = Desk(of(1))
    desk.take(version(1, trekkstatus=Trekkstatus.AVSLUTTET))
    desk.take(version(2))
    assert desk.order.corrections == ((1, 1),)


def test_hash_by_an_older_method_is_brought_up_to_date_also_where_it_is_the_same():
    desk = Desk(OrderState(1, content_hash(version(1)), CONTENT_HASH_VERSION - 1))
    desk.take(version(1))
    assert desk.order == of(1)


def test_switch_to_another_status_than_avsluttet_is_a_changed_content():
    desk = Desk(of(1))
    unknown = version(1, trekkstatus=Trekkstatus.UKJENT, ukjente_felter={"trekkstatus": '"pauset"'})
    found = desk.take(unknown)
    assert (published(found), [each.reason for each in found.rejected]) == ([], [RejectionReason.CHANGED_CONTENT])


def test_switch_back_from_avsluttet_is_a_changed_content():
    desk = Desk()
    desk.take(version(1, trekkstatus=Trekkstatus.AVSLUTTET))
    found = desk.take(version(1))
    assert (published(found), len(found.rejected)) == ([], 1)


# Counts


def test_holes_and_changes_are_counted_once():
    desk = Desk()
    tally = desk.take(version(3), versions={("A", 1): Gone(), ("A", 2): version(2)}).tally
    assert (tally.gaps_missing, tally.gaps_filled, tally.gaps_given_up) == (1, 1, 0)
    assert desk.take(version(3, amount=7)).tally.changed_content == 1
    assert desk.take(version(3, amount=7)).tally.changed_content == 0
