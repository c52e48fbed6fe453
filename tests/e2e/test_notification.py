"""The swap: told of changes by the simulated Altinn, with polling so slow that it cannot be what found them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox.proof.topics import read_committed
from sandbox.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.outside import OutsideWorld
    from sandbox.producer_process import ProducerProcess

SECRET = "e2e-secret-of-forty-characters-0123456789"
HOUR = "3600"
FLOOD = 10_000
FLOOD_READINGS_MAX = 100
"""One at first, then ever fewer: they depend on how long the machine needs for the flood, not on its size."""


class Told:
    """A stage whose producers are told of changes, and its receiver's address."""

    def __init__(self, stage, outside: OutsideWorld) -> None:
        self.stage = stage
        self.outside = outside
        self.port = free_port()
        stage.settings |= {
            "TREKKPAALEGG_SOURCE": "notification",
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": HOUR,
            "TREKKPAALEGG_WEBHOOK_PORT": str(self.port),
            "TREKKPAALEGG_WEBHOOK_URL": f"http://127.0.0.1:{self.port}",
            "TREKKPAALEGG_WEBHOOK_SECRET": SECRET,
        }

    def subscribe(self) -> None:
        """As an operator does once the receiver answers."""
        applying = self.stage.begin("subscriptions", "apply")
        assert applying.wait(120) == 0, applying.last_lines()

    def origins(self) -> dict[tuple[str, int], str]:
        """`ce_origin` of every event."""
        found = {}
        for message in read_committed(self.stage.kafka.bootstrap_servers, self.stage.topics.versjoner):
            headers = {name: value.decode() for name, value in message.headers()}
            found[headers["ce_subject"], int(headers["ce_id"].split("/")[1])] = headers["ce_origin"]
        return found

    def post(self, client: httpx.Client, number: int, trekkpliktig: str) -> int:
        event = {
            "specversion": "1.0",
            "id": f"00000000-0000-4000-8000-{number:012}",
            "type": "dialogporten.dialog.updated.v1",
            "resource": "urn:altinn:resource:ske-informasjon-om-trekkpaalegg",
            "subject": f"urn:altinn:organization:identifier-no:{trekkpliktig}",
            "source": "https://127.0.0.1/",
        }
        return client.post(f"http://127.0.0.1:{self.port}/notifications/{SECRET}", json=event).status_code


@pytest.fixture
def told(kafka, make_stage: Callable, outside: OutsideWorld) -> Told:
    return Told(make_stage(kafka), outside)


def metric(process: ProducerProcess, name: str) -> float:
    ports = [entry["http_port"] for entry in process.log_entries() if entry["event"] == "started"]
    text = httpx.get(f"http://127.0.0.1:{ports[-1]}/metrics", timeout=30).text
    values = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return sum(map(float, values))


def test_a_change_that_is_told_of_is_published_without_a_poll(told: Told) -> None:
    stage = told.stage
    stage.run()
    stage.wait_until_published(60)
    told.subscribe()
    changed = [told.outside.skatteetaten.create(each) for each in stage.employers]
    changed += [told.outside.skatteetaten.change(each.trekkid) for each in changed]
    stage.wait_until_published(60)
    origins = told.origins()
    assert {origins[each.trekkid, each.trekkversjon] for each in changed} <= {"notification", "gapfill"}
    assert "notification" in {origins[each.trekkid, each.trekkversjon] for each in changed}
    stage.prove()


def test_any_worker_receives_and_the_owner_of_the_lane_is_woken(told: Told) -> None:
    stage = told.stage
    first = stage.run()
    second = stage.run(TREKKPAALEGG_WEBHOOK_PORT="0")
    stage.wait_until_owned(first, second, deadline_seconds=90)
    stage.wait_until_published(60)
    told.subscribe()
    for each in stage.employers:
        told.outside.skatteetaten.create(each)
    stage.wait_until_published(60)
    stage.prove()


def test_switching_there_and_back_under_load_with_kills_loses_and_doubles_nothing(told: Told) -> None:
    stage = told.stage
    polling = {"TREKKPAALEGG_SOURCE": "polling", "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "0.2"}
    worker = stage.run()
    stage.wait_until_published(60)
    told.subscribe()
    with stage.traffic(seed=6, interval_seconds=0.05):
        for number, settings in enumerate((polling, {}, polling, {})):
            time.sleep(1.5)  # some load in each of them
            if number % 2:
                worker.stop()
            else:
                worker.kill()
            worker = stage.run(**settings)
            stage.wait_until_owned(worker, deadline_seconds=90)
        time.sleep(1.5)
    stage.wait_until_published(90)
    stage.prove()


def test_what_notifications_miss_slow_polling_finds_and_counts(told: Told) -> None:
    stage = told.stage
    worker = stage.run(TREKKPAALEGG_POLL_INTERVAL_SECONDS="3")
    stage.wait_until_published(60)
    before = metric(worker, "trekkpaalegg_unannounced_changes_total")
    for each in stage.employers:  # nobody has subscribed, so nobody is told
        told.outside.skatteetaten.create(each)
    stage.wait_until_published(60)
    stage.wait_until(
        lambda: metric(worker, "trekkpaalegg_unannounced_changes_total") - before == len(stage.employers),
        30,
        "they are counted",
    )
    stage.prove()


def test_a_flood_of_events_about_one_employer_is_few_readings(told: Told) -> None:
    stage = told.stage
    worker = stage.run(TREKKPAALEGG_WEBHOOK_CALLS_PER_SECOND="100000")
    stage.wait_until_published(60)
    told.outside.skatteetaten.forget_calls()
    employer = stage.employers[0]
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: told.post(client, number, employer), range(FLOOD)))
    assert answers == [200] * FLOOD
    told.outside.skatteetaten.create(employer)
    with httpx.Client(timeout=60) as client:
        assert told.post(client, FLOOD, employer) == 200
    stage.wait_until_published(60)
    stage.wait_until(
        lambda: metric(worker, 'trekkpaalegg_notifications_total{outcome="wake_up"') > FLOOD, 30, "all are counted"
    )
    assert told.outside.skatteetaten.summary()["calls"]["list"]["200"] < FLOOD_READINGS_MAX
    stage.prove()
