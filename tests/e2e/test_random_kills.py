"""The producer is killed at random moments, again and again, while new versions keep coming."""

from __future__ import annotations

import os
import time
from random import Random
from typing import Any

import pytest

from sandbox.altinn.delivery import Weather
from sandbox.altinn.state import Behaviour

pytestmark = pytest.mark.kafka

SEED = int(os.environ.get("E2E_SEED", "1"))
"""Of the short form; the long form takes another one each time."""

ROUGH = Weather(loss_rate=0.1, double_rate=0.3, disorder_rate=0.3, disorder_seconds=0.5)
TAKEN_SECONDS_MAX = 60


def ways(kills_polling: int, kills_told: int) -> pytest.MarkDecorator:
    told = [("push", kills_told, "notification"), ("pull", kills_told, "notification")]
    return pytest.mark.parametrize(("way", "kills", "origin"), [("polling", kills_polling, "poll"), *told])


@ways(6, 3)
def test_kills_at_random_moments_lose_and_double_nothing(stage: Any, way: str, kills: int, origin: str) -> None:
    """However changes are learnt of, and though Altinn loses, doubles and disorders what it tells and cuts its pages.

    The process that is killed is the one that receives, too; calls that met no receiver come again.
    """
    kill_at_random(SEED, stage, way, kills, origin)


@pytest.mark.long
@ways(60, 30)
def test_many_kills_at_random_moments_lose_and_double_nothing(stage: Any, way: str, kills: int, origin: str) -> None:
    kill_at_random(time.time_ns() % 1_000_000, stage, way, kills, origin)


def kill_at_random(seed: int, stage: Any, way: str, kills: int, origin: str) -> None:
    print(f"E2E_SEED={seed}")  # noqa: T201 - shown by pytest when the test fails
    random, altinn = Random(f"kills {seed}"), stage.outside.altinn
    altinn.behaviour = Behaviour(time_factor=0.01, short_page_rate=0.3, page_events_max=20)
    stage.settings |= stage.woken_by(way)
    process = stage.run("killed")
    if way == "push":
        stage.subscribe()
    altinn.deliveries.weather = ROUGH
    with stage.traffic(seed):
        for _ in range(kills):
            stage.wait_until(lambda: process.has_logged("lane acquired"), TAKEN_SECONDS_MAX, "a lane is taken")  # noqa: B023 - called at once
            time.sleep(random.random())  # the moment of the kill is what chance decides, not a wait for something
            process.kill()
            process = stage.run("killed")
        altinn.deliveries.weather = Weather()
    stage.wait_until_owned(process, deadline_seconds=TAKEN_SECONDS_MAX)
    stage.wait_until_published(90)
    late = [stage.outside.skatteetaten.create(each) for each in stage.employers]
    stage.wait_until_published(60)
    published = stage.prove()
    assert len(published) > 10 * kills
    origins = {each.identity: each.origin for each in published}
    assert {origins[each.trekkid, 1] for each in late} == {origin}, "it still learns of changes in its own way"
