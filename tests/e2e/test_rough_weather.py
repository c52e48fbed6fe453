"""The source and the registry misbehave while versions keep coming: all that can be served is, and nothing is lost."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.demo.proof import read_committed
from sandbox.servers.registry import EmbeddedRegistry
from sandbox.skatteetaten.faults import rough_weather
from trekkpaalegg.decode import CONFLUENT_MARKER, Decoder
from trekkpaalegg.registry import SchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

FAULT_RATE = 0.2
OUTAGE_SECONDS = 2.0


def test_faults_of_every_passing_kind_and_an_outage_lose_nothing(stage: Any) -> None:
    skatteetaten = stage.outside.skatteetaten
    with stage.traffic():
        process = stage.run()
        stage.wait_until_owned(process)
        for fault in rough_weather(FAULT_RATE):
            skatteetaten.add_fault(fault)
        stage.wait_until(lambda: len(skatteetaten.faults.struck) >= 8, 30, "nearly every kind of fault has struck")
        stage.outside.stop_api()
        time.sleep(OUTAGE_SECONDS)  # the outage itself
        stage.outside.start_api()
        stage.outside.stop_maskinporten()
        stage.wait_until(lambda: '"outcome": "retry"' in process.log_file.read_text(), 20, "a token cannot be had")
        stage.outside.start_maskinporten()
        skatteetaten.clear_faults()
    stage.wait_until_published(60)
    assert process.is_running()
    assert skatteetaten.simultaneous_max <= skatteetaten.behaviour.calls_at_once_max
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert [each.identity for each in stage.prove() if each.late] == []


def test_an_employer_who_may_not_be_served_holds_back_no_other(stage: Any) -> None:
    forbidden, *others = stage.employers
    stage.outside.skatteetaten.forbid(forbidden)
    with stage.traffic():
        process = stage.run()
        stage.wait_until_owned(process)
    stage.wait_until_published(employers=others)
    assert process.is_running()
    stage.prove(others)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    once = stage.begin("once")
    assert once.wait(30) == 1
    assert "1 of 6 trekkpliktige were not read to their end" in once.last_lines()
    stage.outside.skatteetaten.allow(forbidden)
    stage.once()
    stage.prove()


@pytest.fixture
def late_registry() -> Iterator[EmbeddedRegistry]:
    """A registry that does not run yet; its address is known."""
    registry = EmbeddedRegistry()
    yield registry
    registry.close()


def test_a_registry_that_is_down_at_the_start_is_waited_for_and_then_used(
    stage: Any, late_registry: EmbeddedRegistry
) -> None:
    stage.settings["KAFKA_SCHEMA_REGISTRY"] = late_registry.url
    with stage.traffic(interval_seconds=0.1):
        process = stage.run("one")
        stage.wait_until(lambda: process.has_logged("lane ended"), 30, "the registry is missed")
        late_registry.start()
        stage.wait_until_owned(process)
    schema_source = SchemaRegistry(late_registry.url)
    stage.decoder = Decoder(schema_source)
    stage.wait_until_published()
    assert stage.versjoner(), "the schema is known to us too"
    late_registry.stop()
    created = stage.outside.skatteetaten.create(stage.employers[0])
    stage.wait_until_published()
    process.kill()
    published = stage.prove()
    assert (created.trekkid, 1) in {each.identity for each in published}
    messages = read_committed(stage.kafka.bootstrap_servers, stage.topics.versjoner)
    assert {(message.value() or b"")[:1] for message in messages} == {CONFLUENT_MARKER}
    schema_source.close()
