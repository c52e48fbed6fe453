"""A member of a group leaves it although Kafka has not answered a commit of its offsets."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.waiting import until
from trekkpaalegg.kafka.member import LEAVE_SECONDS_MAX
from trekkpaalegg.kafka.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

pytestmark = pytest.mark.kafka

TOPIC = "leaving"


class Owner:
    """Has read nothing yet, and keeps what is reported."""

    lost_offset_advice = "never mind"

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.handed_over: list[int] = []

    def next_offsets(self, _topic: str, partitions: Collection[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    def hand_over(self, _topic: str, partitions: Collection[int]) -> None:
        self.handed_over += partitions

    def report(self, event: str, **_details: object) -> None:
        self.reported.append(event)

    def is_stopping(self) -> bool:
        return False


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        admin = AdminClient({"bootstrap.servers": running.bootstrap_servers, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result(30)
        producer = Producer({"bootstrap.servers": running.bootstrap_servers, "log_level": 0})
        producer.produce(TOPIC, b"1")
        producer.flush()
        yield running


@pytest.fixture
def leaving() -> Callable[[], bool]:
    """Whether a member that this test made has not been closed yet."""
    before = set(threading.enumerate())
    return lambda: any(each.name == "leaving" for each in set(threading.enumerate()) - before)


def test_a_member_whose_commit_is_not_answered_leaves_in_time_and_is_closed_once_kafka_is_back(
    broker: EmbeddedKafka, leaving: Callable[[], bool]
) -> None:
    owner = Owner()
    subscription = Subscription({"bootstrap.servers": broker.bootstrap_servers}, TOPIC, "leavers", owner)
    batches = []
    until(lambda: batches.append(subscription.read(1, 0.2)) or batches[-1].messages, 30)
    broker.pause()
    try:
        subscription.commit_to_group(batches[-1].advances)
        began = time.monotonic()
        subscription.close()
        assert time.monotonic() - began < LEAVE_SECONDS_MAX + 5, "far less than librdkafka would wait"
        assert (owner.handed_over, owner.reported) == ([0], ["left the group without an answer from Kafka"])
        assert leaving(), "librdkafka waits for the answer: the reason for all this"
    finally:
        broker.resume()
    until(lambda: not leaving(), 60)
    assert owner.handed_over == [0]


def test_a_member_that_kafka_answers_leaves_at_once(broker: EmbeddedKafka, leaving: Callable[[], bool]) -> None:
    owner = Owner()
    subscription = Subscription({"bootstrap.servers": broker.bootstrap_servers}, TOPIC, "leavers", owner)
    until(lambda: subscription.read(1, 0.2).messages, 30)
    subscription.close()
    assert (owner.handed_over, owner.reported, leaving()) == ([0], [], False)
