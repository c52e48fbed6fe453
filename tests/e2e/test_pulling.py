"""Asked for instead of called: the producer pulls the simulated Altinn's events, and hardly polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox.altinn.state import ApiFault, Behaviour
from sandbox.proof.topics import read_committed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.outside import OutsideWorld
    from sandbox.producer_process import ProducerProcess

HOUR = "3600"
TOLD = {"notification", "gapfill"}


@pytest.fixture
def asking(kafka, make_stage: Callable, outside: OutsideWorld):
    """A stage whose producers ask; young events are given at once."""
    outside.altinn.behaviour = Behaviour(time_factor=0.0)
    stage = make_stage(kafka)
    stage.settings |= {
        "TREKKPAALEGG_SOURCE": "notification",
        "TREKKPAALEGG_NOTIFICATION_TRANSPORT": "pull",
        "TREKKPAALEGG_PULL_INTERVAL_SECONDS": "0.2",
        "TREKKPAALEGG_POLL_INTERVAL_SECONDS": HOUR,
    }
    return stage


def origins(stage) -> dict[tuple[str, int], str]:
    """`ce_origin` of every event."""
    found = {}
    for message in read_committed(stage.kafka.bootstrap_servers, stage.topics.versjoner):
        headers = {name: value.decode() for name, value in message.headers()}
        found[headers["ce_subject"], int(headers["ce_id"].split("/")[1])] = headers["ce_origin"]
    return found


def notifications(process: ProducerProcess, outcome: str) -> float:
    ports = [entry["http_port"] for entry in process.log_entries() if entry["event"] == "started"]
    text = httpx.get(f"http://127.0.0.1:{ports[-1]}/metrics", timeout=30).text
    name = f'trekkpaalegg_notifications_total{{outcome="{outcome}"}}'
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


def change_all(stage, outside: OutsideWorld) -> set[tuple[str, int]]:
    made = [outside.skatteetaten.create(each) for each in stage.employers]
    made += [outside.skatteetaten.change(each.trekkid) for each in made]
    return {(each.trekkid, each.trekkversjon) for each in made}


def test_a_change_is_published_without_a_poll(asking, outside: OutsideWorld) -> None:
    asking.run()
    asking.wait_until_published(60)
    changed = change_all(asking, outside)
    asking.wait_until_published(60)
    found = origins(asking)
    assert {found[each] for each in changed} <= TOLD
    asking.prove()


def test_kills_in_the_middle_lose_nothing_though_nobody_polls(asking, outside: OutsideWorld) -> None:
    """The cursor stands with the reading: events that were pulled before the kill come again after it."""
    outside.altinn.behaviour = Behaviour(time_factor=0.0, short_page_rate=0.3, page_events_max=3)
    worker = asking.run()
    asking.wait_until_published(60)
    with asking.traffic(seed=4, interval_seconds=0.02) as traffic:
        for number in range(1, 4):
            asking.wait_until(lambda wanted=15 * number: len(traffic.orders) > wanted, 60, "there is some traffic")
            worker.kill()
            worker = asking.run()
            asking.wait_until_owned(worker, deadline_seconds=90)
    asking.wait_until_published(90)
    asking.prove()


def test_a_cursor_that_altinn_does_not_know_costs_readings_only(asking, outside: OutsideWorld) -> None:
    worker = asking.run()
    asking.wait_until_published(60)
    change_all(asking, outside)
    asking.wait_until_published(60)
    worker.stop()
    before = len(origins(asking))
    outside.altinn.log.forget()
    changed = change_all(asking, outside)
    worker = asking.run()
    asking.wait_until_published(60)
    asking.wait_until(lambda: notifications(worker, "wake_up") >= len(changed), 60, "the oldest events were pulled")
    more = change_all(asking, outside)
    asking.wait_until_published(60)
    found = origins(asking)
    assert len(found) == before + len(changed) + len(more)
    assert {found[each] for each in more} <= TOLD
    asking.prove()


def test_slow_polling_goes_on_while_altinn_is_down_and_events_wake_again_after(asking, outside: OutsideWorld) -> None:
    worker = asking.run(TREKKPAALEGG_POLL_INTERVAL_SECONDS="2")
    asking.wait_until_published(60)
    outside.stop_altinn()
    try:
        asking.wait_until(lambda: notifications(worker, "pull_failed") > 0, 60, "Altinn is missed")
        missed = change_all(asking, outside)
        asking.wait_until_published(60)
        assert {origins(asking)[each] for each in missed} <= {"poll", "gapfill"}
        told_before = notifications(worker, "wake_up")
    finally:
        outside.start_altinn()
    asking.wait_until(
        lambda: notifications(worker, "wake_up") >= told_before + len(missed), 60, "what was missed is told after all"
    )
    asking.prove()


def test_one_customer_that_altinn_refuses_keeps_no_other_from_being_told(asking, outside: OutsideWorld) -> None:
    refused, *others = asking.employers
    outside.altinn.faults.append(ApiFault(403, "events", refused, times=None))
    worker = asking.run()
    asking.wait_until_published(60)
    asking.wait_until(lambda: notifications(worker, "pull_refused") > 0, 60, "the refusal is counted")
    made = {(version.trekkid, 1) for version in map(outside.skatteetaten.create, others)}
    asking.wait_until_published(60)
    assert {origins(asking)[each] for each in made} <= TOLD
    asking.prove()
