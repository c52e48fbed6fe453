"""Answers of Kafka are lost on the wire, and the wire itself: the service finds out what stands, and goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.servers.kafka_answers import END_TXN
from tests.kit.servers.proxy import KafkaProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

LOSSES = 3
AWAY_SECONDS = 17.0
"""A session of 10 s and a transaction of 15 s end meanwhile."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[KafkaProxy]:
    with KafkaProxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied_kafka(proxy: KafkaProxy) -> Iterator[EmbeddedKafka]:
    """A broker that all clients reach through the proxy alone."""
    kafka = EmbeddedKafka(properties=proxy.broker_properties)
    proxy.target_port = kafka.port
    with kafka:
        yield kafka


@pytest.fixture
def stage(proxied_kafka: EmbeddedKafka, make_stage: Any) -> Any:
    stage = make_stage(proxied_kafka)
    # So that an answer that never comes is waited for not so long.
    stage.set_kafka_properties(socket_timeout_ms="3000")
    return stage


@pytest.mark.parametrize(("lost", "cut"), [("answers", True), ("answers", False), ("requests", True)])
def test_a_commit_that_is_lost_on_the_wire_is_asked_for_again(
    stage: Any, proxy: KafkaProxy, lost: str, *, cut: bool
) -> None:
    """Of the answer the service cannot know that it stands, of the request that it does not."""
    with stage.traffic():
        process = stage.run("one")
        stage.wait_until_owned(process)
        loss = getattr(proxy, f"lose_{lost}")(END_TXN, times=LOSSES, cut=cut)
        stage.wait_until(lambda: loss.lost == LOSSES, 40, "commits are lost")
    stage.wait_until_published()
    assert process.is_running()
    process.kill()
    stage.once("one")
    stage.prove()


def test_a_network_that_is_away_for_longer_than_a_session_and_a_transaction_may_last(
    stage: Any, proxy: KafkaProxy
) -> None:
    """The group puts the worker out and the broker aborts its transactions; it joins again and goes on by itself."""
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
