"""The only broker dies before the markers of a commit are written: Kafka then leaves them out, and all is settled.

What hangs by it is made by Kafka itself: its request to write the markers, which it sends to itself, is held back until
it is killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from producer.domain.state import OrderState, TrekkpliktigPosition
from producer.errors import OutcomeUnknownError, ProducerError
from producer.membership.kafka import KafkaMembership
from producer.observe.port import NullObserver
from producer.partitioning import lane_of
from producer.publish import hanging as hanging_module
from producer.publish.admin import KafkaAdmin
from producer.publish.hanging import find_hanging
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import Record
from producer.publish.state_records import state_records
from producer.publish.topics import Topics, wanted_topics
from sandbox.kafka import EmbeddedKafka
from sandbox.proof.topics import read_committed
from sandbox.proxy import WRITE_TXN_MARKERS, KafkaProxy
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.domain.state import LaneState

pytestmark = pytest.mark.kafka

APPLICATION = "hanging"
TOPICS = Topics.of(APPLICATION)
LANES = 12
ONE = "311111111"
LANE = lane_of(ONE, LANES)
ORDERS = [f"order-{number}" for number in range(40)]
"""So many that every partition has some."""

DEADLINE_SECONDS = 60.0
TRIES_MAX = 6
SESSION = {"broker.session.timeout.ms": "5000"}
"""Longer than the broker needs to come up, so that it first believes that it still leads everything."""

PATIENCE_SECONDS = 1.0


class World:
    """One broker, and the worker of lane `LANE`, that owns all lanes."""

    def __init__(self, kafka: EmbeddedKafka, proxy: KafkaProxy) -> None:
        self.kafka, self.proxy = kafka, proxy
        self.properties = {"bootstrap.servers": proxy.bootstrap_servers}
        self.target = dict.fromkeys(ORDERS, 0)
        self._join()
        self.publisher = self._publisher()

    def _join(self) -> None:
        self.member = KafkaMembership(lambda: self.properties, APPLICATION, TOPICS.signals, None)
        self.owned: set[int] = set()
        self.member.join(self.owned.update, self.owned.difference_update)
        self._poll_until_owned()

    def _poll_until_owned(self) -> None:
        def owns() -> bool:
            self.member.poll(0.05)
            return len(self.owned) == LANES

        until(owns, DEADLINE_SECONDS)

    def _publisher(self) -> KafkaLanePublisher:
        return KafkaLanePublisher(
            self.properties, TOPICS, LANE, APPLICATION, 1_000_000, self.member.metadata, NullObserver()
        )

    def restart_broker(self) -> None:
        """Start it again, and be a member of the group again."""
        self.kafka.kill()
        self.kafka.start()
        self._poll_until_owned()

    def start_over(self) -> None:
        """As another process that takes the lanes."""
        self.publisher.close()
        self.member.leave()
        self._join()
        self.publisher = self._publisher()

    def hanging(self) -> int:
        """How many records of the lane hang."""
        return sum(map(len, find_hanging(self.properties, TOPICS, LANE).hanging.values()))

    def lacking(self, state: LaneState) -> list[Record]:
        """Every version that the source has and the lane does not hold published, and the state after it."""
        known = state.of(ONE)
        records, orders = [], {}
        for trekkid, target in self.target.items():
            for trekkversjon in range(known.newest(trekkid.encode()) + 1, target + 1):
                records += [event(topic, trekkid, trekkversjon) for topic in (TOPICS.versjoner, TOPICS.gjeldende)]
                orders[trekkid.encode()] = OrderState(trekkversjon, b"12345678", 1)
        position = TrekkpliktigPosition(max(self.target.values()))
        return records + list(state_records(TOPICS.positions, LANE, ONE, position, orders))

    def publish_lacking(self) -> None:
        """Take the lane, and publish what is lacking; as a lane does it, again after an error that passes."""

        def published() -> bool:
            try:
                self.member.poll(0.05)
                self.publisher.publish(self.lacking(self.publisher.take()), 0)
            except ProducerError:
                return False
            return True

        until(published, DEADLINE_SECONDS)

    def make_hang(self) -> None:
        """Publish a next version of all orders, and kill the broker when that is committed and not marked yet.

        Kafka leaves the markers out if it comes up again sooner than its old session ends.
        """
        for _ in range(TRIES_MAX):
            state = self.publisher.take()
            self.target = {trekkid: number + 1 for trekkid, number in self.target.items()}
            records = self.lacking(state)
            held = self.proxy.hold_request(WRITE_TXN_MARKERS, cut=False)
            self.publisher.publish(records, 0)
            assert held.is_kept.wait(DEADLINE_SECONDS)
            self.restart_broker()
            if self.hanging() == len(records):
                return
        raise AssertionError(f"nothing hung in {TRIES_MAX} tries")

    def seen(self, topic: str) -> dict[str, list[int]]:
        """The versions that stand of each order, in their order."""
        found: dict[str, list[int]] = {trekkid: [] for trekkid in ORDERS}
        for message in read_committed(self.proxy.bootstrap_servers, topic, deadline_seconds=DEADLINE_SECONDS):
            found[(message.key() or b"").decode()].append(int((message.value() or b"").decode()))
        return found

    def prove(self) -> None:
        """Each version once and in order in the history, the newest is the newest of all."""
        assert self.seen(TOPICS.versjoner) == {
            trekkid: list(range(1, number + 1)) for trekkid, number in self.target.items()
        }
        newest = {trekkid: numbers[-1] for trekkid, numbers in self.seen(TOPICS.gjeldende).items()}
        assert newest == self.target


def event(topic: str, trekkid: str, trekkversjon: int) -> Record:
    headers = {"ce_id": f"{trekkid}/{trekkversjon}".encode(), "ce_trekkpliktig": ONE.encode()}
    return Record(topic, trekkid.encode(), b"%d" % trekkversjon, headers)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(hanging_module, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    with KafkaProxy() as proxy:
        kafka = EmbeddedKafka(properties={**proxy.broker_properties, **SESSION})
        proxy.target_port = kafka.port
        with kafka:
            topics = wanted_topics(APPLICATION, partitions=LANES, replication=1)
            KafkaAdmin({"bootstrap.servers": proxy.bootstrap_servers}).create(topics)
            world = World(kafka, proxy)
            yield world
            world.publisher.close()
            world.member.leave()


def test_a_lane_sees_that_its_last_transaction_hangs_when_idle_and_before_it_goes_on_and_is_settled(
    world: World,
) -> None:
    """Readers see nothing behind what hangs; its next transaction would make a part stand, or take a part away."""
    world.make_hang()
    with pytest.raises(OutcomeUnknownError, match="hangs"):
        until(world.publisher.look, DEADLINE_SECONDS)
    world.target[ORDERS[0]] += 1
    with pytest.raises(OutcomeUnknownError, match="hangs"):
        world.publisher.publish([event(TOPICS.versjoner, ORDERS[0], world.target[ORDERS[0]])], 0)
    world.publish_lacking()
    assert world.hanging() == 0
    world.prove()


def test_a_next_transaction_that_is_given_up_takes_nothing_of_the_last_one_away(world: World) -> None:
    """It was under way already, and its abort ends what hangs in its partitions too; another process takes the lane."""
    world.make_hang()
    producer = world.publisher._producer  # noqa: SLF001  to be in the midst of a transaction
    assert producer is not None
    producer.begin_transaction()
    for trekkid in ORDERS[::2]:
        record = event(TOPICS.versjoner, trekkid, world.target[trekkid] + 1)
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers.items()))
    assert producer.flush(DEADLINE_SECONDS) == 0
    world.start_over()
    world.publish_lacking()
    assert world.hanging() == 0
    world.prove()
