"""`verify` reads the event topics of a real Kafka: with a registry, after an abort, beside a producer at work."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from consumers.verify.proof import ProofOptions, prove
from tests.integration.proved_topics import ITS, STREAM, Stage, failing, stage_maker
from tests.kit.event_stream import make_stream
from tests.kit.waiting import Unseen
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


def test_values_of_a_registry_are_not_read_without_it(
    make_stage: Callable[..., Stage], registry: EmbeddedRegistry
) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    without = stage.settings.model_copy(update={"kafka_schema_registry": None})
    with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
        prove(without, ProofOptions(), Unseen())


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
