"""`verify` on a real Kafka reads the event topics: through a registry, by several processes, beside a producer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumers.settings.model import kafka_properties
from consumers.verify.event_topics import EventTopics as EventTopicsReading
from consumers.verify.events import PlainValues
from consumers.verify.history import complete
from consumers.verify.parts import read_in_parts
from consumers.verify.topics import KnownMissing
from tests.integration.proved_topics import ITS, OTHERS, STREAM, Stage, check_of, failing, stage_maker
from tests.kit.event_stream import make_stream
from tests.kit.waiting import Unseen, until
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

AT_WORK_SECONDS_MAX = 40.0


@pytest.fixture
def make_stage(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[Callable[..., Stage]]:
    with stage_maker(kafka, topic_prefix) as make:
        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


def test_events_written_through_a_registry_pass(make_stage: Callable[..., Stage], registry: EmbeddedRegistry) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    assert failing(stage.prove()) == {}


def test_an_aborted_transaction_is_not_seen(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write(*ITS, commits=False)
    assert failing(stage.prove()) == {}


def test_several_processes_find_what_one_finds(stage: Stage) -> None:
    stage.write(*OTHERS, ITS[0], *ITS[2:])
    stage.write(OTHERS[0], gjeldende=False)
    stage.write_to(stage.gjeldende, ITS[0])
    lone = stage.prove()
    with EventTopicsReading(kafka_properties(stage.settings), stage.topics.prefix, PlainValues(), Unseen()) as reading:
        ends, ends_of_current = reading.versjoner.ends(), reading.gjeldende.ends()
        read_in_parts(reading, stage.settings, ends, ends_of_current, with_headers=True, processes=2, messages_min=1)
        assert (reading.versjoner.next, reading.gjeldende.next) == (ends, ends_of_current)
        assert reading.history.events + reading.current.events == lone.events
        assert reading.headers.examined == lone.events
        found = [reading.history.once, complete(reading.history, KnownMissing().has), reading.current.check()]
        # What comes later, whose end Kafka tells a moment after the commit, is read by one process, from there on.
        before = reading.versjoner.ends()
        stage.write(msgspec.structs.replace(ITS[1], late=True, current=False))
        until(lambda: reading.versjoner.ends() != before, 30)
        reading.read_to(reading.versjoner.ends(), reading.gjeldende.ends())
        assert complete(reading.history, KnownMissing().has).ok
    for check in found:
        assert sorted(check.differences, key=repr) == sorted(check_of(lone, check.name).differences, key=repr)
        assert check.differences


def test_an_error_of_one_of_several_processes_is_told(
    make_stage: Callable[..., Stage], registry: EmbeddedRegistry
) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    without = stage.settings.model_copy(update={"kafka_schema_registry": None})
    with EventTopicsReading(kafka_properties(without), stage.topics.prefix, PlainValues(), Unseen()) as reading:
        ends, ends_of_current = reading.versjoner.ends(), reading.gjeldende.ends()
        with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
            read_in_parts(reading, without, ends, ends_of_current, with_headers=True, processes=2, messages_min=1)


def test_a_producer_at_work_does_no_harm(stage: Stage) -> None:
    """Its transactions show in one topic a moment before the other; that is no difference."""
    stage.write(*STREAM)
    stop = threading.Event()

    def go_on() -> None:
        for each in make_stream(9, 4000):
            if stop.is_set():
                return
            stage.write(each)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        seen = []
        deadline = time.monotonic() + AT_WORK_SECONDS_MAX
        while len(set(seen)) < 4:
            assert time.monotonic() < deadline, "it was at work"
            proof = stage.prove()
            assert failing(proof) == {}
            seen.append(proof.events)
    finally:
        stop.set()
        thread.join()
    assert seen == sorted(seen)
