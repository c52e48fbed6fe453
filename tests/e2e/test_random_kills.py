"""The producer is killed at random moments, again and again, while new versions keep coming."""

from __future__ import annotations

import os
import time
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

KILLS = 20
SEED = int(os.environ.get("E2E_SEED", "0")) or time.time_ns() % 1_000_000


def test_twenty_kills_at_random_moments_lose_and_double_nothing(stage: Any) -> None:
    print(f"E2E_SEED={SEED}")  # noqa: T201 - shown by pytest when the test fails
    random = Random(f"kills {SEED}")
    with stage.traffic(SEED):
        for _ in range(KILLS):
            process = stage.run("killed")
            stage.wait_until(lambda process=process: process.has_logged("lane taken"), 30, "a lane is taken")
            time.sleep(random.random())  # the moment of the kill is what chance decides, not a wait for something
            process.kill()
    stage.once("killed")
    published = stage.prove()
    assert len(published) > 200
