"""Asked for instead of called: the producer pulls the simulated Altinn's events, and hardly polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.altinn.state import ApiFault, Behaviour

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.control.world import OutsideWorld
    from tests.kit.processes import ProducerProcess

pytestmark = pytest.mark.kafka

TOLD = {"notification", "gapfill"}


@pytest.fixture
def asking(kafka, make_stage: Callable, outside: OutsideWorld):
    """A stage whose producers ask; young events are given at once."""
    outside.altinn.behaviour = Behaviour(time_factor=0.0)
    stage = make_stage(kafka)
    stage.settings |= stage.woken_by("pull")
    return stage


def notifications(stage, process: ProducerProcess, outcome: str) -> float:
    return stage.metric(process, f'trekkpaalegg_notifications_total{{outcome="{outcome}"}}')


def change_all(stage, outside: OutsideWorld) -> set[tuple[str, int]]:
    made = [outside.skatteetaten.create(each) for each in stage.employers]
    made += [outside.skatteetaten.change(each.trekkid) for each in made]
    return {(each.trekkid, each.trekkversjon) for each in made}


def test_changes_are_published_without_a_poll_and_a_cursor_that_altinn_does_not_know_costs_readings_only(
    asking, outside: OutsideWorld
) -> None:
    worker = asking.run()
    asking.wait_until_published(60)
    changed = change_all(asking, outside)
    asking.wait_until_published(60)
    found = asking.origins()
    assert {found[each] for each in changed} <= TOLD
    worker.stop()
    before = len(found)
    outside.altinn.log.forget()
    changed = change_all(asking, outside)
    worker = asking.run()
    asking.wait_until_published(60)
    asking.wait_until(
        lambda: notifications(asking, worker, "wake_up") >= len(changed), 60, "the oldest events were pulled"
    )
    more = change_all(asking, outside)
    asking.wait_until_published(60)
    found = asking.origins()
    assert len(found) == before + len(changed) + len(more)
    assert {found[each] for each in more} <= TOLD
    asking.prove()


def test_slow_polling_continues_while_altinn_is_down_and_notifications_resume_after(
    asking, outside: OutsideWorld
) -> None:
    worker = asking.run(TREKKPAALEGG_POLL_INTERVAL_SECONDS="2")
    asking.wait_until_published(60)
    outside.stop_altinn()
    try:
        asking.wait_until(lambda: notifications(asking, worker, "pull_failed") > 0, 60, "Altinn is missed")
        missed = change_all(asking, outside)
        asking.wait_until_published(60)
        assert {asking.origins()[each] for each in missed} <= {"poll", "gapfill"}
        told_before = notifications(asking, worker, "wake_up")
    finally:
        outside.start_altinn()
    asking.wait_until(
        lambda: notifications(asking, worker, "wake_up") >= told_before + len(missed), 60, "what was missed is told of"
    )
    asking.prove()


def test_an_employer_that_altinn_refuses_does_not_hold_up_others(asking, outside: OutsideWorld) -> None:
    refused, *others = asking.employers
    outside.altinn.faults.append(ApiFault(403, "events", refused, times=None))
    worker = asking.run()
    asking.wait_until_published(60)
    asking.wait_until(lambda: notifications(asking, worker, "pull_refused") > 0, 60, "the refusal is counted")
    made = {(version.trekkid, 1) for version in map(outside.skatteetaten.create, others)}
    asking.wait_until_published(60)
    assert {asking.origins()[each] for each in made} <= TOLD
    asking.prove()
