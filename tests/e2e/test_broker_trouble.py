"""The broker is stopped, killed, paused, cut off and hard of hearing: the same process goes on when it is back."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.altinn.state import Behaviour
from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.event_stream import Roughness, make_stream
from tests.kit.servers.kafka_answers import END_TXN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit.processes import ProducerProcess
    from tests.kit.servers.proxy import KafkaProxy
    from tests.kit.stages.ledger_stage import LedgerStage

pytestmark = pytest.mark.kafka

EXPIRATION_SECONDS = 3
LOSSES = 3
ROUGH = Roughness(late=0.1, corrected=0.15)
AWAY_SECONDS = 17.0
"""A session of 10 s and a transaction of 15 s end meanwhile."""

FROZEN_SECONDS = 30.0
"""Beside that a call waits for ten seconds for the group's coordinator."""

STOP_SECONDS_MAX = 10.0
DEADLINE_SECONDS = 90.0
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


@pytest.fixture
def proxied_stage(proxied_kafka: EmbeddedKafka, make_stage: Any) -> Any:
    """A stage whose programs reach the broker through the proxy."""
    stage = make_stage(proxied_kafka)
    # So that an answer that never comes is waited for not so long.
    stage.set_kafka_properties(socket_timeout_ms="3000")
    return stage


def test_a_broker_that_is_stopped_and_killed_under_load_comes_back_to_the_same_worker(
    own_kafka: Any, make_stage: Any
) -> None:
    stage = make_stage(own_kafka)
    with stage.traffic():
        process = stage.run()
        stage.wait_until_owned(process)
        for end in (own_kafka.stop, own_kafka.kill):
            before = len(stage.arrived())
            end()
            own_kafka.start()
            stage.wait_until(lambda before=before: len(stage.arrived()) > before, 30, "it publishes again")
    stage.wait_until_published(40)
    assert process.is_running()
    stage.prove()


def test_while_the_broker_is_away_no_call_is_acknowledged_and_a_ledger_waits(
    own_kafka: Any, make_stage: Any, make_ledger_stage: Callable[..., LedgerStage]
) -> None:
    """Altinn keeps what was answered 503, and calls again: each change is told of once Kafka is back."""
    ledger = make_ledger_stage("sqlite", bootstrap_servers=own_kafka.bootstrap_servers)
    ledger.topics.write(make_stream(6, 50, roughness=ROUGH))
    consumer = ledger.begin("run")
    stage = make_stage(own_kafka, prefix=f"{ledger.topics.prefix}-told")
    stage.outside.altinn.behaviour = Behaviour(time_factor=0.05, push_timeout_seconds=30)
    stage.settings |= stage.woken_by("push")
    worker = stage.run()
    stage.wait_until_published(60)
    stage.subscribe()
    ledger.wait_until(ledger.is_applied, "the first part is applied")
    wake_ups = f'{TOLD}{{outcome="wake_up"}}'
    own_kafka.stop()
    try:
        made = [stage.outside.skatteetaten.create(each) for each in stage.employers]
        stage.wait_until(lambda: stage.metric(worker, f'{TOLD}{{outcome="not_stored"}}') > 0, 60, "one is answered 503")
        assert stage.metric(worker, wake_ups) == 0
        silence = "Kafka does not answer; reading continues when it does"
        ledger.wait_until(lambda: consumer.has_logged(silence), "it has seen the silence")
    finally:
        own_kafka.start()
    ledger.topics.write(make_stream(7, 50, roughness=ROUGH))
    stage.wait_until(lambda: stage.metric(worker, wake_ups) == len(made), 90, "each is told of again, and stored")
    stage.wait_until_published(60)
    assert worker.is_running()
    stage.prove()
    ledger.wait_until(ledger.is_applied, "all is applied")
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(STOP_SECONDS_MAX) == 0, consumer.last_lines()
    ledger.prove()


@pytest.mark.parametrize("moment", ["lanes assigned", "lane acquired"])
def test_a_signal_ends_the_service_while_kafka_is_silent(own_kafka: Any, make_stage: Any, moment: str) -> None:
    """A commit may hang then, so it is left to the next fence: exit 4, or 0 if none was under way."""
    stage = make_stage(own_kafka)
    with stage.traffic():
        process = stage.run("silent")
        stage.wait_until(lambda: process.has_logged(moment), 20, moment)
        own_kafka.pause()
        time.sleep(2.0)  # the silence itself, in which calls begin to hang
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        code = process.wait(2 * STOP_SECONDS_MAX)
        seconds = time.monotonic() - started
        own_kafka.resume()
    assert code in {0, 4}, process.last_lines()
    assert seconds < STOP_SECONDS_MAX
    stage.once("silent")
    stage.prove()


