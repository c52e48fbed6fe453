"""Detection: what to publish, given what was published before."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import blake2b
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from producer.detect.detect import GAP_FAILING_MICROSECONDS_MAX, VERSION_JUMP_MAX, Context, detect, needed_versions

from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Failed,
    Gone,
    Origin,
    Rejected,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.identifiers import Foedselsnummer

TREKKPLIKTIG = "123456789"
NOW = 1_700_000_000_000_000
CONTEXT = Context(TREKKPLIKTIG, frozenset({TREKKPLIKTIG, "999999999"}), Origin.POLL, NOW)


def order(
    trekkid="A", trekkversjon=1, sekvensnummer=None, trekkpliktig=TREKKPLIKTIG, status=Trekkstatus.AKTIV, prosent="17"
):
    return Trekkpaalegg(
        trekkid=trekkid,
        trekkversjon=trekkversjon,
        sekvensnummer=sekvensnummer or trekkversjon * 10,
        opprettet=trekkversjon,
        saksnummer=None,
        trekkpliktig=trekkpliktig,
        skyldner=Foedselsnummer("10108412345"),
        trekkstatus=status,
        trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2025, 8, 10), None, None, Decimal(prosent)),),
        betalingsinformasjon=Betalingsinformasjon("971648199", "6487719756", "70213997155"),
        raw=b"{}",
    )


def rejected(trekkid="A", trekkversjon=1, sekvensnummer=None, raw=b"bad"):
    return Rejected(
        TREKKPLIKTIG,
        raw,
        blake2b(raw, digest_size=16).digest(),
        RejectionReason.INVALID_FIELD,
        "skyldner",
        "",
        trekkid,
        trekkversjon,
        sekvensnummer,
    )


class Lane:
    """Applies detections as a lane does after a commit, and keeps what was published."""

    def __init__(self):
        self.state = TrekkpliktigState()
        self.published = []
        self.quarantined = []

    def take(self, *elements, versions=None, **changes):
        context = msgspec.structs.replace(CONTEXT, **changes)
        return self.apply(detect(self.state, elements, versions or {}, context))

    def apply(self, found):
        self.state.remember_all(found.orders)
        self.state.position = TrekkpliktigPosition(found.position)
        self.published += [
            (p.trekkpaalegg.trekkid, p.trekkpaalegg.trekkversjon, p.origin.value, p.late, p.correction)
            for p in found.publications
        ]
        self.quarantined += [(r.trekkid, r.trekkversjon, r.reason) for r in found.rejected]
        return found

    def newest(self, trekkid="A"):
        return self.state.order(trekkid.encode()).trekkversjon

    def missing(self, trekkid="A"):
        return self.state.order(trekkid.encode()).missing


def published(trekkversjon, trekkid="A", origin="poll", late=False, correction=None):
    return (trekkid, trekkversjon, origin, late, correction)


# Detection: what to publish for one page, given what was published before


def test_first_version_is_published_and_moves_the_position():
    lane = Lane()
    lane.take(order(sekvensnummer=38))
    assert lane.published == [published(1)]
    assert lane.state.position.position == 38


def test_same_version_again_changes_nothing():
    lane = Lane()
    lane.take(order())
    found = lane.take(order())
    assert not found.changes_something


def test_amounts_written_differently_are_the_same_content():
    lane = Lane()
    lane.take(order(prosent="17"))
    assert not lane.take(order(prosent="17.00")).changes_something


def test_unknown_fields_raise_no_alarm():
    lane = Lane()
    lane.take(order())
    assert not lane.take(msgspec.structs.replace(order(), ukjente_felter={"nytt": "1"})).changes_something


def test_hole_is_filled_in_order_before_the_newer_version():
    lane = Lane()
    lane.take(order())
    newer = order(trekkversjon=4)
    assert needed_versions(lane.state, [newer]) == [("A", 2), ("A", 3)]
    lane.take(newer, versions={("A", 2): order(trekkversjon=2), ("A", 3): order(trekkversjon=3)})
    assert lane.published == [
        published(1),
        published(2, origin="gapfill"),
        published(3, origin="gapfill"),
        published(4),
    ]


def test_first_sight_at_a_later_version_brings_the_earlier_ones():
    lane = Lane()
    assert needed_versions(lane.state, [order(trekkversjon=3)]) == [("A", 1), ("A", 2)]


def test_gone_version_is_recorded_as_missing_and_published_late_when_it_turns_up():
    lane = Lane()
    lane.take(order(trekkversjon=2), versions={("A", 1): Gone()})
    assert lane.published == [published(2)]
    assert lane.missing() == ((1, 1),)
    found = lane.take(order(trekkversjon=1), origin=Origin.RECONCILE, moves_position=False)
    assert lane.published[1:] == [published(1, origin="reconcile", late=True)]
    assert found.publications[0].current is False
    assert lane.missing() == ()
    assert not lane.take(order(trekkversjon=1)).changes_something


def test_a_temporary_failure_ends_the_reading_before_the_hole_and_publishes_the_rest():
    lane = Lane()
    found = lane.take(
        order("A", 1, 10),
        order("B", 3, 20),
        order("C", 1, 30),
        versions={("B", 1): order("B", 1, 5), ("B", 2): Failed("503")},
    )
    assert found.stopped == Failed("503")
    assert lane.state.position.position == 10
    assert [p[:2] for p in lane.published] == [("A", 1), ("B", 1)]
    assert lane.newest("B") == 1
    lane.take(order("B", 3, 20), order("C", 1, 30), versions={("B", 2): order("B", 2, 15)})
    assert [p[:2] for p in lane.published[2:]] == [("B", 2), ("B", 3), ("C", 1)]
    assert lane.state.order(b"B").failing_since is None


def test_version_that_fails_for_a_day_is_recorded_as_missing():
    lane = Lane()
    versions = {("A", 1): Failed("503")}
    lane.take(order(trekkversjon=2), versions=versions)
    lane.take(order(trekkversjon=2), versions=versions, now=NOW + GAP_FAILING_MICROSECONDS_MAX)
    assert lane.published == []
    found = lane.take(order(trekkversjon=2), versions=versions, now=NOW + GAP_FAILING_MICROSECONDS_MAX + 1)
    assert lane.published == [published(2)]
    assert lane.missing() == ((1, 1),)
    assert found.tally.gaps_given_up == 1


def test_each_hole_has_a_day_of_its_own():
    """A hole below a rejected version that was given up must not shorten the day of the next one."""
    lane = Lane()
    late = NOW + GAP_FAILING_MICROSECONDS_MAX + 1
    failing = {("A", 1): Failed("503")}
    for now in (NOW, late):
        lane.take(rejected("A", 2, 20), versions=failing, now=now)
    assert lane.missing() == ((1, 2),)
    found = lane.take(order(trekkversjon=4), versions={("A", 3): Failed("503")}, now=late)
    assert found.stopped is not None
    assert lane.state.order(b"A").failing_since == late


def test_version_that_was_not_fetched_stops_rather_than_leaves_a_hole():
    lane = Lane()
    assert lane.take(order(trekkversjon=2)).stopped is not None
    assert lane.published == []


def test_jump_by_a_billion_is_quarantined_once_and_fetches_nothing():
    lane = Lane()
    lane.take(order())
    jump = order(trekkversjon=1_000_000_001, sekvensnummer=99)
    assert needed_versions(lane.state, [jump]) == []
    lane.take(jump)
    lane.take(jump)
    assert lane.quarantined == [("A", 1_000_000_001, RejectionReason.VERSION_JUMP)]
    assert lane.newest() == 1
    lane.take(order(trekkversjon=2, sekvensnummer=100))
    assert lane.published == [published(1), published(2)]


def test_changed_content_is_quarantined_once_and_not_published():
    lane = Lane()
    lane.take(order())
    lane.take(order(prosent="20"))
    lane.take(order(prosent="20"))
    assert lane.quarantined == [("A", 1, RejectionReason.CHANGED_CONTENT)]
    assert lane.published == [published(1)]
    assert not lane.take(order()).changes_something


def test_switch_to_avsluttet_alone_is_published_as_a_correction_at_once():
    lane = Lane()
    lane.take(order())
    found = lane.take(order(status=Trekkstatus.AVSLUTTET))
    assert lane.published[1:] == [published(1, correction=1)]
    assert found.publications[0].current
    assert not lane.take(order(status=Trekkstatus.AVSLUTTET)).changes_something


def test_switch_to_avsluttet_with_another_change_is_quarantined():
    lane = Lane()
    lane.take(order())
    lane.take(order(status=Trekkstatus.AVSLUTTET, prosent="18"))
    assert lane.quarantined == [("A", 1, RejectionReason.CHANGED_CONTENT)]


def test_a_hash_by_an_older_method_is_replaced_silently():
    lane = Lane()
    lane.state.remember(b"A", OrderState(1, b"oldhash.", CONTENT_HASH_VERSION - 1))
    found = lane.take(order())
    assert (found.publications, found.rejected) == ([], [])
    lane.take(order(prosent="20"))
    assert lane.quarantined == [("A", 1, RejectionReason.CHANGED_CONTENT)]


def test_order_of_another_trekkpliktig_of_ours_is_left_to_its_own_lane():
    lane = Lane()
    found = lane.take(order(trekkpliktig="999999999", sekvensnummer=7))
    assert (lane.published, found.tally.foreign_left, lane.state.position.position) == ([], 1, 7)


def test_order_of_an_unknown_trekkpliktig_is_published_and_counted():
    lane = Lane()
    found = lane.take(order(trekkpliktig="888888888"))
    assert lane.published == [published(1)]
    assert found.tally.foreign_published == 1


def test_an_order_that_moved_here_is_published_without_its_versions_elsewhere():
    lane = Lane()
    past = {("A", 1): order(trekkpliktig="999999999")}
    lane.take(order(trekkversjon=2), versions=past)
    assert lane.published == [published(2)]
    assert lane.missing() == ()


# Detection: a rejected element is quarantined once, and its version is published when the source corrects it


def test_rejected_element_is_quarantined_once_while_the_page_continues():
    lane = Lane()
    for _ in range(2):
        lane.take(order("B", 1, 5), rejected("A", 1, 7), order("C", 1, 9))
    assert lane.quarantined == [("A", 1, RejectionReason.INVALID_FIELD)]
    assert [p[:2] for p in lane.published] == [("B", 1), ("C", 1)]
    assert lane.state.position.position == 9
    assert lane.missing() == ((1, 1),)


def test_rejected_element_without_identity_is_quarantined_once():
    lane = Lane()
    for _ in range(2):
        lane.take(rejected(None, None, None))
    assert len(lane.quarantined) == 1


def test_a_rejected_version_is_published_in_its_turn_when_the_source_corrects_it():
    lane = Lane()
    lane.take(order())
    lane.take(rejected("A", 2, 20))
    lane.take(order(trekkversjon=2))
    assert lane.published[1:] == [published(2)]
    assert lane.missing() == ()


def test_rejected_version_is_published_late_when_a_newer_one_came_first():
    lane = Lane()
    lane.take(order())
    bad = rejected("A", 2, 20)
    lane.take(bad)
    lane.take(order(trekkversjon=3), versions={("A", 2): bad})
    lane.take(order(trekkversjon=2))
    assert lane.published[1:] == [published(3), published(2, late=True)]
    assert len(lane.quarantined) == 1


def test_versions_hidden_below_a_rejected_one_are_filled():
    lane = Lane()
    lane.take(order())
    assert needed_versions(lane.state, [rejected("A", 3, 30)]) == [("A", 2)]
    lane.take(rejected("A", 3, 30), versions={("A", 2): order(trekkversjon=2)})
    assert lane.published[1:] == [published(2, origin="gapfill")]
    assert lane.missing() == ((3, 3),)


# Detection: however the source is read, each version is published once, in order, and late if it was missing


@st.composite
def histories(draw):
    """Versions of several orders in the order they were made, and the moments when the source was read."""
    orders = draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=25))
    made, counts = [], {}
    for sekvensnummer, trekkid in enumerate(orders, start=1):
        counts[trekkid] = counts.get(trekkid, 0) + 1
        made.append(order(trekkid, counts[trekkid], sekvensnummer))
    reads = draw(st.lists(st.tuples(st.integers(0, len(made)), st.booleans(), st.randoms()), max_size=12))
    return made, sorted(reads, key=lambda read: read[0])


@given(histories(), st.data())
def test_each_version_comes_once_and_in_order_however_the_source_is_read(history, data):
    """Any order of answers, repeats, holes, passing failures and versions gone for a while."""
    made, reads = history
    by_number = {(version.trekkid, version.trekkversjon): version for version in made}
    lane = Lane()
    for visible, fails, random in [*reads, (len(made), False, None), (len(made), False, None)]:
        newest = {version.trekkid: version for version in made[:visible]}
        elements = sorted(newest.values(), key=lambda version: version.sekvensnummer)
        if random is not None and elements:
            elements = sorted(random.choices(elements, k=2 * len(elements)), key=lambda version: version.sekvensnummer)
        answers = {
            need: data.draw(st.sampled_from([by_number[need], Failed("503")])) if fails else by_number[need]
            for need in needed_versions(lane.state, elements)
        }
        lane.take(*elements, versions=answers)
    assert sorted(p[:2] for p in lane.published) == sorted(by_number)
    for trekkid in "ABCD":
        versions = [p[1] for p in lane.published if p[0] == trekkid]
        assert versions == list(range(1, len(versions) + 1))
    assert lane.quarantined == []


@given(histories(), st.data())
def test_gone_versions_are_published_late_once_they_can_be_fetched(history, data):
    """Nothing is lost when the source hides old versions for a while: reconcile brings them, marked late."""
    made, reads = history
    by_number = {(version.trekkid, version.trekkversjon): version for version in made}
    lane = Lane()
    for visible, hides, _ in [*reads, (len(made), True, None)]:
        newest = {version.trekkid: version for version in made[:visible]}
        elements = sorted(newest.values(), key=lambda version: version.sekvensnummer)
        answers = {
            need: data.draw(st.sampled_from([by_number[need], Gone()])) if hides else by_number[need]
            for need in needed_versions(lane.state, elements)
        }
        lane.take(*elements, versions=answers)
    missing = [(key.decode(), v) for key, first, last in list(lane.state.missing()) for v in range(first, last + 1)]
    lane.take(*[by_number[version] for version in missing], origin=Origin.RECONCILE, moves_position=False)
    assert sorted(p[:2] for p in lane.published) == sorted(by_number)
    assert list(lane.state.missing()) == []
    assert all(p[3] == (p[:2] in missing) for p in lane.published)


# Detection, edge cases: versions fetched by number, jumps, rejected elements among good ones, and the counts
ONE, TWO = "311111111", "322222222"
CONTEXT_OF_TWO = Context(ONE, frozenset({ONE, TWO}), Origin.POLL, 1_790_000_000_000_000)
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)


def version(trekkversjon=1, trekkid="A", amount=100, **changes):
    periode = msgspec.structs.replace(TEMPLATE.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(amount))
    named = {"trekkid": trekkid, "trekkversjon": trekkversjon, "sekvensnummer": 10 * trekkversjon}
    return msgspec.structs.replace(TEMPLATE, **{**named, "trekkstoerrelse_for_periode": (periode,), **changes})


def rejected_version(trekkversjon=1, trekkid="A", raw=b"bad", sekvensnummer=None):
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
        found = detect(self.state, elements, versions or {}, CONTEXT_OF_TWO)
        self.state.remember_all(found.orders)
        self.state.position = TrekkpliktigPosition(found.position)
        return found

    @property
    def order(self):
        return self.state.order(b"A")


def published_versions(found):
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
    desk.take(rejected_version(2))
    assert needed_versions(desk.state, [version(3)]) == [("A", 2)]


def test_versions_known_to_be_missing_are_not_requested_by_a_rejected_one():
    desk = Desk(of(1, missing=((2, 3),)))
    assert needed_versions(desk.state, [rejected_version(5)]) == [("A", 4)]


def test_element_without_identity_wants_nothing():
    assert needed_versions(TrekkpliktigState(), [rejected_version(7, None), rejected_version(None)]) == []


@pytest.mark.parametrize(("ahead", "wanted"), [(1, 0), (2, 1), (VERSION_JUMP_MAX, 999), (VERSION_JUMP_MAX + 1, 0)])
def test_jump_up_to_a_thousand_is_believed(ahead, wanted):
    desk = Desk(of(1))
    for element in (version(1 + ahead), rejected_version(1 + ahead)):
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
    assert len(desk.take(rejected_version(1 + ahead), versions=gone).rejected) == 1
    assert desk.order.missing == (((2, 1 + ahead),) if believed else ())


elements = st.lists(
    st.one_of(
        st.builds(version, st.integers(1, 8), st.sampled_from("AB")),
        st.builds(
            rejected_version,
            st.integers(1, 8) | st.none(),
            st.sampled_from("AB") | st.none(),
            st.sampled_from([b"x", b"y"]),
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
        found = detect(state, page, {wanted: answer(*wanted) for wanted in needed}, CONTEXT_OF_TWO)
        assert found.stopped is None
        assert len({(p.trekkpaalegg.trekkid, p.trekkpaalegg.trekkversjon) for p in found.publications}) == len(
            found.publications
        )


# Position


def test_position_is_not_moved_by_a_rejected_element_nor_back_by_an_older_one():
    desk = Desk()
    desk.take(
        version(1, sekvensnummer=38),
        rejected_version(1, "B", sekvensnummer=99),
        rejected_version(None, None, sekvensnummer=10**12),
    )
    assert desk.state.position.position == 38
    desk.take(version(1, "C", sekvensnummer=5))
    assert desk.state.position.position == 38


# Rejected elements among good ones


@pytest.mark.parametrize("number", [1, 2])
def test_rejected_copy_of_a_published_version_is_no_gap(number):
    desk = Desk(of(2))
    assert len(desk.take(rejected_version(number)).rejected) == 1
    assert (desk.order.missing, desk.order.trekkversjon) == ((), 2)


def test_rejected_element_that_comes_again_changes_nothing():
    desk = Desk(of(1))
    desk.take(rejected_version(2))
    assert not desk.take(rejected_version(2)).changes_something


def test_version_known_to_be_missing_that_cannot_be_fetched_now_does_not_stop_the_newer_one():
    desk = Desk(of(1))
    desk.take(rejected_version(2))
    found = desk.take(version(3), versions={("A", 2): Failed("503")})
    assert (found.stopped, published_versions(found)) == (None, [3])
    assert desk.order.missing == ((2, 2),)
    assert found.tally.gaps_given_up == 0


def test_missing_version_that_is_rejected_in_another_way_is_quarantined_again():
    desk = Desk(of(1))
    desk.take(rejected_version(2, raw=b"bad"))
    found = desk.take(version(3), versions={("A", 2): rejected_version(2, raw=b"bad otherwise")})
    assert [each.raw for each in found.rejected] == [b"bad otherwise"]
    assert desk.order.missing == ((2, 2),)


def test_version_between_that_was_rejected_is_quarantined_once_though_the_reading_stops_behind_it():
    desk = Desk()
    answers = {("A", 1): rejected_version(1), ("A", 2): Failed("503")}
    assert len(desk.take(version(3), versions=answers).rejected) == 1
    assert desk.take(version(3), versions=answers).rejected == []
    answers[("A", 2)] = version(2)
    found = desk.take(version(3), versions=answers)
    assert (published_versions(found), found.rejected) == ([2, 3], [])


def test_memory_of_what_was_rejected_outlives_newer_versions():
    desk = Desk(of(1))
    desk.take(rejected_version(1))
    desk.take(version(2))
    assert desk.take(rejected_version(1)).rejected == []


# Content


def test_number_of_corrections_outlives_newer_versions():
    desk = Desk(of(1))
    desk.take(version(1, trekkstatus=Trekkstatus.AVSLUTTET))
    desk.take(version(2))
    assert desk.order.corrections == ((1, 1),)


def test_an_equal_hash_by_an_older_method_is_updated_too():
    desk = Desk(OrderState(1, content_hash(version(1)), CONTENT_HASH_VERSION - 1))
    desk.take(version(1))
    assert desk.order == of(1)


def test_switch_to_another_status_than_avsluttet_is_a_changed_content():
    desk = Desk(of(1))
    unknown = version(1, trekkstatus=Trekkstatus.UKJENT, ukjente_felter={"trekkstatus": '"pauset"'})
    found = desk.take(unknown)
    assert (published_versions(found), [each.reason for each in found.rejected]) == (
        [],
        [RejectionReason.CHANGED_CONTENT],
    )


def test_switch_back_from_avsluttet_is_a_changed_content():
    desk = Desk()
    desk.take(version(1, trekkstatus=Trekkstatus.AVSLUTTET))
    found = desk.take(version(1))
    assert (published_versions(found), len(found.rejected)) == ([], 1)


# Counts


def test_holes_and_changes_are_counted_once():
    desk = Desk()
    tally = desk.take(version(3), versions={("A", 1): Gone(), ("A", 2): version(2)}).tally
    assert (tally.gaps_missing, tally.gaps_filled, tally.gaps_given_up) == (1, 1, 0)
    assert desk.take(version(3, amount=7)).tally.changed_content == 1
    assert desk.take(version(3, amount=7)).tally.changed_content == 0
