"""Workers are added and taken away under load, some by kill -9: nothing is lost, doubled, or asked for too much."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from sandbox.altinn.state import Behaviour

pytestmark = pytest.mark.kafka

LANES = 6
SHORT_SESSION = {"session_timeout_ms": "3000", "heartbeat_interval_ms": "500"}
SECONDS_MAX = 90.0
IN_RESERVE = "in reserve: as many workers run as share the calls"
UNREAD_SECONDS_MAX = 60.0
"""A hand-over after a kill takes a session of 3 s; all the rest is a busy machine's."""


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    made = make_stage(kafka, employers=12, orders=36, lanes=LANES)
    made.set_kafka_properties(**SHORT_SESSION)
    made.outside.altinn.behaviour = Behaviour(time_factor=0.0)  # young events are given at once
    made.outside.skatteetaten.behaviour.latency_seconds = 0.01
    return made


@pytest.mark.parametrize(
    ("way", "origin", "most"),
    [
        ("polling", "poll", 5),
        ("pull", "notification", 3),
        pytest.param("pull", "notification", 5, marks=pytest.mark.long),
    ],
)
def test_two_workers_become_more_and_one_while_versions_keep_coming(
    stage: Any, way: str, origin: str, most: int
) -> None:
    """Two more than share the calls wait in reserve. However changes are learnt of; pulled, nothing is polled for."""
    skatteetaten = stage.outside.skatteetaten
    stage.settings |= stage.woken_by(way) | {"TREKKPAALEGG_WORKERS": str(most)}
    with stage.traffic(interval_seconds=0.1):
        workers = [stage.run(f"worker-{number}") for number in range(2)]
        stage.wait_until_owned(*workers, deadline_seconds=SECONDS_MAX)
        workers += [stage.run(f"worker-{number}") for number in range(2, most)]
        stage.wait_until_owned(*workers, deadline_seconds=SECONDS_MAX)
        in_reserve = [stage.run("reserve-1"), stage.run("reserve-2")]
        stage.wait_until(
            lambda: all(each.has_logged(IN_RESERVE) for each in in_reserve), SECONDS_MAX, "two wait in reserve"
        )
        assert [stage.lanes_of(each) for each in in_reserve] == [set(), set()]
        for number, worker in enumerate(workers[:2]):
            worker.kill() if number else worker.send_signal(signal.SIGTERM)
        workers = [*workers[2:], *in_reserve]
        stage.wait_until_owned(*workers, deadline_seconds=SECONDS_MAX)
        for number, worker in enumerate(workers[1:]):
            worker.kill() if number else worker.send_signal(signal.SIGTERM)
        stage.wait_until_owned(workers[0], deadline_seconds=SECONDS_MAX)
        late = [skatteetaten.create(each) for each in stage.employers]
        stage.wait_until(
            lambda: {(each.trekkid, 1) for each in late} <= stage.arrived().keys(),
            UNREAD_SECONDS_MAX,
            "every employer is read after the hand-over",
        )
    stage.wait_until_published(SECONDS_MAX)
    origins = {each.identity: each.origin for each in stage.prove()}
    assert origin in {origins[each.trekkid, 1] for each in late}
    assert skatteetaten.simultaneous_max <= 5
    assert not [outcome for _, outcome in skatteetaten.counts if outcome == "429"]
