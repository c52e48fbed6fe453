"""A signal ends the service in time and leaves nothing half done; a round that it interrupts says so."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from sandbox.demo.proof import read_committed

pytestmark = pytest.mark.kafka

STOP_SECONDS_MAX = 10.0
AT_ONCE_SECONDS_MAX = 5.0
"""Well below a transaction's timeout, which would tidy up behind a producer that left one open."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_under_load_with_no_transaction_left_open(stage: Any, number: signal.Signals) -> None:
    with stage.traffic():
        process = stage.run()
        stage.wait_until_owned(process)
        process.send_signal(number)
        assert process.wait(STOP_SECONDS_MAX) == 0, process.last_lines()
        for topic in stage.topics:
            read_committed(stage.kafka.bootstrap_servers, topic, deadline_seconds=AT_ONCE_SECONDS_MAX)
    stage.once()
    stage.prove()


def test_a_signal_ends_the_service_while_the_source_keeps_it_waiting(stage: Any) -> None:
    stage.outside.skatteetaten.behaviour.latency_seconds = 20.0
    process = stage.run()
    stage.wait_until_owned(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS_MAX) == 0, process.last_lines()


def test_a_signal_ends_a_round_that_is_not_done_with_the_code_for_that(stage: Any) -> None:
    skatteetaten = stage.outside.skatteetaten
    skatteetaten.behaviour.latency_seconds = 20.0
    process = stage.begin("once")
    stage.wait_until(lambda: skatteetaten.simultaneous_max, 20, "the round has begun")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS_MAX) == 4, process.last_lines()
    assert time.monotonic() - started < STOP_SECONDS_MAX
    assert "stopped by a signal" in process.last_lines()
    skatteetaten.behaviour.latency_seconds = 0.0
    stage.once()
    stage.prove()
