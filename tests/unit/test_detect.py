"""Detection: what one answer, compared with what was published, leads to."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import blake2b

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from producer.detect import GAP_FAILING_MICROSECONDS_MAX, detect, needed_versions
from producer.domain.content import CONTENT_HASH_VERSION
from producer.domain.detection import Context
from producer.domain.identifiers import Foedselsnummer
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


def test_passing_failure_stops_before_the_hole_with_what_came_before_published():
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


def test_hash_by_an_older_method_is_replaced_in_silence():
    lane = Lane()
    lane.state.remember(b"A", OrderState(1, b"oldhash.", CONTENT_HASH_VERSION - 1))
    found = lane.take(order())
    assert (found.publications, found.rejected) == ([], [])
    lane.take(order(prosent="20"))
    assert lane.quarantined == [("A", 1, RejectionReason.CHANGED_CONTENT)]


def test_rejected_element_is_quarantined_once_while_the_page_goes_on():
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


def test_rejected_version_is_published_in_its_turn_when_the_source_mends_it():
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


def test_order_of_another_trekkpliktig_of_ours_is_left_to_its_own_lane():
    lane = Lane()
    found = lane.take(order(trekkpliktig="999999999", sekvensnummer=7))
    assert (lane.published, found.tally.foreign_left, lane.state.position.position) == ([], 1, 7)


def test_order_of_an_unknown_trekkpliktig_is_published_and_counted():
    lane = Lane()
    found = lane.take(order(trekkpliktig="888888888"))
    assert lane.published == [published(1)]
    assert found.tally.foreign_published == 1


def test_order_that_moved_here_is_published_without_its_past_elsewhere():
    lane = Lane()
    past = {("A", 1): order(trekkpliktig="999999999")}
    lane.take(order(trekkversjon=2), versions=past)
    assert lane.published == [published(2)]
    assert lane.missing() == ()


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
def test_gone_versions_are_published_late_once_they_can_be_had(history, data):
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
