"""Several consumers share the work on one ledger, come, go, die and sleep: the ledger holds each event once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.event_stream import Roughness, make_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.stages.ledger_stage import LedgerStage

pytestmark = pytest.mark.kafka

FAULTY_CONSUMER = (sys.executable, str(Path(__file__).with_name("faulty_consumer.py")))
ROUGH = Roughness(late=0.1, corrected=0.15)
SHORT_SESSION = {"session_timeout_ms": "3000", "heartbeat_interval_ms": "500"}


def test_consumers_that_trade_partitions_lose_and_double_nothing(make_ledger_stage: Callable[..., LedgerStage]) -> None:
    """One is told to stop, another joins, and one is killed, with events coming all the time."""
    stage = make_ledger_stage("postgresql", partitions=4)
    stage.set_kafka_properties(**SHORT_SESSION)
    first, second = stage.begin("run"), stage.begin("run")
    with stage.traffic(make_stream(2, 1000, roughness=ROUGH)):
        stage.wait_until_shared(first, second)
        first.send_signal(signal.SIGTERM)
        assert first.wait(10) == 0, first.last_lines()
        third = stage.begin("run")
        stage.wait_until_shared(second, third)
        second.kill()
        stage.wait_until_shared(third)
    stage.wait_until(stage.is_applied, "all is applied")
    third.send_signal(signal.SIGTERM)
    assert third.wait(10) == 0, third.last_lines()
    stage.prove()


def test_one_that_is_killed_and_started_again_under_its_name_has_its_partitions_back_at_once(
    make_ledger_stage: Callable[..., LedgerStage],
) -> None:
    stage = make_ledger_stage("sqlite")
    stage.set_kafka_properties(session_timeout_ms="40000")
    stream = make_stream(4, 100)
    stage.topics.write(stream[:50])
    first = stage.begin("run", TREKKPAALEGG_INSTANCE_ID="payroll-0")
    stage.wait_until(stage.is_applied, "the first applies")
    first.kill()
    stage.topics.write(stream[50:])
    second = stage.begin("run", TREKKPAALEGG_INSTANCE_ID="payroll-0")
    stage.wait_until(stage.is_applied, "the second goes on, long before the session of the first ends", 20)
    stage.prove()
    second.kill()


def test_two_of_one_name_are_one_too_many(make_ledger_stage: Callable[..., LedgerStage]) -> None:
    stage = make_ledger_stage("sqlite")
    stage.topics.write(make_stream(5, 20))
    first = stage.begin("run", TREKKPAALEGG_INSTANCE_ID="payroll-0")
    stage.wait_until(stage.is_applied, "the first applies")
    second = stage.begin("run", TREKKPAALEGG_INSTANCE_ID="payroll-0")
    assert first.wait(30) == 3, first.last_lines()
    assert "TREKKPAALEGG_INSTANCE_ID" in first.last_lines()
    second.kill()


def test_a_worker_suspended_past_its_session_cannot_write_when_it_resumes(
    make_ledger_stage: Callable[..., LedgerStage],
) -> None:
    """It stopped with a batch in its hands, which its successor has applied meanwhile."""
    stage = make_ledger_stage("postgresql")
    stage.set_kafka_properties(**SHORT_SESSION)
    stream = make_stream(3, 200, roughness=ROUGH)
    stage.topics.write(stream[:300])
    sleeper = stage.begin(
        "2", "sleep-before-claim", program=FAULTY_CONSUMER, TREKKPAALEGG_CONSUMER_GROUP=stage.topics.prefix
    )
    stage.wait_until(lambda: is_stopped(sleeper.pid), "the sleeper sleeps")
    successor = stage.begin("run", TREKKPAALEGG_CONSUMER_GROUP=stage.topics.prefix)
    stage.wait_until(stage.is_applied, "a successor applies all")
    stage.topics.write(stream[300:])
    sleeper.resume()
    stage.wait_until(lambda: sleeper.has_logged("overtaken"), "the sleeper sees that it was overtaken")
    stage.wait_until(stage.is_applied, "the rest is applied")
    for process in (sleeper, successor):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(10) for process in (sleeper, successor)] == [0, 0]
    stage.prove()


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
