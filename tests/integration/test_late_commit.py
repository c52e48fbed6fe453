"""A request to commit that is long on its way ends no later transaction: nothing stands in part, or twice."""

from __future__ import annotations

import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import TrekkpliktigPosition
from producer.errors import OutcomeUnknownError
from producer.group.membership import KafkaMembership
from producer.observe.port import NullObserver
from producer.publish import kafka as publisher_module
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.port import NO_HEADERS, Record
from producer.publish.state import position_record
from producer.publish.topics import Topics, wanted_topics
from sandbox.demo.proof import read_committed
from tests.kit.servers.kafka_answers import END_TXN
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.servers.proxy import KafkaProxy

pytestmark = pytest.mark.kafka

APPLICATION = "late"
TOPICS = Topics.of(APPLICATION)
LANE = 0
ONE = "311111111"
DEADLINE_SECONDS = 60.0
UNANSWERED_SECONDS = 3.0
END_TXN_ANSWER = struct.Struct(">iih")
"""Of version 1: correlation, throttle time, error code (Kafka protocol guide)."""

REFUSED_CODES = {47, 90}
"""INVALID_PRODUCER_EPOCH and PRODUCER_FENCED."""


@pytest.fixture(scope="module")
def proxy(proxied_kafka: KafkaProxy) -> KafkaProxy:
    topics = wanted_topics(APPLICATION, partitions=1, replication=1)
    KafkaAdmin({"bootstrap.servers": proxied_kafka.bootstrap_servers}).create(topics)
    return proxied_kafka


@pytest.fixture
def publisher(proxy: KafkaProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaLanePublisher]:
    """The publisher of the only lane, by a member of the group that owns it. It waits for a commit only a moment."""
    monkeypatch.setattr(publisher_module, "COMMIT_SECONDS_MAX", UNANSWERED_SECONDS)
    properties = {"bootstrap.servers": proxy.bootstrap_servers}
    member = KafkaMembership(lambda: properties, APPLICATION, TOPICS.signals, None)
    owned: set[int] = set()
    member.join(owned.update, owned.difference_update)

    def owns() -> bool:
        member.poll(0.05)
        return owned == {LANE}

    until(owns, DEADLINE_SECONDS)
    yield KafkaLanePublisher(properties, TOPICS, LANE, APPLICATION, 1_000_000, member.metadata, NullObserver())
    member.leave()


class KilledError(Exception):
    """The process dies here."""


def version(number: int) -> Record:
    return Record(TOPICS.versjoner, b"key", b"%d" % number, NO_HEADERS, 0)


def whole(number: int) -> list[Record]:
    """A version, and that it is published."""
    return [version(number), position_record(TOPICS.positions, LANE, ONE, TrekkpliktigPosition(number))]


def stands(publisher: KafkaLanePublisher) -> int:
    """Take the lane, and say which version is published."""
    state = publisher.acquire().get(ONE)
    return 0 if state is None else state.position.position


def written(proxy: KafkaProxy) -> int:
    """How far `…-versjoner` is written, committed or not."""
    reader = Consumer(
        {"bootstrap.servers": proxy.bootstrap_servers, "group.id": "none", "isolation.level": "read_uncommitted"}
    )
    try:
        return reader.get_watermark_offsets(TopicPartition(TOPICS.versjoner, 0), timeout=DEADLINE_SECONDS)[1]
    finally:
        reader.close()


@pytest.mark.parametrize("cut", [False, True], ids=["unanswered", "connection lost"])
def test_a_commit_that_comes_late_does_not_end_the_next_transaction_in_its_midst(
    proxy: KafkaProxy, publisher: KafkaLanePublisher, *, cut: bool
) -> None:
    """1. A commit is long on its way. 2. It arrives when half of the next transaction is written. 3. We are killed.

    By the producer of 1, the half would be committed, the version without the state, and be written again after 3.
    librdkafka commits by a second request when the connection of the first is lost: that is not told to the caller.
    """
    first = stands(publisher) + 1
    late = proxy.hold_request(END_TXN, cut=cut)
    with nullcontext() if cut else pytest.raises(OutcomeUnknownError):
        publisher.publish(whole(first), 0)
    assert late.is_kept.is_set()
    with pytest.raises(OutcomeUnknownError):
        publisher.publish(whole(first + 1), 0)
    second = stands(publisher) + 1
    answers: list[bytes] = []

    def half() -> Iterator[Record]:
        before = written(proxy)
        yield version(second)
        until(lambda: written(proxy) > before, DEADLINE_SECONDS)
        answers.append(late.deliver())
        raise KilledError

    with pytest.raises(KilledError):
        publisher.publish(half(), 0)  # type: ignore[arg-type]  # read once, from the front
    [code] = [END_TXN_ANSWER.unpack(answer)[-1] for answer in answers]
    assert code in REFUSED_CODES
    assert stands(publisher) == second - 1
    publisher.publish(whole(second), 0)
    seen = [int(each.value()) for each in read_committed(proxy.bootstrap_servers, TOPICS.versjoner)]
    assert seen == list(range(1, second + 1))
    assert stands(publisher) == second
