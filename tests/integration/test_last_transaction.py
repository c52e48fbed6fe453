"""A lane whose last transaction is only partly committed: acquiring it notices and repairs that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import OrderState, TrekkpliktigPosition
from producer.group.membership import KafkaMembership
from producer.observe.prometheus import PrometheusObserver
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import Record
from producer.publish.recovery import audit as auditing
from producer.publish.state import state_records
from producer.publish.topics import Topics, lane_of, wanted_topics
from sandbox.demo.proof import read_committed
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

LANES = 12
STRANGER = "322222222"
NAMES = {lane_of(name, LANES): name for name in (f"{number}" for number in range(310000000, 310000200))}
"""A trekkpliktig of each lane."""

DEADLINE_SECONDS = 60.0
HASH = b"12345678"
PREFIX = "last"
TOPICS = Topics.of(PREFIX)


class Stage:
    """One lane of its own, on topics that the others use too. Orders have names of one letter here."""

    def __init__(self, bootstrap_servers: str, member: KafkaMembership, lane: int) -> None:
        self.properties = {"bootstrap.servers": bootstrap_servers}
        self.lane, self.one = lane, NAMES[lane]
        self._member = member
        self.observer = PrometheusObserver()

    def publisher(self) -> KafkaLanePublisher:
        return KafkaLanePublisher(
            self.properties, TOPICS, self.lane, PREFIX, 1_000_000, self._member.metadata, self.observer
        )

    def publish(self, *records: Record) -> None:
        publisher = self.publisher()
        publisher.acquire()
        publisher.publish(records, 0)
        publisher.close()

    def acquired(self) -> tuple[int, dict[str, OrderState]]:
        """Position and orders of the lane's state when it is acquired, twice with the same result."""
        first, second = self._acquired(), self._acquired()
        assert first == second
        return first

    def _acquired(self) -> tuple[int, dict[str, OrderState]]:
        state = self.publisher().acquire().of(self.one)
        return state.position.position, {key.decode()[-1]: state.order(key) for key in list(state.keys())}

    def events(self, name: str, trekkversjon: int, *, names: str = "", **headers: bytes) -> list[Record]:
        """An event to history and newest, a late one to the history alone. `names` is whose order it says it is."""
        trekkid = f"order-{self.lane}{name}"
        number = f"/{int(headers['ce_correction'])}" if "ce_correction" in headers else ""
        told = {
            "ce_id": f"{trekkid}/{trekkversjon}{number}".encode(),
            "ce_trekkpliktig": (names or self.one).encode(),
            **headers,
        }
        topics = (TOPICS.versjoner,) if "ce_late" in headers else (TOPICS.versjoner, TOPICS.gjeldende)
        return [Record(topic, trekkid.encode(), b"%d" % trekkversjon, told) for topic in topics]

    def state(self, position: int, **orders: OrderState) -> list[Record]:
        states = {f"order-{self.lane}{name}".encode(): order for name, order in orders.items()}
        return list(state_records(TOPICS.positions, self.lane, self.one, TrekkpliktigPosition(position), states))

    def where(self, name: str) -> list[TopicPartition]:
        """Behind each event of the order in the history."""
        return [
            TopicPartition(TOPICS.versjoner, each.partition() or 0, (each.offset() or 0) + 1)
            for each in read_committed(self.properties["bootstrap.servers"], TOPICS.versjoner)
            if each.key() == f"order-{self.lane}{name}".encode()
        ]

    @property
    def repaired(self) -> float | None:
        """How many records the repair took."""
        labels = {"kind": "incomplete"}
        return self.observer.registry.get_sample_value("trekkpaalegg_recovered_records_total", labels)

    def stands(self, topic: str, name: str) -> list[int]:
        messages = read_committed(self.properties["bootstrap.servers"], topic)
        return [int(each.value() or b"") for each in messages if each.key() == f"order-{self.lane}{name}".encode()]


@pytest.fixture(scope="module")
def stages(kafka: Any) -> Iterator[Iterator[Stage]]:
    """Lane after lane, of a worker that owns all."""
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    KafkaAdmin(properties).create(wanted_topics(PREFIX, partitions=LANES, replication=1))
    member = KafkaMembership(lambda: properties, PREFIX, TOPICS.signals, None)
    owned: set[int] = set()
    member.join(owned.update, owned.difference_update)

    def owns() -> bool:
        member.poll(0.05)
        return len(owned) == LANES

    until(owns, DEADLINE_SECONDS)
    yield (Stage(kafka.bootstrap_servers, member, lane) for lane in range(LANES))
    member.leave()


