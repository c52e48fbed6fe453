"""Event topics with any events, and their proof: for tests of `verify`."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.settings.model import Settings
from consumers.verify.proof import ProofOptions, prove
from producer.encode.state import encode_order_state
from tests.kit.event_stream import EventTopics, make_stream
from tests.kit.waiting import Unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.verify.findings import Check, Difference, Proof
    from producer.domain.state import OrderState
    from producer.domain.trekkpaalegg import Publication
    from sandbox.servers.kafka import EmbeddedKafka

STREAM = make_stream(3, 12)
ORDER = next(each.trekkpaalegg.trekkid for each in STREAM if each.trekkpaalegg.trekkversjon == 3)
ITS = [each for each in STREAM if each.trekkpaalegg.trekkid == ORDER]
OTHERS = [each for each in STREAM if each.trekkpaalegg.trekkid != ORDER]


class Stage:
    """The topics of one prefix, and the proof of them."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, registry_url: str | None = None) -> None:
        self.topics = EventTopics(kafka.bootstrap_servers, prefix, partitions=2, registry_url=registry_url)
        self.settings = Settings(
            kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix, kafka_schema_registry=registry_url
        )
        self.versjoner, self.gjeldende = f"{prefix}-versjoner", f"{prefix}-gjeldende"
        self.positions = f"{prefix}-positions"
        self._properties = {"bootstrap.servers": kafka.bootstrap_servers}

    def write(self, *publications: Publication, gjeldende: bool = True, commits: bool = True) -> None:
        self.topics.write(publications, gjeldende=gjeldende, commits=commits)

    def write_to(self, topic: str, publication: Publication, **headers: bytes | None) -> None:
        """One event to one topic, with headers changed or, given None, left out."""
        encoded = self.topics.encoders[topic].encode(publication)
        changed = {name: each for name, each in {**encoded.headers, **headers}.items() if each is not None}
        self.topics.write_raw(encoded.value, key=encoded.key, headers=changed, topic=topic)

    def write_positions(self, orders: Mapping[str, OrderState]) -> None:
        admin = AdminClient(self._properties)
        admin.create_topics([NewTopic(self.positions, num_partitions=2, replication_factor=1)])[self.positions].result(
            30
        )
        producer = Producer(self._properties)
        for trekkid, state in orders.items():
            producer.produce(self.positions, encode_order_state(state), f"314150260/{trekkid}".encode(), partition=1)
        assert producer.flush(30) == 0

    def prove(self, *, with_headers: bool = True) -> Proof:
        return prove(self.settings, ProofOptions(with_headers=with_headers), Unseen())


@contextmanager
def stage_maker(kafka: EmbeddedKafka, prefix: str) -> Iterator[Callable[..., Stage]]:
    """Makes stages, with a registry or without; all are closed at the end."""
    with ExitStack() as opened:

        def make(registry_url: str | None = None) -> Stage:
            stage = Stage(kafka, prefix, registry_url)
            opened.callback(stage.topics.close)
            return stage

        yield make


def failing(proof: Proof) -> dict[str, list[Difference]]:
    return {check.name: check.differences for check in proof.checks if not check.ok}


def check_of(proof: Proof, name: str) -> Check:
    return next(check for check in proof.checks if check.name == name)
