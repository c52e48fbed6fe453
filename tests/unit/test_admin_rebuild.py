"""Whose state may be made again from the history."""

from __future__ import annotations

from msgspec.structs import replace

from producer.admin.rebuild import recorded_fault
from producer.domain.identity import Identity, TopicIdentity

OURS = Identity(2, "app", "cluster", (TopicIdentity("t-versjoner", "id", 2),))
ELSEWHERE = replace(OURS, cluster_id="former")
OTHERS = replace(OURS, application_id="other")


def test_a_state_that_is_ours_is_made_again_and_so_is_one_that_nobody_recorded() -> None:
    for recorded in ([OURS, OURS], [None, OURS], [None, None]):
        assert recorded_fault(recorded, OURS) is None


def test_topics_that_can_be_adopted_are_adopted_first() -> None:
    for other in (ELSEWHERE, OTHERS):
        fault = recorded_fault([OURS, other], OURS)
        assert fault is not None
        assert "run `trekkpaalegg-producer topics adopt`" in fault


def test_where_a_part_is_lost_moved_topics_are_no_fault_but_another_application_is() -> None:
    assert recorded_fault([None, ELSEWHERE], OURS) is None
    fault = recorded_fault([None, OTHERS], OURS)
    assert fault is not None
    assert "with TREKKPAALEGG_APPLICATION_ID=other, then run `trekkpaalegg-producer topics adopt` as app" in fault
