"""`subscriptions apply --prune`, and a cursor of events, with what a real Kafka remembers of employers."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from producer.cli.main import run_command
from producer.domain.state import EventCursor, TrekkpliktigPosition
from producer.publish.kafka import producer_properties
from producer.publish.state import event_cursor_record, position_record, read_lane_state
from producer.publish.topics import Topics, lane_of
from sandbox.altinn.state import Behaviour
from sandbox.control.world import OutsideWorld
from tests.kit.receivers import EventReceiver
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka
STAYS, LEAVES, WITHDREW = "310000025", "310000033", "310000041"
LANES = 2
CURSOR = EventCursor("3fa85f64-5717-4562-b3fc-2c963f66afa6", 1_795_600_800_000_000)


@pytest.fixture(autouse=True)
def _logs_aside() -> Iterator[None]:
    """Log as the program does, but not into what the test reads."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs(stream=io.StringIO())
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def properties(kafka: EmbeddedKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Topics in which all three were published once, each in its lane."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BROKERS", kafka.bootstrap_servers)
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", topic_prefix)
    assert run_command(["topics", "apply", "--partitions", str(LANES)]) == 0
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    topic = Topics.of(topic_prefix).positions
    producer = Producer(producer_properties(properties, f"{topic_prefix}-test", 1_000_000))
    producer.init_transactions(60)
    producer.begin_transaction()
    for name in (STAYS, LEAVES, WITHDREW):
        lane = lane_of(name, LANES)
        records = [position_record(topic, lane, name, TrekkpliktigPosition(7))]
        if name != WITHDREW:
            records.append(event_cursor_record(topic, lane, name, CURSOR))
        for record in records:
            producer.produce(record.topic, record.value, record.key, record.partition)
    producer.commit_transaction(60)
    return properties


def test_a_cursor_of_events_comes_back_in_its_lane_beside_the_position(properties, topic_prefix) -> None:
    topic = Topics.of(topic_prefix).positions
    states = {name: state for lane in range(LANES) for name, state in read_lane_state(properties, topic, lane)}
    assert set(states) == {STAYS, LEAVES, WITHDREW}
    assert {name: state.event_cursor.after for name, state in states.items()} == {
        STAYS: CURSOR.after,
        LEAVES: CURSOR.after,
        WITHDREW: "0",
    }
    assert states[STAYS].event_cursor == CURSOR
    assert {state.position.position for state in states.values()} == {7}


@pytest.mark.usefixtures("properties")
def test_employers_no_longer_in_the_list_are_removed_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with OutsideWorld(seed=4) as outside, EventReceiver() as receiver:
        outside.altinn.behaviour = Behaviour(time_factor=0.0001)
        settings = {
            **outside.environment([STAYS, LEAVES, WITHDREW]),
            "TREKKPAALEGG_WEBHOOK_URL": receiver.url,
            "TREKKPAALEGG_WEBHOOK_SECRET": "s3cret" * 6,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for name in (STAYS, LEAVES, WITHDREW):
            outside.register(name)
        assert run_command(["subscriptions", "apply"]) == 0
        monkeypatch.setenv("TREKKPAALEGG_TREKKPLIKTIGE", STAYS)
        assert run_command(["subscriptions", "apply"]) == 0
        assert len(outside.altinn.of_party(LEAVES)) == 1

        capsys.readouterr()
        outside.maskinporten.withdraw_system_user(WITHDREW)
        code = run_command(["subscriptions", "apply", "--prune", "--json"])
        captured = capsys.readouterr()
        rows = {row["trekkpliktig"]: row["done"] for row in json.loads(captured.out)}
        assert rows == {STAYS: "unchanged", LEAVES: "removed", WITHDREW: "failed"}
        assert code == 1
        assert f"1 of 3 trekkpliktige are not as they should be: {WITHDREW}" in captured.err
        assert outside.altinn.of_party(LEAVES) == []
        assert len(outside.altinn.of_party(STAYS)) == 1
