"""A lane whose last transaction is only partly committed: acquiring it notices and repairs that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import Missing, ObservationOffsets, OrderState
from producer.encode.state import STATE_SCHEMAS
from producer.group.membership import KafkaMembership
from producer.observe.prometheus import PrometheusObserver
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import Record
from producer.publish.recovery import audit as auditing
from producer.publish.state import observation_offsets_record, order_record
from producer.publish.topics import Topics, wanted_topics
from sandbox.demo.proof import read_committed
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

LANES = 12
ONE = b"311111111"
DEADLINE_SECONDS = 60.0
HASH = b"12345678"
PREFIX = "last"
TOPICS = Topics.of(PREFIX)


class Stage:
    """One lane of its own, on topics that the others use too. Orders have names of one letter here."""

    def __init__(self, bootstrap_servers: str, member: KafkaMembership, lane: int) -> None:
        self.properties = {"bootstrap.servers": bootstrap_servers}
        self.lane = lane
        self._member = member
        self.observer = PrometheusObserver()
        self.shows = False
        """Whether the state says that lists must be shown again."""

    def publisher(self) -> KafkaLanePublisher:
        return KafkaLanePublisher(
            self.properties, TOPICS, self.lane, PREFIX, 1_000_000, self._member.metadata, self.observer
        )

    def publish(self, *records: Record) -> None:
        publisher = self.publisher()
        publisher.acquire()
        publisher.publish(records, 0)
        publisher.close()

    def acquired(self) -> dict[str, OrderState]:
        """The orders of the lane's state when it is acquired, twice with the same result."""
        first, second = self._acquired(), self._acquired()
        assert first == second
        return first

    def _acquired(self) -> dict[str, OrderState]:
        state = self.publisher().acquire()
        self.shows = state.show_since is not None
        return {key.decode()[-1]: state.orders.order(key) for key in state.orders}

    def events(self, name: str, trekkversjon: int, **headers: bytes) -> list[Record]:
        """An event to history and newest, a late one to the history alone."""
        key = self.key(name)
        number = b"/%d" % int(headers["ce_correction"]) if "ce_correction" in headers else b""
        told = {"ce_id": b"%s/%d%s" % (key, trekkversjon, number), "ce_trekkpliktig": ONE, **headers}
        topics = (TOPICS.versjoner,) if "ce_late" in headers else (TOPICS.versjoner, TOPICS.gjeldende)
        return [Record(topic, key, b"%d" % trekkversjon, told, self.lane) for topic in topics]

    def key(self, name: str) -> bytes:
        return f"order-{self.lane}{name}".encode()

    def state(self, decided: int, **orders: OrderState) -> list[Record]:
        """The orders, and how many observations were decided on."""
        return [
            observation_offsets_record(TOPICS.positions, self.lane, ObservationOffsets(decided, 0), None),
            *(order_record(TOPICS.positions, self.lane, self.key(name), order) for name, order in orders.items()),
        ]

    def where(self, name: str) -> list[TopicPartition]:
        """Behind each event of the order in the history."""
        return [
            TopicPartition(TOPICS.versjoner, each.partition() or 0, (each.offset() or 0) + 1)
            for each in read_committed(self.properties["bootstrap.servers"], TOPICS.versjoner)
            if each.key() == self.key(name)
        ]

    @property
    def repaired(self) -> float | None:
        """How many records the repair took."""
        labels = {"kind": "incomplete"}
        return self.observer.registry.get_sample_value("trekkpaalegg_recovered_records_total", labels)

    def stands(self, topic: str, name: str) -> list[int]:
        messages = read_committed(self.properties["bootstrap.servers"], topic)
        return [int(each.value() or b"") for each in messages if each.key() == self.key(name)]


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
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1, missing=(Missing(2, 2),))))
    late, corrected = stage.events("a", 2, ce_late=b"true"), stage.events("a", 3, ce_correction=b"1")
    order = known(3, corrections=((3, 1),))
    stage.publish(*late, *stage.events("a", 3), *corrected, *stage.state(7, a=order))
    assert stage.acquired() == {"a": order}
    assert stage.stands(TOPICS.gjeldende, "a") == [1, 3, 3]
    assert stage.repaired == 0
    assert not stage.shows


