"""The producer dies, or its commit fails, at every single step of a transaction."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.altinn.state import Behaviour

pytestmark = pytest.mark.kafka

FAULTY_PRODUCER = (sys.executable, str(Path(__file__).with_name("faulty_producer.py")))
KILL_SECONDS_MAX = 60.0
EMPLOYERS, LANES = 3, 2
TRANSACTIONS_BEFORE = 8
"""Enough to be past the first reading of every employer, so that the lane has a state to be told wrongly."""

KILLS = (
    "kill-before-begin",
    "kill-after-begin",
    "kill-after-one-record",
    "kill-after-records",
    "kill-after-records-written",
    "kill-after-offsets",
    "kill-during-commit",
    "kill-after-commit",
)


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    return make_stage(kafka, employers=EMPLOYERS, orders=15, lanes=LANES)


@pytest.mark.parametrize("way", ["polling", "push", "pull"])
def test_a_kill_at_any_step_of_a_transaction_loses_and_doubles_nothing(stage: Any, way: str) -> None:
    """Each successor takes over what the one before it left, and dies at the next step.

    Where changes are told of, the offsets of signals, or the cursors of events, stand in those transactions too.
    """
    stage.outside.altinn.behaviour = Behaviour(time_factor=0.01)
    stage.settings |= stage.woken_by(way)
    if way == "push":
        receiver = stage.run("one")
        stage.subscribe()
        receiver.kill()
    with stage.traffic():
        for fault in KILLS:
            process = stage.begin(str(TRANSACTIONS_BEFORE), fault, instance_id="one", program=FAULTY_PRODUCER)
            assert process.wait(KILL_SECONDS_MAX) == -signal.SIGKILL, process.last_lines()
            assert process.last_lines().endswith(f"killed at {fault}")
    stage.once("one")
    assert len(stage.prove()) > 100


def test_a_commit_just_before_a_fence_is_known_to_the_successor(stage: Any) -> None:
    """It was put out of the group after it had sent its offsets, so that only the fence can stop its commit."""
    stage.set_kafka_properties(session_timeout_ms="3000", heartbeat_interval_ms="500")
    with stage.traffic():
        sleeper = stage.begin(str(TRANSACTIONS_BEFORE), "sleep-before-commit", program=FAULTY_PRODUCER)
        stage.wait_until(lambda: is_stopped(sleeper.pid), 30, "the sleeper sleeps")
        successor = stage.begin("0", "slow-fence", program=FAULTY_PRODUCER)
        stage.wait_until(lambda: successor.has_logged("fence begins"), 30, "a successor takes its lanes")
        sleeper.resume()
        stage.wait_until(lambda: sleeper.has_logged("committed after a sleep"), 10, "the sleeper commits")
        assert not successor.has_logged("lane acquired")
        stage.wait_until(lambda: successor.has_logged("lane acquired"), 10, "its lanes are taken")
    stage.wait_until_published()
    for process in (sleeper, successor):
        process.kill()
    stage.prove()


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_commit_that_fails_is_found_out_about_by_the_service_itself(stage: Any) -> None:
    """Whether the transaction stands (lost-…) or not (open-…, must-abort), the lane is taken anew with what stands."""
    faults = ("lost-timed-out", "must-abort", "lost-fatal", "open-fatal", "lost-unknown", "open-unknown")
    with stage.traffic():
        process = stage.begin(str(TRANSACTIONS_BEFORE), *faults, instance_id="one", program=FAULTY_PRODUCER)

        def struck() -> list[str]:
            return [entry["fault"] for entry in process.log_entries() if entry["event"] == "struck"]

        stage.wait_until(lambda: len(struck()) == len(faults), 40, "every fault has struck")
    stage.wait_until_published()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()
    stage.prove()
    taken = sum(entry["event"] == "lane acquired" for entry in process.log_entries())
    assert (struck(), taken) == (list(faults), stage.lanes + len(faults))
