"""Detection: a rejected element is quarantined once, and its version is published when the source corrects it."""

from __future__ import annotations

from producer.detect.detect import needed_versions
from producer.domain.trekkpaalegg import RejectionReason
from tests.unit.detections import Lane, order, published, rejected


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
