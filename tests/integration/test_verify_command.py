"""`trekkpaalegg-consumer verify` as a program: words, JSON and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kit.event_stream import EventTopics, make_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

DEADLINE_SECONDS = 60
STREAM = make_stream(3, 30)


@pytest.fixture
def topics(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[EventTopics]:
    with EventTopics(kafka.bootstrap_servers, topic_prefix, partitions=2) as made:
        yield made


def verify(settings: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    names = ("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return subprocess.run(
        [sys.executable, "-m", "consumers", "verify", *options],
        env=inherited | settings,
        text=True,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_a_proof_that_holds_ends_with_0_and_a_table(topics: EventTopics) -> None:
    topics.write(STREAM)
    ended = verify(topics.settings)
    assert ended.returncode == 0, ended.stderr
    assert "once" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("all checks hold; ")
    assert ended.stderr == ""


def test_a_fault_ends_with_1_and_every_difference_is_in_the_json(topics: EventTopics) -> None:
    topics.write([*STREAM, *STREAM[:25]])
    ended = verify(topics.settings, "--json")
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["ok"]) == (1, False)
    checks = {check["name"]: check for check in document["checks"]}
    assert len(checks["once"]["differences"]) == 25
    assert checks["once"]["differences"][0].keys() == {"what", "trekkid", "trekkversjon", "place"}
    assert checks["complete"] == {**checks["complete"], "ok": True, "examined": 30, "differences": []}
    told = verify(topics.settings).stdout
    assert "NO" in told
    assert "and 5 more; --json gives all" in told


def test_a_ledger_of_the_settings_is_compared_unless_told_otherwise(topics: EventTopics) -> None:
    topics.write(STREAM)
    secret = {"TREKKPAALEGG_LEDGER": "postgresql://user:hush@127.0.0.1:1/nowhere"}
    ended = verify(topics.settings | secret)
    assert ended.returncode == 1
    assert "out of reach" in ended.stderr
    assert "hush" not in ended.stderr + ended.stdout
    assert verify(topics.settings | secret, "--topics-only").returncode == 0


def test_no_topic_is_no_empty_topic(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    ended = verify({"KAFKA_BROKERS": kafka.bootstrap_servers, "TREKKPAALEGG_TOPIC_PREFIX": topic_prefix})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"trekkpaalegg-consumer: {topic_prefix}-versjoner: no such topic")
