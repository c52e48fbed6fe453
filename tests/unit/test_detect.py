"""Detection: what to publish for one page, given what was published before."""

from __future__ import annotations

import msgspec

from producer.detect.detect import GAP_FAILING_MICROSECONDS_MAX, needed_versions
from producer.domain.content import CONTENT_HASH_VERSION
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, RejectionReason, Trekkstatus
from tests.unit.detections import NOW, Lane, order, published, rejected


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
