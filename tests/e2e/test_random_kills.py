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

SEED = int(os.environ.get("E2E_SEED", "0")) or time.time_ns() % 1_000_000
ROUGH = Weather(loss_rate=0.1, double_rate=0.3, disorder_rate=0.3, disorder_seconds=0.5)
TAKEN_SECONDS_MAX = 60


@pytest.mark.parametrize(
    ("way", "kills", "origin"), [("polling", 20, "poll"), ("push", 6, "notification"), ("pull", 6, "notification")]
)
def test_kills_at_random_moments_lose_and_double_nothing(stage: Any, way: str, kills: int, origin: str) -> None:
    """However changes are learnt of, and though Altinn loses, doubles and disorders what it tells and cuts its pages.

    The process that is killed is the one that receives, too; calls that met no receiver come again.
    """
    print(f"E2E_SEED={SEED}")  # noqa: T201 - shown by pytest when the test fails
    random, altinn = Random(f"kills {SEED}"), stage.outside.altinn
    altinn.behaviour = Behaviour(time_factor=0.01, short_page_rate=0.3, page_events_max=20)
    stage.settings |= stage.woken_by(way)
    process = stage.run("killed")
    if way == "push":
        stage.subscribe()
    altinn.deliveries.weather = ROUGH
    with stage.traffic(SEED):
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
    assert len(published) > 200
    origins = {each.identity: each.origin for each in published}
    assert {origins[each.trekkid, 1] for each in late} == {origin}, "it still learns of changes in its own way"