def test_a_correction_of_an_older_version_does_not_become_the_newest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "MARGIN_MILLISECONDS", 100)
    stage.publish(*stage.events("a", 1), *stage.events("a", 2), *stage.state(5, a=known(2)))
    time.sleep(0.2)
    history, _ = stage.events("a", 1, ce_correction=b"1")
    order = known(2, corrections=((1, 1),))
    stage.publish(history, *stage.state(7, a=order))
    assert stage.acquired() == {"a": order}
    assert stage.stands(TOPICS.gjeldende, "a") == [1, 2]


def test_versions_that_are_not_committed_are_to_be_published_again(stage: Stage) -> None:
    stage.publish(*stage.events("a", 1), *stage.events("b", 1), *stage.state(5, a=known(1), b=known(1)))
    stage.publish(*stage.events("b", 2), *stage.state(9, a=known(3), b=known(2), c=known(1)))
    assert stage.acquired() == {"a": known(1), "b": known(2)}
    assert stage.shows, "nothing names a reader of the orders, so all lists are handed over again"
    assert stage.stands(TOPICS.versjoner, "b") == [1, 2]
    assert stage.repaired == 3 + len(STATE_SCHEMAS), "the states of two orders, and that lists are to be shown"


def test_late_versions_and_corrections_that_are_not_committed_are_to_be_published_again(stage: Stage) -> None:
    before = {"a": known(3, missing=(Missing(1, 2, "HTTP 404"),)), "b": known(1)}
    stage.publish(*stage.events("a", 3), *stage.events("b", 1), *stage.state(5, **before))
    stage.publish(*stage.state(9, a=known(3), b=known(1, corrections=((1, 1),))))
    assert stage.acquired() == {"a": known(3, missing=(Missing(1, 2, "not committed"),)), "b": known(1)}
    assert stage.shows


def test_committed_events_that_the_state_does_not_know_are_added_to_it(stage: Stage) -> None:
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1)))
    stage.publish(*stage.events("a", 2), *stage.events("b", 1), *stage.events("b", 4))
    assert stage.acquired() == {"a": OrderState(2), "b": OrderState(4, missing=(Missing(2, 3, "unknown"),))}
    assert not stage.shows


def test_the_newest_event_is_copied_to_gjeldende_if_it_is_missing_there(stage: Stage) -> None:
    history, _ = stage.events("a", 1)
    corrected, _ = stage.events("b", 1, ce_correction=b"1")
    order = known(1, corrections=((1, 1),))
    stage.publish(history, *stage.events("b", 1), corrected, *stage.state(5, a=known(1), b=order))
    assert stage.acquired() == {"a": known(1), "b": order}
    assert (stage.stands(TOPICS.versjoner, "a"), stage.stands(TOPICS.versjoner, "b")) == ([1], [1, 1])
    assert (stage.stands(TOPICS.gjeldende, "a"), stage.stands(TOPICS.gjeldende, "b")) == ([1], [1, 1])


def test_one_that_was_there_before_the_history_lost_it_is_not_copied_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "MARGIN_MILLISECONDS", 100)
    history, newest = stage.events("a", 1)
    stage.publish(newest)
    time.sleep(0.2)
    stage.publish(history, *stage.state(5, a=known(1)))
    assert stage.acquired() == {"a": known(1)}
    assert (stage.stands(TOPICS.gjeldende, "a"), stage.repaired) == ([1], 0)


def test_what_was_written_long_before_its_state_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a transaction took its time: it is looked for among all that there is."""
    stage.publish(*stage.events("a", 1))
    stage.publish(*stage.state(5, a=known(1)))
    monkeypatch.setattr(auditing, "MARGIN_MILLISECONDS", -60_000)
    assert stage.acquired() == {"a": known(1)}


def test_nothing_is_rolled_back_if_the_beginning_of_the_topic_was_deleted(stage: Stage) -> None:
    """The last of the tests here, as it deletes."""
    stage.publish(*stage.events("a", 1), *stage.state(5, a=known(1), z=known(1)))
    client, [place] = AdminClient(dict(stage.properties)), stage.where("a")
    client.delete_records([place])[place].result()
    assert stage.acquired() == {"a": known(1), "z": known(1)}
