"""A Kafka that answers that it has no broker makes librdkafka forget them all; every client goes on all the same.

It answers so for a moment when it stops; here it does until the client under test has been replaced.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

import trekkpaalegg.kafka.reader
from producer.group.membership import KafkaMembership
from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.servers.proxy import KafkaProxy
from tests.kit.waiting import PATIENCE, until
from trekkpaalegg.errors import ForgottenError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.kafka.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

pytestmark = pytest.mark.kafka

SECONDS_MAX = 60.0
HIDDEN_SECONDS = 2.0
TOLD_SECONDS = 5.0
"""librdkafka reports statistics every two seconds, and must have reported twice."""


class Reader(Protocol):
    """One of the clients that must go on reading."""

    def turn(self) -> None:
        """Work for a moment."""

    @property
    def values(self) -> list[bytes]:
        """What was read."""

    @property
    def times_made(self) -> int:
        """How many librdkafka clients it has created."""

    def close(self) -> None:
        """Leave Kafka."""


class OwnerOfNothing:
    """Has read nothing, and has nothing under way."""

    lost_offset_advice = "never mind"

    def next_offsets(self, _topic: str, partitions: Collection[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    def hand_over(self, _topic: str, _partitions: Collection[int]) -> None:
        return

    def report(self, _event: str, **_details: object) -> None:
        return

    def is_stopping(self) -> bool:
        return False


class MemberOfPayroll:
    """A ledger's subscription, replaced as its worker does."""

    def __init__(self, properties: dict[str, str], topic: str) -> None:
        self._make = lambda: Subscription(properties, topic, topic, OwnerOfNothing())
        self._subscription = self._make()
        self.times_made = 1
        self.values: list[bytes] = []

    def turn(self) -> None:
        try:
            self.values += [each.value() or b"" for each in self._subscription.read(100, 0.1).messages]
        except ForgottenError:
            self._subscription.close()
            self._subscription = self._make()
            self.times_made += 1

    def close(self) -> None:
        self._subscription.close()


class Worker:
    """A producer's membership, with the topic as its signals."""

    def __init__(self, properties: dict[str, str], topic: str) -> None:
        self.times_made = 0
        self.values: list[bytes] = []

        def read_properties() -> dict[str, str]:
            self.times_made += 1
            return properties

        self._membership = KafkaMembership(read_properties, topic, topic, None)
        self.times_made = 1
        self._membership.join(lambda _: None, lambda _: None)

    def turn(self) -> None:
        self.values += [each.value or b"" for each in self._membership.poll(0.1)]

    def close(self) -> None:
        self._membership.leave()


class Viewer:
    """A reader without a group, and the clients that it has created."""

    def __init__(self, read: Callable[[], list[Any]], close: Callable[[], None], made: list[Consumer]) -> None:
        self._read = read
        self.close = close
        self._made = made
        self.values: list[bytes] = []

    @property
    def times_made(self) -> int:
        return len(self._made)

    def turn(self) -> None:
        self.values += [each.value() for each in self._read()]


@pytest.fixture(scope="module")
def proxy() -> Iterator[KafkaProxy]:
    with KafkaProxy() as between, EmbeddedKafka(properties=between.broker_properties) as server:
        between.target_port = server.port
        yield between


@pytest.fixture
def topic(proxy: KafkaProxy, topic_prefix: str) -> str:
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap_servers, "log_level": 0})
    admin.create_topics([NewTopic(topic_prefix, 1)])[topic_prefix].result(60)
    return topic_prefix


@pytest.fixture(params=["subscription", "membership", "follower"])
def reader(
    request: pytest.FixtureRequest, proxy: KafkaProxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    properties = {
        "bootstrap.servers": proxy.bootstrap_servers,
        # The cluster is asked for all the time, so that one of the answers makes librdkafka forget.
        "topic.metadata.refresh.interval.ms": "20",
    }
    made: list[Consumer] = []

    def make(settings: dict[str, Any]) -> Consumer:
        made.append(create_consumer(settings))
        return made[-1]

    found: Reader
    if request.param == "subscription":
        found = MemberOfPayroll(properties, topic)
    elif request.param == "membership":
        found = Worker(properties, topic)
    else:
        monkeypatch.setattr(trekkpaalegg.kafka.reader, "create_consumer", make)
        follower = Follower(properties, [topic], "beginning")
        found = Viewer(follower.poll, follower.close, made)
    yield found
    found.close()


def test_a_client_that_has_forgotten_every_broker_is_replaced_and_misses_nothing(
    proxy: KafkaProxy, topic: str, reader: Reader
) -> None:
    writer = Producer({"bootstrap.servers": proxy.bootstrap_servers, "log_level": 0})

    def write(value: bytes) -> None:
        writer.produce(topic, value)
        assert writer.flush(30) == 0

    def has_read(value: bytes) -> bool:
        reader.turn()
        return value in reader.values

    write(b"1")
    until(lambda: has_read(b"1"), SECONDS_MAX)
    deadline = time.monotonic() + PATIENCE * SECONDS_MAX
    while reader.times_made == 1:
        assert time.monotonic() < deadline, "librdkafka has not forgotten its brokers: does it still do so?"
        with proxy.hide_brokers():
            hidden_until = time.monotonic() + HIDDEN_SECONDS
            while time.monotonic() < hidden_until:
                reader.turn()
        looked_until = time.monotonic() + TOLD_SECONDS
        while reader.times_made == 1 and time.monotonic() < looked_until:
            reader.turn()
    write(b"2")
    until(lambda: has_read(b"2"), SECONDS_MAX)
