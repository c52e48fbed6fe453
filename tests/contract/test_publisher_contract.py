"""The promises of `LanePublisher`, kept by the fake and by the real publisher on a real Kafka."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from producer.domain.state import OrderState, TrekkpliktigPosition
from producer.errors import AbortedError, FencedError, OutcomeUnknownError, RetryableError
from producer.membership.kafka import KafkaMembership
from producer.observe.port import NullObserver
from producer.partitioning import lane_of
from producer.publish.admin import KafkaAdmin
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import NO_HEADERS, Record
from producer.publish.producer_properties import producer_properties
from producer.publish.state_log import read_lane_state
from producer.publish.state_records import forget_records, state_records
from producer.publish.topics import Topics, wanted_topics
from sandbox.fake_publisher import FakeKafka, Fault
from sandbox.proof.topics import read_committed
from sandbox.server import free_port
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.publish.port import LanePublisher
    from sandbox.kafka import EmbeddedKafka

LANES = 24
RECORD_BYTES_MAX = 200_000
BATCH_BYTES_MAX = 1_000_000
GROUP_SECONDS_MAX = 30.0
ONE, TWO = "311111111", "322222222"
MADE = itertools.count(1)


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
            [committed] = reader.committed([TopicPartition(self.topics.signals, lane)], timeout=10)
        finally:
            reader.close()
        return committed.offset if committed.offset >= 0 else None


@pytest.fixture(scope="module")
def real_world(kafka: EmbeddedKafka) -> Iterator[RealWorld]:
    real = RealWorld(kafka.bootstrap_servers, "publisher-contract")
    yield real
    real.member.leave()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else request.getfixturevalue("real_world")


@pytest.fixture
def lane(world: World) -> int:
    """One that no other test writes in."""
    return next(world.fresh_lanes)


@pytest.fixture
def key() -> bytes:
    """One that no other test writes."""
    return f"order-{next(MADE)}".encode()


def event(world: World, key: bytes, value: bytes = b"x", **headers: bytes) -> Record:
    return Record(world.topics.versjoner, key, value, headers)


def values(world: World, key: bytes) -> list[bytes | None]:
    return [seen.value for seen in world.committed(world.topics.versjoner) if seen.key == key]


def state(world: World, lane: int, position: int, *keys: bytes, trekkversjon: int = 1) -> list[Record]:
    orders = {key: OrderState(trekkversjon, b"12345678", 1) for key in keys}
    return list(state_records(world.topics.positions, lane, ONE, TrekkpliktigPosition(position), orders))


def test_lane_that_was_never_written_has_an_empty_state(world: World, lane: int) -> None:
    assert len(world.publisher(lane).take()) == 0


def test_what_was_published_stands_and_is_read_back_by_the_next_owner(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([event(world, key, b"1", ce_id=b"a/1"), *state(world, lane, 7, key)], 0)
    publisher.publish([event(world, key, b"2"), *state(world, lane, 9, key, trekkversjon=2)], 0)
    assert values(world, key) == [b"1", b"2"]
    for taker in (publisher, world.publisher(lane)):
        taken = taker.take()
        assert [name for name, _ in taken] == [ONE]
        assert taken.of(ONE).position == TrekkpliktigPosition(9)
        assert taken.of(ONE).order(key) == OrderState(2, b"12345678", 1)


def test_headers_arrive(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([event(world, key, ce_id=b"a/1", ce_late=b"true")], 0)
    [seen] = [seen for seen in world.committed(world.topics.versjoner) if seen.key == key]
    assert seen.headers == {"ce_id": b"a/1", "ce_late": b"true"}


def test_what_a_killed_owner_left_open_is_rolled_back_and_not_seen(world: World, lane: int, key: bytes) -> None:
    world.leave_open(lane, [event(world, key), *state(world, lane, 99, key)])
    publisher = world.publisher(lane)
    assert len(publisher.take()) == 0
    publisher.publish([event(world, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_new_owner_fences_the_former_one_which_then_writes_nothing(world: World, lane: int, key: bytes) -> None:
    former, owner = world.publisher(lane), world.publisher(lane)
    former.take()
    former.publish([event(world, key, b"before")], 0)
    owner.take()
    with pytest.raises(FencedError):
        former.publish([event(world, key, b"zombie"), *state(world, lane, 99, key)], 5)
    owner.publish([event(world, key, b"after")], 1)
    assert values(world, key) == [b"before", b"after"]
    assert world.signal_offset(lane) == 1
    assert world.publisher(lane).take().of(ONE).position.position == 0


def test_owners_of_other_lanes_are_not_fenced(world: World, lane: int, key: bytes) -> None:
    other = next(world.fresh_lanes)
    one, two = world.publisher(lane), world.publisher(other)
    one.take()
    two.take()
    one.publish([event(world, key, b"1")], 0)
    two.publish([event(world, key, b"2")], 0)
    assert values(world, key) == [b"1", b"2"]


def test_aborted_transaction_leaves_nothing_and_the_next_one_stands(world: World, lane: int, key: bytes) -> None:
    """On the real one it is a member that the group has put out, whose offset is refused."""
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([event(world, key, b"1")], 3)
    world.abort_next(lane)
    with pytest.raises(AbortedError):
        publisher.publish([event(world, key, b"2"), *state(world, lane, 99, key)], 4)
    assert values(world, key) == [b"1"]
    assert world.signal_offset(lane) == 3
    publisher.publish([event(world, key, b"3")], 4)
    assert values(world, key) == [b"1", b"3"]
    assert publisher.take().of(ONE).position.position == 0


def test_signal_offset_is_committed_with_the_records_or_alone(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([event(world, key)], 17)
    assert world.signal_offset(lane) == 17
    publisher.publish([], 18)
    assert world.signal_offset(lane) == 18


def test_keys_are_partitioned_as_java_does_it_and_state_goes_to_the_partition_of_its_lane(
    world: World, lane: int
) -> None:
    keys = [f"key-{next(MADE)}".encode() for _ in range(60)]
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([*(event(world, each) for each in keys), *state(world, lane, 7, *keys)], 0)
    seen = {each.key: each.partition for each in world.committed(world.topics.versjoner) if each.key in keys}
    assert seen == {each: lane_of(each.decode(), LANES) for each in keys}
    assert len(set(seen.values())) > 1
    prefixed = {ONE.encode() + b"/" + each for each in keys}
    partitions = {each.partition for each in world.committed(world.topics.positions) if each.key in prefixed}
    assert partitions == {lane}


def test_tombstone_forgets(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.take()
    publisher.publish([*state(world, lane, 7, key, key + b"-other")], 0)
    orders = forget_records(world.topics.positions, lane, ONE, [key, key + b"-other"])
    publisher.publish([*orders, Record(world.topics.positions, ONE.encode(), None, NO_HEADERS, lane)], 0)
    taken = publisher.take()
    assert (taken.of(ONE).position.position, len(taken.of(ONE))) == (0, 0)


def test_state_larger_than_one_fetch_is_read_to_its_end(world: World, lane: int) -> None:
    keys = [b"%08d-0123456789abcdef0123456789abcdef" % number for number in range(25_000)]
    publisher = world.publisher(lane)
    publisher.take()
    for start in range(0, len(keys), 5000):
        publisher.publish(state(world, lane, start + 5000, *keys[start : start + 5000]), 0)
    taken = world.publisher(lane).take()
    assert len(taken.of(ONE)) == len(keys)
    assert set(taken.of(ONE).keys()) == set(keys)
    assert taken.of(ONE).position.position == len(keys)


def test_record_larger_than_its_topic_takes_leaves_nothing_of_its_transaction(
    world: World, lane: int, key: bytes
) -> None:
    """The topic took more when the lane was taken. A broker that refuses early leaves an aborted transaction."""
    publisher = world.publisher(lane)
    publisher.take()
    with pytest.raises((OutcomeUnknownError, AbortedError)):
        publisher.publish(
            [event(world, key, b"small"), event(world, key, Random(1).randbytes(2 * RECORD_BYTES_MAX))], 0
        )
    publisher.take()
    publisher.publish([event(world, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_record_larger_than_any_batch_leaves_nothing_of_its_transaction(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.take()
    with pytest.raises(OutcomeUnknownError):
        publisher.publish([event(world, key, b"small"), event(world, key, Random(1).randbytes(2 * BATCH_BYTES_MAX))], 0)
    publisher.take()
    publisher.publish([event(world, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_publisher_that_was_closed_or_never_taken_writes_nothing(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    with pytest.raises(OutcomeUnknownError):
        publisher.publish([event(world, key)], 0)
    publisher.take()
    publisher.close()
    with pytest.raises(OutcomeUnknownError):
        publisher.publish([event(world, key)], 0)
    assert values(world, key) == []


def test_publisher_that_is_to_leave_fences_nobody(world: World, lane: int, key: bytes) -> None:
    owner = world.publisher(lane)
    owner.take()
    with pytest.raises(RetryableError):
        world.publisher(lane).take(lambda: True)
    owner.publish([event(world, key)], 0)
    assert values(world, key) == [b"x"]


def test_lane_is_not_taken_while_kafka_is_away() -> None:
    kafka = FakeKafka()
    kafka.is_reachable = False
    with pytest.raises(RetryableError):
        kafka.publisher().take()
    topics = Topics.of("away")
    away = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    publisher = KafkaLanePublisher(away, topics, 0, "away", BATCH_BYTES_MAX, lambda: None, NullObserver())
    asked = itertools.count()
    with pytest.raises(RetryableError):
        publisher.take(lambda: next(asked) > 1)


def test_state_that_cannot_be_read_is_an_error_and_never_an_empty_state() -> None:
    away = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    with pytest.raises(RetryableError):
        read_lane_state(away, "away-positions", 0, stalled_seconds_max=1.0)


@pytest.mark.kafka
def test_topic_that_is_not_there_is_an_error_and_never_an_empty_state(real_world: RealWorld) -> None:
    with pytest.raises(RetryableError):
        read_lane_state(real_world.properties, "no-such-topic", 0, stalled_seconds_max=1.0)


@pytest.mark.kafka
def test_state_that_is_only_looked_at_ends_before_an_open_transaction(real_world: RealWorld) -> None:
    """`position show` takes no lane, so it must neither wait for the owner nor see what may yet be rolled back."""
    lane = next(real_world.fresh_lanes)
    publisher = real_world.publisher(lane)
    publisher.take()
    publisher.publish(state(real_world, lane, 7), 0)
    real_world.leave_open(lane, state(real_world, lane, 8))
    looked_at = read_lane_state(real_world.properties, real_world.topics.positions, lane, stalled_seconds_max=5.0)
    assert looked_at.of(ONE).position.position == 7
    assert real_world.publisher(lane).take().of(ONE).position.position == 7