def test_clients_of_a_kafka_that_was_frozen_are_given_back_after_the_thaw(own_kafka: Any, make_stage: Any) -> None:
    """Each has four threads or more."""
    stage = make_stage(own_kafka)
    with stage.traffic(interval_seconds=0.2):
        process = stage.run("one")
        stage.wait_until_owned(process)
        stage.wait_until_published(40)
        clients = clients_of(process)
        for _ in range(3):
            own_kafka.pause()
            time.sleep(FROZEN_SECONDS)  # the freeze itself: transactions are under way, and time out
            own_kafka.resume()
            stage.wait_until_owned(process, deadline_seconds=60)
            before = len(stage.arrived())
            stage.wait_until(lambda before=before: len(stage.arrived()) > before, 60, "it goes on")
    # Whoever has observations deleted, which is done now and then, has one more for it.
    stage.wait_until(lambda: clients_of(process) <= clients + stage.lanes, 15, "clients are given back")
    stage.wait_until_published(60)
    stage.prove()


def clients_of(process: ProducerProcess) -> int:
    """How many Kafka clients a process has: librdkafka names a thread of each so."""
    names = [path.read_text().strip() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")]
    return names.count("rdk:main")


def test_a_commit_that_is_lost_on_the_wire_is_asked_for_again(proxied_stage: Any, proxy: KafkaProxy) -> None:
    """Of an answer the service cannot know that it stands, of a request that it does not."""
    stage = proxied_stage
    with stage.traffic():
        process = stage.run("one")
        stage.wait_until_owned(process)
        for lose, cut in ((proxy.lose_answers, True), (proxy.lose_answers, False), (proxy.lose_requests, True)):
            loss = lose(END_TXN, times=LOSSES, cut=cut)
            stage.wait_until(lambda loss=loss: loss.lost == LOSSES, 40, "commits are lost")
    stage.wait_until_published()
    assert process.is_running()
    process.kill()
    stage.once("one")
    stage.prove()


def test_a_network_that_is_away_for_longer_than_a_session_and_a_transaction_may_last(
    proxied_stage: Any, proxy: KafkaProxy
) -> None:
    """The group puts the worker out and the broker aborts its transactions; it joins again and goes on by itself."""
    stage = proxied_stage
    with stage.traffic(interval_seconds=0.1):
        process = stage.run()
        stage.wait_until_owned(process)
        loss = proxy.lose_requests(END_TXN, times=stage.lanes)
        stage.wait_until(lambda: loss.lost, 20, "a commit is under way")
        proxy.go_down()
        time.sleep(AWAY_SECONDS)  # the outage itself
        proxy.come_up()
    stage.wait_until_published(90)
    assert process.is_running()
    stage.prove()


def test_a_producer_without_kafka_is_alive_and_says_so_until_it_is_back(proxied_stage: Any, proxy: KafkaProxy) -> None:
    stage = proxied_stage
    proxy.go_down()
    process = stage.run()
    stage.wait_until(lambda: stage.misses(process, "start", "Kafka"), DEADLINE_SECONDS, "it misses Kafka at the start")
    assert stage.is_alive(process)
    proxy.come_up()
    stage.wait_until_owned(process, deadline_seconds=DEADLINE_SECONDS)
    stage.wait_until(lambda: stage.is_ready(process), DEADLINE_SECONDS, "it is ready")
    proxy.go_down()
    stage.wait_until(lambda: stage.misses(process, "kafka", "no broker"), DEADLINE_SECONDS, "it misses Kafka later")
    assert stage.is_alive(process)
    proxy.come_up()
    stage.wait_until(lambda: stage.is_ready(process), DEADLINE_SECONDS, "it is ready again")
    stage.outside.skatteetaten.create(stage.employers[0])
    stage.wait_until_published(DEADLINE_SECONDS)


def test_an_expired_transactional_id_is_created_again(forgetful_kafka: Any, make_stage: Any) -> None:
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
