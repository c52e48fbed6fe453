"""Kafka never writes the markers of a committed transaction, and the lane recovers from it.

The request to write the markers, which a single broker sends to itself, is held back. If the broker gets the answer
that they are written, it completes the transaction, which is then hanging for certain. If it gets no answer and is
killed, it skips the markers by itself, in most tries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import OrderState
from producer.errors import OutcomeUnknownError
from producer.group.membership import KafkaMembership
from producer.observe.prometheus import PrometheusObserver
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import Record
from producer.publish.recovery import hanging as hanging_module
from producer.publish.recovery.hanging import find_hanging
from producer.publish.state import order_record
from producer.publish.topics import Topic, Topics, wanted_topics
from sandbox.demo.proof import read_committed
from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.servers.kafka_answers import WRITE_TXN_MARKERS, all_marked
from tests.kit.servers.proxy import KafkaProxy
from tests.kit.waiting import until
from trekkpaalegg.errors import TrekkpaaleggError
from trekkpaalegg.kafka.clients import create_producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Producer

    from producer.domain.state import LaneState
    from producer.publish.kafka import ConnectionLog, MakeProducer

pytestmark = pytest.mark.kafka

APPLICATION = "hanging"
TOPICS = Topics.of(APPLICATION)
LANES = 6
LANE = 4
ONE = "311111111"
ORDERS = [f"order-{number}" for number in range(40)]

DEADLINE_SECONDS = 60.0
ELSEWHERE = Topic("elsewhere", 1, {"cleanup.policy": "delete"}, 1)
"""Where a lane never writes."""

MARKER_SECONDS_MAX = 1.0


class World:
    """One broker, and the worker of lane `LANE`, that owns all lanes."""

    def __init__(self, kafka: EmbeddedKafka, proxy: KafkaProxy) -> None:
        self.kafka, self.proxy = kafka, proxy
        self.properties = {"bootstrap.servers": proxy.bootstrap_servers}
        self.target = dict.fromkeys(ORDERS, 0)
        self.observer = PrometheusObserver()
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

    def _publisher(self, make_producer: MakeProducer = create_producer) -> KafkaLanePublisher:
        return KafkaLanePublisher(
            self.properties,
            TOPICS,
            LANE,
            APPLICATION,
            1_000_000,
            self.member.metadata,
            self.observer,
            make_producer=make_producer,
        )

    def restart_broker(self) -> None:
        """Start it again, and be a member of the group again."""
        self.kafka.kill()
        self.kafka.start()
        self._poll_until_owned()

    def start_over(self) -> None:
        """As another process that acquires the lanes."""
        self.publisher.close()
        self.member.leave()
        self._join()
        self.publisher = self._publisher()

    def hanging(self) -> int:
        """How many records of the lane are hanging."""
        return sum(map(len, find_hanging(self.properties, TOPICS, LANE).hanging.values()))

    def lacking(self, state: LaneState) -> list[Record]:
        """Every version that the source has and the lane does not hold published, and the state after it.

        Each version of the first order is quarantined too.
        """
        records = []
        for trekkid, target in self.target.items():
            order = state.orders.order(trekkid.encode())
            if order.trekkversjon == target:
                continue
            rejected = order.rejected
            for trekkversjon in range(order.trekkversjon + 1, target + 1):
                records += [event(topic, trekkid, trekkversjon) for topic in (TOPICS.versjoner, TOPICS.gjeldende)]
                if trekkid == ORDERS[0] and hash_of(trekkversjon) not in rejected:
                    records.append(quarantined(trekkid, trekkversjon))
                    rejected += (hash_of(trekkversjon),)
            after = OrderState(target, b"12345678", 1, rejected=rejected)
            records.append(order_record(TOPICS.positions, LANE, trekkid.encode(), after))
        return records

    def publish_lacking(self) -> None:
        """Acquire the lane and publish what is missing; as a lane does it, again after a transient error."""

        def published() -> bool:
            try:
                self.member.poll(0.05)
                self.publisher.publish(self.lacking(self.publisher.acquire()), 0)
            except TrekkpaaleggError:
                return False
            return True

        until(published, DEADLINE_SECONDS)

    def publish_unmarked(self, answer: Callable[[bytes], bytes] | None = None) -> list[Record]:
        """Publish the next version of each order: it is committed, but no marker is written before the broker dies."""
        state = self.publisher.acquire()
        self.target = {trekkid: number + 1 for trekkid, number in self.target.items()}
        records = self.lacking(state)
        held = self.proxy.hold_request(WRITE_TXN_MARKERS, cut=False, answer=answer)
        self.publisher.publish(records, 0)
        assert held.is_kept.wait(DEADLINE_SECONDS)
        return records

    def make_hang(self) -> None:
        """Kafka takes the markers for written; then the broker is lost."""
        records = self.publish_unmarked(all_marked)
        producer = self.producer
        producer.begin_transaction()  # it is complete before another one of the same producer is let begin
        producer.produce(ELSEWHERE.name, b"")
        producer.commit_transaction(DEADLINE_SECONDS)
        self.restart_broker()
        assert self.hanging() == len(records)

    def die_in_recovery(self, transaction: int) -> None:
        """Acquire the lane in a process that dies in this transaction of its recovery, the first being 0."""
        dying = self._publisher(lambda properties, logger: DyingProducer(properties, logger, transaction))  # type: ignore[arg-type]  # it is one in all but name
        with pytest.raises(KilledError):
            dying.acquire()

    @property
    def producer(self) -> Producer:
        """The lane's own."""
        producer = self.publisher._producer  # noqa: SLF001  to be in the midst of a transaction
        assert producer is not None
        return producer

    @property
    def aborted(self) -> float | None:
        """How many hanging records were found when a lane was acquired."""
        labels = {"kind": "hanging"}
        return self.observer.registry.get_sample_value("trekkpaalegg_recovered_records_total", labels)

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
        rejected = self.seen(TOPICS.quarantine)[ORDERS[0]]
        assert rejected == list(range(1, self.target[ORDERS[0]] + 1))


