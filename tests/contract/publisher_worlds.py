"""A fake Kafka and a real one behind the same methods, for the suite of publishers; and what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import HandedOver, OrderState, TrekkpliktigPosition
from producer.group.membership import KafkaMembership
from producer.observe.port import NullObserver
from producer.publish.kafka import KafkaLanePublisher, producer_properties
from producer.publish.port import Record
from producer.publish.state import handed_over_record, order_record, position_record
from producer.publish.topics import Topics, wanted_topics
from sandbox.demo.proof import read_committed
from tests.kit.fakes.publisher import FakeKafka, Fault
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.publish.port import LanePublisher

LANES = 24
RECORD_BYTES_MAX = 200_000
BATCH_BYTES_MAX = 1_000_000
GROUP_SECONDS_MAX = 120.0
ONE = "311111111"


class Seen(NamedTuple):
    """One committed record as a reader sees it."""

    partition: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]


class World(Protocol):
    """Publishers, and the eyes of a reader."""

    topics: Topics
    fresh_lanes: Iterator[int]

    def publisher(self, lane: int) -> LanePublisher: ...
    def leave_open(self, lane: int, records: list[Record]) -> None: ...
    def abort_next(self, lane: int) -> None: ...
    def committed(self, topic: str) -> list[Seen]: ...
    def signal_offset(self, lane: int) -> int | None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.kafka = FakeKafka(LANES, record_bytes_max=RECORD_BYTES_MAX)
        self.topics = self.kafka.topics
        self.fresh_lanes = iter(range(LANES))

    def publisher(self, lane: int) -> LanePublisher:
        return self.kafka.publisher(lane)

    def leave_open(self, lane: int, records: list[Record]) -> None:
        self.kafka.leave_open(lane, records)

    def abort_next(self, lane: int) -> None:
        self.kafka.fail(Fault.ABORTED, lane)

    def committed(self, topic: str) -> list[Seen]:
        return [Seen(each.partition, each.key, each.value, each.headers) for each in self.kafka.committed(topic)]

    def signal_offset(self, lane: int) -> int | None:
        return self.kafka.signal_offset(lane)


class RealWorld:
    """Topics of their own on the session's broker; one member that owns every lane, and what it was before."""

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self.properties = {"bootstrap.servers": bootstrap_servers}
        self.application_id = prefix
        self.topics = Topics.of(prefix)
        self.fresh_lanes = iter(range(LANES))
        admin = KafkaAdmin(self.properties)
        for topic in wanted_topics(prefix, partitions=LANES, replication=1):
            config = {**topic.config, "max.message.bytes": str(RECORD_BYTES_MAX)}
            admin.create([type(topic)(topic.name, topic.partitions, config, topic.replication)])
        self.member = KafkaMembership(lambda: self.properties, prefix, self.topics.signals, None)
        self.owned: set[int] = set()
        self.member.join(self.owned.update, self.owned.difference_update)
        self.poll_until(lambda: len(self.owned) == LANES)
        self.put_out = self.member.metadata()
        self._make_generation_pass()
        self._stale: set[int] = set()

    def poll_until(self, condition: Any, other: KafkaMembership | None = None) -> None:
        def polled() -> bool:
            self.member.poll(0.05)
            if other is not None:
                other.poll(0.05)
            return condition()

        until(polled, GROUP_SECONDS_MAX)

    def _make_generation_pass(self) -> None:
        """Another worker comes and goes: what the member was before is no longer of the group."""
        other = KafkaMembership(lambda: self.properties, self.application_id, self.topics.signals, None)
        others: set[int] = set()
        other.join(others.update, others.difference_update)
        self.poll_until(lambda: others and len(self.owned) + len(others) == LANES, other)
        other.leave()
        self.poll_until(lambda: len(self.owned) == LANES)

    def publisher(self, lane: int) -> LanePublisher:
        def metadata() -> object:
            if lane in self._stale:
                self._stale.remove(lane)
                return self.put_out
            return self.member.metadata()

        return KafkaLanePublisher(
            self.properties, self.topics, lane, self.application_id, BATCH_BYTES_MAX, metadata, NullObserver()
        )

    def leave_open(self, lane: int, records: list[Record]) -> None:
        transactional_id = f"{self.application_id}-{lane}"
        self._killed = Producer(producer_properties(self.properties, transactional_id, BATCH_BYTES_MAX))
        self._killed.init_transactions(30)
        self._killed.begin_transaction()
        for record in records:
            self._killed.produce(record.topic, record.value, record.key, record.partition)
        assert self._killed.flush(10) == 0

    def abort_next(self, lane: int) -> None:
        """By an offset sent along as the member that it was before the group moved on."""
        self._stale.add(lane)

    def committed(self, topic: str) -> list[Seen]:
        messages = read_committed(self.properties["bootstrap.servers"], topic)
        return [
            Seen(message.partition(), message.key(), message.value(), dict(message.headers() or []))
            for message in messages
        ]

    def signal_offset(self, lane: int) -> int | None:
        reader = Consumer({**self.properties, "group.id": self.application_id})
        try:
            [committed] = reader.committed([TopicPartition(self.topics.signals, lane)], timeout=60)
        finally:
            reader.close()
        return committed.offset if committed.offset >= 0 else None


def event(world: World, lane: int, key: bytes, value: bytes = b"x", **headers: bytes) -> Record:
    return Record(world.topics.versjoner, key, value, headers, lane)


def values(world: World, key: bytes) -> list[bytes | None]:
    return [seen.value for seen in world.committed(world.topics.versjoner) if seen.key == key]


def state(world: World, lane: int, position: int, *keys: bytes, trekkversjon: int = 1) -> list[Record]:
    """The lane's position as the reader of an employer, and as the home of these orders, which that one showed."""
    topic, order = world.topics.positions, OrderState(trekkversjon, b"12345678", 1)
    handed_over = HandedOver(trekkversjon, b"12345678", 1)
    return [
        position_record(topic, lane, ONE, TrekkpliktigPosition(position)),
        *(order_record(topic, lane, key, order) for key in keys),
        *(handed_over_record(topic, lane, ONE, key, handed_over) for key in keys),
    ]
