"""A single broker is stopped and started while lanes publish: nothing is lost or doubled, and nothing is hanging."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import OrderState
from producer.group.membership import KafkaMembership
from producer.observe.port import NullObserver
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import Record
from producer.publish.recovery.hanging import find_hanging
from producer.publish.recovery.recover import WARNING, single_broker_warnings
from producer.publish.state import order_record
from producer.publish.topics import Topics, wanted_topics
from sandbox.demo.proof import read_committed
from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.waiting import until
from trekkpaalegg.errors import TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

APPLICATION = "ends"
TOPICS = Topics.of(APPLICATION)
LANES = 6
ONE = b"311111111"
DEADLINE_SECONDS = 180.0
LOAD_SECONDS = 1.0
HASH = b"12345678"


class Publishing:
    """A lane that publishes one version of its only order after another, and is acquired again after every failure."""

    def __init__(self, properties: dict[str, str], lane: int, member: KafkaMembership, ending: threading.Event) -> None:
        self.order = f"order-{lane}"
        self.stood = 0
        """The newest version that a commit was answered for, or that the state told."""
        self._ending = ending
        self._publisher = KafkaLanePublisher(
            properties, TOPICS, lane, APPLICATION, 1_000_000, member.metadata, NullObserver()
        )
        self._lane = lane
        self.thread = threading.Thread(target=self._run, name=f"publishing-{lane}", daemon=True)

    def _run(self) -> None:
        while not self._ending.is_set():
            with suppress(TrekkpaaleggError):
                orders = self._publisher.acquire(self._ending.is_set).orders
                self.stood = orders.order(self.order.encode()).trekkversjon
                while not self._ending.is_set():
                    self._publish(self.stood + 1)
                    self.stood += 1
        self._publisher.close()

    def _publish(self, trekkversjon: int) -> None:
        key = self.order.encode()
        headers = {"ce_id": b"%s/%d" % (key, trekkversjon), "ce_trekkpliktig": ONE}
        events = [
            Record(topic, key, b"%d" % trekkversjon, headers, self._lane)
            for topic in (TOPICS.versjoner, TOPICS.gjeldende)
        ]
        state = order_record(TOPICS.positions, self._lane, key, OrderState(trekkversjon, HASH, 1))
        self._publisher.publish([*events, state], 0)


@pytest.fixture(scope="module", params=["true", "false"])
def hands_over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def kafka(hands_over: str) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(properties={"controlled.shutdown.enable": hands_over}) as kafka:
        yield kafka


def test_what_is_published_while_a_lone_broker_stops_is_neither_lost_nor_doubled(kafka: EmbeddedKafka) -> None:
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    KafkaAdmin(properties).create(wanted_topics(APPLICATION, partitions=LANES, replication=1))
    member = KafkaMembership(lambda: properties, APPLICATION, TOPICS.signals, None)
    owned: set[int] = set()
    member.join(owned.update, owned.difference_update)
    ending = threading.Event()

    def all_go_on() -> None:
        """Each lane publishes once more. The group is polled meanwhile, as the worker does."""
        before = [each.stood for each in lanes]

        def went_on() -> bool:
            member.poll(0.05)
            return len(owned) == LANES and all(each.stood > stood for each, stood in zip(lanes, before, strict=True))

        until(went_on, DEADLINE_SECONDS, "each lane has gone on")

    lanes = [Publishing(properties, lane, member, ending) for lane in range(LANES)]
    for each in lanes:
        each.thread.start()
    try:
        all_go_on()
        time.sleep(LOAD_SECONDS)
        kafka.stop()
        kafka.start()
        all_go_on()
    finally:
        ending.set()
        for each in lanes:
            each.thread.join(DEADLINE_SECONDS)
        member.leave()
    assert [find_hanging(properties, TOPICS, lane).hanging for lane in range(LANES)] == [{}] * LANES
    events = read_committed(kafka.bootstrap_servers, TOPICS.versjoner)
    for each in lanes:
        found = [int(event.value() or b"") for event in events if event.key() == each.order.encode()]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= each.stood


def test_a_member_that_hands_over_is_reported(kafka: EmbeddedKafka, hands_over: str) -> None:
    told = [WARNING] if hands_over == "true" else []
    assert single_broker_warnings({"bootstrap.servers": kafka.bootstrap_servers}) == told