class KilledError(Exception):
    """The process dies here."""


class DyingProducer:
    """A real producer, save that its process dies in one transaction, once the broker has all records of it."""

    def __init__(self, properties: dict[str, Any], logger: ConnectionLog, transaction: int) -> None:
        self._real = create_producer(properties, logger=logger)
        self._before = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def commit_transaction(self, *arguments: Any) -> None:
        self._live()
        self._real.commit_transaction(*arguments)

    def abort_transaction(self, *arguments: Any) -> None:
        self._live()
        self._real.abort_transaction(*arguments)

    def _live(self) -> None:
        if self._before == 0:
            assert self._real.flush(DEADLINE_SECONDS) == 0
            raise KilledError
        self._before -= 1


def event(topic: str, trekkid: str, trekkversjon: int) -> Record:
    headers = {"ce_id": f"{trekkid}/{trekkversjon}".encode(), "ce_trekkpliktig": ONE.encode()}
    return Record(topic, trekkid.encode(), b"%d" % trekkversjon, headers, LANE)


def quarantined(trekkid: str, trekkversjon: int) -> Record:
    headers = {"ce_id": hash_of(trekkversjon).hex().encode(), "ce_subject": trekkid.encode()}
    return Record(TOPICS.quarantine, trekkid.encode(), b"%d" % trekkversjon, headers, LANE)


def hash_of(trekkversjon: int) -> bytes:
    return trekkversjon.to_bytes(8, "big")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(hanging_module, "MARKER_SECONDS_MAX", MARKER_SECONDS_MAX)
    with KafkaProxy() as proxy:
        kafka = EmbeddedKafka(properties=proxy.broker_properties)
        proxy.target_port = kafka.port
        with kafka:
            topics = wanted_topics(APPLICATION, partitions=LANES, replication=1)
            KafkaAdmin({"bootstrap.servers": proxy.bootstrap_servers}).create([*topics, ELSEWHERE])
            world = World(kafka, proxy)
            yield world
            world.publisher.close()
            world.member.leave()


def test_a_lane_notices_a_hanging_transaction_when_idle_and_before_the_next_and_recovers(
    world: World,
) -> None:
    """Readers see nothing behind it; the lane's next transaction would commit a part of it, or abort a part."""
    world.make_hang()
    with pytest.raises(OutcomeUnknownError, match="is hanging"):
        until(world.publisher.check, DEADLINE_SECONDS)
    world.target[ORDERS[0]] += 1
    with pytest.raises(OutcomeUnknownError, match="is hanging"):
        world.publisher.publish([event(TOPICS.versjoner, ORDERS[0], world.target[ORDERS[0]])], 0)
    assert world.aborted == 0
    state = world.publisher.acquire()
    assert world.aborted == 3 * len(ORDERS) + 1
    assert state.show_since is not None
    assert state.orders.order(ORDERS[1].encode()) == OrderState(0, seen=1, readers=(ONE,))
    world.publish_lacking()
    assert world.hanging() == 0
    world.prove()


def test_dying_in_any_transaction_of_the_recovery_loses_and_doubles_nothing(world: World) -> None:
    """The abort of what it had begun ends hanging records too, those of the partitions that it had written to.

    The four transactions are: the state, the newest versions, what is corrected, and the events.
    """
    for transaction in range(4):
        world.make_hang()
        world.publisher.close()
        world.die_in_recovery(transaction)
        world.publish_lacking()
        assert world.hanging() == 0
        world.prove()


def test_aborting_the_next_transaction_loses_nothing_of_a_hanging_one(world: World) -> None:
    """Its abort ends the hanging records in its partitions too; then another process acquires the lane."""
    world.make_hang()
    producer = world.producer
    producer.begin_transaction()
    for trekkid in ORDERS[::2]:
        record = event(TOPICS.versjoner, trekkid, world.target[trekkid] + 1)
        producer.produce(record.topic, record.value, record.key, LANE, headers=list(record.headers.items()))
    assert producer.flush(DEADLINE_SECONDS) == 0
    world.start_over()
    world.publish_lacking()
    assert world.hanging() == 0
    world.prove()


def test_killing_a_broker_before_it_writes_the_markers_loses_and_doubles_nothing(world: World) -> None:
    """It leaves them out when it is fenced just after it has come up, and writes them when that is somewhat later."""
    world.publish_unmarked()
    world.restart_broker()
    world.start_over()
    world.publish_lacking()
    assert world.hanging() == 0
    world.prove()
