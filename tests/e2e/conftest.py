"""Stages for the whole stream and for its consumers, and servers that no other module uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.control.world import OutsideWorld
from sandbox.servers.kafka import EmbeddedKafka, QuorumNode
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.servers.proxy import KafkaProxy
from tests.kit.stages.ledger_stage import LedgerStage
from tests.kit.stages.producer_stage import LANES, ProducerStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def proxy() -> Iterator[KafkaProxy]:
    """What clients of `proxied_kafka` speak to, which can lose what they say."""
    with KafkaProxy() as between:
        yield between


@pytest.fixture(scope="module")
def own_kafka(proxy: KafkaProxy) -> Iterator[EmbeddedKafka]:
    """A broker that no test outside the module uses: it may be stopped, killed and paused."""
    port, controller_port, proxy.target_port = free_port(), free_port(), free_port()
    listeners = {"PLAINTEXT": port, "PROXIED": proxy.target_port, "CONTROLLER": controller_port}
    properties = {
        "listeners": ",".join(f"{name}://{LOOPBACK}:{number}" for name, number in listeners.items()),
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},PROXIED://{proxy.bootstrap_servers}",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "inter.broker.listener.name": "PLAINTEXT",
    }
    place = QuorumNode(1, {1: controller_port})
    with EmbeddedKafka(port=port, properties=properties, place=place) as server:
        yield server


@pytest.fixture(scope="module")
def proxied_kafka(own_kafka: EmbeddedKafka, proxy: KafkaProxy) -> EmbeddedKafka:
    """A reference to the same broker, which its clients reach through the proxy alone."""
    assert own_kafka.is_running()
    return EmbeddedKafka(port=proxy.port)


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[EmbeddedPostgresql]:
    """A PostgreSQL that no test outside the module uses; the data that one test left are still there in the next."""
    with EmbeddedPostgresql() as server:
        yield server


@pytest.fixture
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld() as world:
        yield world


@pytest.fixture
def make_stage(outside: OutsideWorld, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., ProducerStage]]:
    """Builds a stage on a given broker: `employers` of them with `orders` orders among them, topics applied."""
    stages = []

    def make(
        kafka: EmbeddedKafka, *, employers: int = 6, orders: int = 30, lanes: int = LANES, prefix: str = topic_prefix
    ) -> ProducerStage:
        stage = ProducerStage(kafka, outside, prefix, tmp_path)
        stages.append(stage)
        stage.employers = outside.generate(employers, orders)
        stage.apply_topics(lanes)
        return stage

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(kafka: EmbeddedKafka, make_stage: Callable[..., ProducerStage]) -> ProducerStage:
    """A stage on the broker that all tests share."""
    return make_stage(kafka, lanes=2)


@pytest.fixture
def make_ledger_stage(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., LedgerStage]]:
    """Builds a stage for consumers, its ledger on `database`: `postgresql` (the shared server) or `sqlite`.

    `bootstrap_servers` are those of a broker of its own, where the test needs one.
    """
    stages: list[LedgerStage] = []

    def make(database: str, *, bootstrap_servers: str | None = None, **options: Any) -> LedgerStage:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        if database == "postgresql":
            schema = topic_prefix.replace("-", "_")
            url = f"{request.getfixturevalue('postgresql').url}?options=-csearch_path%3D{schema}"
        stages.append(LedgerStage(bootstrap_servers or kafka.bootstrap_servers, topic_prefix, url, tmp_path, **options))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