@pytest.fixture
def stage(stages: Iterator[Stage]) -> Stage:
    return next(stages)


def known(number: int, **more: Any) -> OrderState:
    return OrderState(number, HASH, 1, **more)


def test_a_complete_transaction_is_left_as_it_is(stage: Stage) -> None:
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1, missing=((2, 2),))))
    late, corrected = stage.events("a", 2, ce_late=b"true"), stage.events("a", 3, ce_correction=b"1")
    order = known(3, corrections=((3, 1),))
    stage.publish(*late, *stage.events("a", 3), *corrected, *stage.state(7, a=order))
    assert stage.acquired() == (7, {"a": order})
    assert stage.stands(TOPICS.gjeldende, "a") == [1, 3, 3]
    assert stage.repaired == 0


def test_a_correction_of_an_older_version_does_not_become_the_newest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "MARGIN_MILLISECONDS", 100)
    stage.publish(*stage.events("a", 5), *stage.state(5, a=known(5)))
    time.sleep(0.2)
    history, _ = stage.events("a", 2, ce_correction=b"1")
    order = known(5, corrections=((2, 1),))
    stage.publish(history, *stage.state(7, a=order))
    assert stage.acquired() == (7, {"a": order})
    assert stage.stands(TOPICS.gjeldende, "a") == [5]


def test_versions_that_are_not_committed_are_to_be_published_again(stage: Stage) -> None:
    stage.publish(*stage.events("a", 1), *stage.events("b", 1), *stage.state(5, a=known(1), b=known(1)))
    stage.publish(*stage.events("b", 2), *stage.state(9, a=known(3), b=known(2), c=known(1)))
    position, orders = stage.acquired()
    assert orders == {"a": known(1), "b": known(2)}
    assert position == 0, "all is read again"
    assert stage.stands(TOPICS.versjoner, "b") == [1, 2]
    assert stage.repaired == 3, "the states of two orders, and the position"


def test_versions_that_were_left_to_another_lane_are_not_missed(stage: Stage) -> None:
    """An order that came from another employer: that one's lane publishes the versions that name it, in its time."""
    stage.publish(*stage.events("a", 4), *stage.state(9, a=known(4)))
    assert stage.acquired() == (9, {"a": known(4)})


def test_late_versions_and_corrections_that_are_not_committed_are_to_be_published_again(stage: Stage) -> None:
    before = {"a": known(3, missing=((1, 2),)), "b": known(1)}
    stage.publish(*stage.events("a", 3), *stage.events("b", 1), *stage.state(5, **before))
    stage.publish(*stage.state(9, a=known(3), b=known(1, corrections=((1, 1),))))
    assert stage.acquired() == (0, before)


def test_committed_events_that_the_state_does_not_know_are_added_to_it(stage: Stage) -> None:
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1)))
    stage.publish(
        *stage.events("a", 2),
        *stage.events("b", 1),
        *stage.events("b", 4),
        *stage.events("f", 1, names=STRANGER, ce_readfor=stage.one.encode()),
        *stage.events("o", 1, names=NAMES[(stage.lane + 1) % LANES]),
    )
    position, orders = stage.acquired()
    assert orders == {"a": OrderState(2), "b": OrderState(4, missing=((2, 3),)), "f": OrderState(1)}
    assert position == 5


def test_the_newest_event_is_copied_to_gjeldende_if_it_is_missing_there(stage: Stage) -> None:
    history, _ = stage.events("a", 1)
    stage.publish(history, *stage.events("b", 1), *stage.state(5, a=known(1), b=known(1)))
    assert stage.acquired() == (5, {"a": known(1), "b": known(1)})
    for topic in (TOPICS.versjoner, TOPICS.gjeldende):
        assert (stage.stands(topic, "a"), stage.stands(topic, "b")) == ([1], [1])


def test_what_was_written_long_before_its_state_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a transaction took its time: it is looked for among all that there is."""
    stage.publish(*stage.events("a", 1))
    stage.publish(*stage.state(5, a=known(1)))
    monkeypatch.setattr(auditing, "MARGIN_MILLISECONDS", -60_000)
    assert stage.acquired() == (5, {"a": known(1)})


def test_nothing_is_rolled_back_if_the_beginning_of_the_topic_was_deleted(stage: Stage) -> None:
    """The last of the tests here, as it deletes."""
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1), z=known(1)))
    client, [place] = AdminClient(dict(stage.properties)), stage.where("a")
    client.delete_records([place])[place].result()
    assert stage.acquired() == (5, {"a": known(1), "z": known(1)})
