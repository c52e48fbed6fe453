"""Workers come, go, die, sleep and wake while versions keep coming: lanes change hands, nothing is lost or doubled."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = pytest.mark.kafka

SHORT_SESSION = {"session_timeout_ms": "3000", "heartbeat_interval_ms": "500"}
STOP_SECONDS_MAX = 10.0


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    return make_stage(kafka, employers=8, orders=16, lanes=4)


def fences(process: Any) -> list[str]:
    return [entry["reason"] for entry in process.log_entries() if entry.get("kind") == "LaneFencedError"]


def moves(process: Any) -> list[tuple[str, list[int]]]:
    """The lanes that came to a worker and went from it, in order."""
    wanted = ("lanes assigned", "lanes revoked")
    return [(entry["event"], entry["lanes"]) for entry in process.log_entries() if entry["event"] in wanted]


def test_lanes_are_handed_over_as_workers_come_leave_and_die(stage: Any) -> None:
    stage.set_kafka_properties(**SHORT_SESSION)
    with stage.traffic():
        first = stage.run()
        stage.wait_until_owned(first)
        second = stage.run()
        stage.wait_until_owned(first, second)
        third = stage.run()
        stage.wait_until_owned(first, second, third)
        second.send_signal(signal.SIGTERM)
        assert second.wait(STOP_SECONDS_MAX) == 0
        stage.wait_until_owned(first, third)
        first.kill()
        stage.wait_until_owned(third)
        fourth = stage.run()
        stage.wait_until_owned(third, fourth)
    stage.wait_until_published()
    stage.prove()
    assert [fences(process) for process in (first, second, third, fourth)] == [[], [], [], []]


def test_a_worker_that_slept_past_its_session_does_not_fence_the_owner_of_its_lanes(stage: Any) -> None:
    """The sleeper may end (3) or join again, the rightful owner just goes on."""
    stage.set_kafka_properties(session_timeout_ms="5000", heartbeat_interval_ms="500")
    with stage.traffic():
        sleeper, owner = stage.run(), stage.run()
        stage.wait_until_owned(sleeper, owner)
        sleeper.pause()
        stage.wait_until_owned(owner)
        before = len(stage.arrived())
        stage.wait_until(lambda: len(stage.arrived()) > before, 10, "the owner publishes")
        sleeper.resume()
        stage.wait_until_no_lane_is_shared(owner, sleeper)
        if sleeper.is_running():
            stage.wait_until_owned(sleeper, owner)
    stage.wait_until_published()
    assert fences(owner) == []
    assert owner.is_running()
    for process in (sleeper, owner):
        process.send_signal(signal.SIGTERM)
    assert (sleeper.wait(STOP_SECONDS_MAX) in {0, 3}, owner.wait(STOP_SECONDS_MAX)) == (True, 0)
    stage.prove()


def test_a_worker_that_restarts_under_its_own_name_moves_no_lane(stage: Any) -> None:
    # On a machine that is busy with other tests a start may take longer than an ordinary session.
    stage.set_kafka_properties(session_timeout_ms="30000")
    with stage.traffic():
        stays, restarts = stage.run("stays"), stage.run("restarts")
        stage.wait_until_owned(stays, restarts)
        before = moves(stays)
        restarts.kill()
        again = stage.run("restarts")
        stage.wait_until_owned(stays, again)
        again.send_signal(signal.SIGTERM)
        assert again.wait(STOP_SECONDS_MAX) == 0
        stage.wait_until_owned(stays, stage.run("restarts"))
    stage.wait_until_published()
    assert moves(stays) == before
    stage.prove()


def test_of_two_workers_under_one_name_the_first_ends_as_fenced(stage: Any) -> None:
    with stage.traffic():
        first = stage.run("same")
        stage.wait_until_owned(first)
        second = stage.run("same")
        assert first.wait(20) == 3
        assert "TREKKPAALEGG_INSTANCE_ID" in first.last_lines()
        stage.wait_until_owned(second)
    stage.wait_until_published()
    stage.prove()
