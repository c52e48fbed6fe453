"""The broker is stopped, killed and paused under load, and transactional ids expire: the same process goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.altinn.state import Behaviour
from sandbox.servers.kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

EXPIRATION_SECONDS = 3
TOLD = "trekkpaalegg_notifications_total"


@pytest.fixture(scope="module")
def forgetful_kafka() -> Iterator[EmbeddedKafka]:
    """A broker that forgets a transactional id, and what it knew of its producer, after three idle seconds."""
    properties = {
        "transactional.id.expiration.ms": str(EXPIRATION_SECONDS * 1000),
        "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
        "producer.id.expiration.ms": str(EXPIRATION_SECONDS * 1000),
        "producer.id.expiration.check.interval.ms": "500",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        yield kafka


def test_a_broker_that_is_stopped_and_killed_under_load_comes_back_to_the_same_worker(
    own_kafka: Any, make_stage: Any
) -> None:
    stage = make_stage(own_kafka)
    with stage.traffic():
        process = stage.run()
        stage.wait_until_owned(process)
        for end in (own_kafka.stop, own_kafka.kill):
            before = len(stage.versjoner())
            end()
            own_kafka.start()
            stage.wait_until(lambda before=before: len(stage.versjoner()) > before, 30, "it publishes again")
    stage.wait_until_published(40)
    assert process.is_running()
    stage.prove()


def test_a_call_whose_wake_up_kafka_cannot_take_is_not_acknowledged_and_comes_again(
    own_kafka: Any, make_stage: Any
) -> None:
    """Altinn keeps what was answered 503, and calls again: each change is told of once Kafka is back."""
    stage = make_stage(own_kafka)
    stage.outside.altinn.behaviour = Behaviour(time_factor=0.05, push_timeout_seconds=30)
    stage.settings |= stage.woken_by("push")
    worker = stage.run()
    stage.wait_until_published(60)
    stage.subscribe()
    own_kafka.stop()
    try:
        made = [stage.outside.skatteetaten.create(each) for each in stage.employers]
        stage.wait_until(lambda: stage.metric(worker, f'{TOLD}{{outcome="not_stored"}}') > 0, 60, "one is answered 503")
        assert stage.metric(worker, f'{TOLD}{{outcome="wake_up"}}') == 0
    finally:
        own_kafka.start()
    wake_ups = f'{TOLD}{{outcome="wake_up"}}'
    stage.wait_until(lambda: stage.metric(worker, wake_ups) == len(made), 90, "each is told of again, and stored")
    stage.wait_until_published(60)
    assert worker.is_running()
    stage.prove()


def test_a_transactional_id_that_has_expired_is_made_anew(forgetful_kafka: Any, make_stage: Any) -> None:
    stage = make_stage(forgetful_kafka)
    process = stage.run()
    stage.wait_until_owned(process)
    stage.wait_until_published()
    for _ in range(2):
        time.sleep(EXPIRATION_SECONDS + 1.5)  # the idle time in which the broker forgets
        for employer in stage.employers:
            stage.outside.skatteetaten.create(employer)
        stage.wait_until_published()
    assert process.is_running()
    assert "INVALID_PRODUCER_ID_MAPPING" in process.log_file.read_text()
    stage.prove()
