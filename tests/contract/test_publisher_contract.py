"""The promises of `LanePublisher`, kept by the fake and by the real publisher on a real Kafka."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING

import pytest

from producer.domain.state import HandedOver, OrderState, TrekkpliktigPosition
from producer.errors import AbortedError, LaneFencedError, OutcomeUnknownError
from producer.observe.port import NullObserver
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import NO_HEADERS, Record
from producer.publish.state import handed_over_record, order_record, read_lane_state
from producer.publish.topics import Topics
from sandbox.servers.server import free_port
from tests.contract.publisher_worlds import (
    BATCH_BYTES_MAX,
    LANES,
    ONE,
    RECORD_BYTES_MAX,
    FakeWorld,
    RealWorld,
    World,
    event,
    state,
    values,
)
from tests.kit.fakes.publisher import FakeKafka
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

MADE = itertools.count(1)


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


def test_lane_that_was_never_written_has_an_empty_state(world: World, lane: int) -> None:
    assert len(world.publisher(lane).acquire()) == 0


def test_what_was_published_is_read_back_by_the_next_owner(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.acquire()
    for trekkversjon in (1, 2):
        told = {"ce_id": b"%s/%d" % (key, trekkversjon), "ce_trekkpliktig": ONE.encode()}
        of_it = event(world, lane, key, b"%d" % trekkversjon, **told)
        publisher.publish([of_it, *state(world, lane, 8 + trekkversjon, key, trekkversjon=trekkversjon)], 0)
    assert values(world, key) == [b"1", b"2"]
    for taker in (publisher, world.publisher(lane)):
        taken = taker.acquire()
        assert [name for name, _ in taken] == [ONE]
        assert taken.of(ONE).position == TrekkpliktigPosition(10)
        assert taken.orders.order(key) == OrderState(2, b"12345678", 1)
        assert taken.of(ONE).handed_over(key) == HandedOver(2, b"12345678", 1)


def test_headers_arrive(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.acquire()
    publisher.publish([event(world, lane, key, ce_id=b"a/1", ce_late=b"true")], 0)
    [seen] = [seen for seen in world.committed(world.topics.versjoner) if seen.key == key]
    assert seen.headers == {"ce_id": b"a/1", "ce_late": b"true"}


def test_what_a_killed_owner_left_open_is_rolled_back_and_not_seen(world: World, lane: int, key: bytes) -> None:
    world.leave_open(lane, [event(world, lane, key), *state(world, lane, 99, key)])
    publisher = world.publisher(lane)
    assert len(publisher.acquire()) == 0
    publisher.publish([event(world, lane, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_new_owner_fences_the_former_one_which_then_writes_nothing(world: World, lane: int, key: bytes) -> None:
    former, owner = world.publisher(lane), world.publisher(lane)
    former.acquire()
    former.publish([event(world, lane, key, b"before")], 0)
    owner.acquire()
    with pytest.raises(LaneFencedError):
        former.publish([event(world, lane, key, b"zombie"), *state(world, lane, 99, key)], 5)
    owner.publish([event(world, lane, key, b"after")], 1)
    assert values(world, key) == [b"before", b"after"]
    assert world.signal_offset(lane) == 1
    assert world.publisher(lane).acquire().of(ONE).position.position == 0


def test_owners_of_other_lanes_are_not_fenced(world: World, lane: int, key: bytes) -> None:
    other = next(world.fresh_lanes)
    one, two = world.publisher(lane), world.publisher(other)
    one.acquire()
    two.acquire()
    one.publish([event(world, lane, key, b"1")], 0)
    two.publish([event(world, other, key, b"2")], 0)
    assert values(world, key) == [b"1", b"2"]


def test_an_aborted_transaction_leaves_nothing_and_the_next_one_holds(world: World, lane: int, key: bytes) -> None:
    """On the real Kafka it is a member that the group has excluded, whose offset is refused."""
    publisher = world.publisher(lane)
    publisher.acquire()
    publisher.publish([event(world, lane, key, b"1")], 3)
    world.abort_next(lane)
    with pytest.raises(AbortedError):
        publisher.publish([event(world, lane, key, b"2"), *state(world, lane, 99, key)], 4)
    assert values(world, key) == [b"1"]
    assert world.signal_offset(lane) == 3
    publisher.publish([event(world, lane, key, b"3")], 4)
    assert values(world, key) == [b"1", b"3"]
    assert publisher.acquire().of(ONE).position.position == 0


def test_signal_offset_is_committed_with_the_records_or_alone(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.acquire()
    publisher.publish([event(world, lane, key)], 17)
    assert world.signal_offset(lane) == 17
    publisher.publish([], 18)
    assert world.signal_offset(lane) == 18


def test_every_record_goes_to_the_partition_that_it_names_whatever_its_key(world: World, lane: int) -> None:
    keys = [f"key-{next(MADE)}".encode() for _ in range(20)]
    publisher = world.publisher(lane)
    publisher.acquire()
    signal = Record(world.topics.signals, keys[0], b"forwarded", NO_HEADERS, (lane + 1) % LANES)
    publisher.publish([*(event(world, lane, each) for each in keys), *state(world, lane, 7, *keys), signal], 0)
    found = {each.partition for each in world.committed(world.topics.versjoner) if each.key in keys}
    prefixed = {b"/" + each for each in keys}
    states = {each.partition for each in world.committed(world.topics.positions) if each.key in prefixed}
    signals = {each.partition for each in world.committed(world.topics.signals) if each.key in keys}
    assert (found, states, signals) == ({lane}, {lane}, {(lane + 1) % LANES})


def test_tombstone_forgets(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.acquire()
    publisher.publish([*state(world, lane, 7, key, key + b"-other")], 0)
    topic = world.topics.positions
    orders = [order_record(topic, lane, each, None) for each in (key, key + b"-other")]
    handed_over = [handed_over_record(topic, lane, ONE, each, None) for each in (key, key + b"-other")]
    publisher.publish([*orders, *handed_over, Record(topic, ONE.encode(), None, NO_HEADERS, lane)], 0)
    taken = publisher.acquire()
    assert (taken.of(ONE).position.position, len(taken.of(ONE)), len(taken.orders)) == (0, 0, 0)


def test_state_larger_than_one_fetch_is_read_to_its_end(world: World, lane: int) -> None:
    keys = [b"%08d-0123456789abcdef0123456789abcdef" % number for number in range(25_000)]
    publisher = world.publisher(lane)
    publisher.acquire()
    for start in range(0, len(keys), 5000):
        publisher.publish(state(world, lane, start + 5000, *keys[start : start + 5000]), 0)
    publisher.publish(state(world, lane, len(keys)), 0)
    taken = world.publisher(lane).acquire()
    assert set(taken.of(ONE).keys()) == set(taken.orders) == set(keys)
    assert len(taken.orders) == len(keys)
    assert taken.of(ONE).position.position == len(keys)


def test_a_record_too_large_for_its_topic_leaves_nothing_of_its_transaction(
    world: World, lane: int, key: bytes
) -> None:
    """The topic took more when the lane was taken. A broker that refuses early leaves an aborted transaction."""
    publisher = world.publisher(lane)
    publisher.acquire()
    with pytest.raises((OutcomeUnknownError, AbortedError)):
        publisher.publish(
            [event(world, lane, key, b"small"), event(world, lane, key, Random(1).randbytes(2 * RECORD_BYTES_MAX))], 0
        )
    publisher.acquire()
    publisher.publish([event(world, lane, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_record_larger_than_any_batch_leaves_nothing_of_its_transaction(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    publisher.acquire()
    with pytest.raises(OutcomeUnknownError):
        publisher.publish(
            [event(world, lane, key, b"small"), event(world, lane, key, Random(1).randbytes(2 * BATCH_BYTES_MAX))], 0
        )
    publisher.acquire()
    publisher.publish([event(world, lane, key, b"after")], 0)
    assert values(world, key) == [b"after"]


def test_a_publisher_that_was_closed_or_never_acquired_writes_nothing(world: World, lane: int, key: bytes) -> None:
    publisher = world.publisher(lane)
    with pytest.raises(OutcomeUnknownError):
        publisher.publish([event(world, lane, key)], 0)
    publisher.acquire()
    publisher.close()
    with pytest.raises(OutcomeUnknownError):
        publisher.publish([event(world, lane, key)], 0)
    assert values(world, key) == []


def test_publisher_that_is_to_leave_fences_nobody(world: World, lane: int, key: bytes) -> None:
    owner = world.publisher(lane)
    owner.acquire()
    with pytest.raises(RetryableError):
        world.publisher(lane).acquire(lambda: True)
    owner.publish([event(world, lane, key)], 0)
    assert values(world, key) == [b"x"]


def test_a_lane_is_not_acquired_while_kafka_is_away() -> None:
    kafka = FakeKafka()
    kafka.is_reachable = False
    with pytest.raises(RetryableError):
        kafka.publisher().acquire()
    topics = Topics.of("away")
    away = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    publisher = KafkaLanePublisher(away, topics, 0, "away", BATCH_BYTES_MAX, lambda: None, NullObserver())
    asked = itertools.count()
    with pytest.raises(RetryableError):
        publisher.acquire(lambda: next(asked) > 1)


def test_state_that_cannot_be_read_is_an_error_and_never_an_empty_state() -> None:
    away = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    with pytest.raises(RetryableError):
        read_lane_state(away, "away-positions", 0, stalled_seconds_max=1.0)


@pytest.mark.kafka
def test_topic_that_is_not_there_is_an_error_and_never_an_empty_state(real_world: RealWorld) -> None:
    with pytest.raises(RetryableError):
        read_lane_state(real_world.properties, "no-such-topic", 0, stalled_seconds_max=1.0)


@pytest.mark.kafka
def test_state_that_is_only_inspected_ends_before_an_open_transaction(real_world: RealWorld) -> None:
    """`position show` takes no lane, so it must neither wait for the owner nor see what may yet be rolled back."""
    lane = next(real_world.fresh_lanes)
    publisher = real_world.publisher(lane)
    publisher.acquire()
    publisher.publish(state(real_world, lane, 7), 0)
    real_world.leave_open(lane, state(real_world, lane, 8))
    looked_at = read_lane_state(real_world.properties, real_world.topics.positions, lane, stalled_seconds_max=60.0)
    assert looked_at.of(ONE).position.position == 7
    assert real_world.publisher(lane).acquire().of(ONE).position.position == 7
