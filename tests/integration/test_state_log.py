"""Reading a lane's state while Kafka stops answering: an error, never a part taken for the whole."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

import trekkpaalegg.kafka.reader
from producer.admin.kafka import KafkaAdmin
from producer.domain.state import HandedOver, TrekkpliktigPosition
from producer.publish.kafka import producer_properties
from producer.publish.state import handed_over_record, position_record, read_lane_state, read_partition
from producer.publish.topics import Topic
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.servers.proxy import KafkaProxy

pytestmark = pytest.mark.kafka

FETCH = 1
"""The api key of a request for records (Kafka protocol guide)."""

ONE = "311111111"
POSITIONS = "silent-positions"
ORDERS = 200
FIRST = 5
STALLED_SECONDS = 5.0
"""Longer than a busy machine needs for an answer."""


@pytest.fixture
def proxy(proxied_kafka: KafkaProxy) -> Iterator[KafkaProxy]:
    """A broker that is reached through here alone, with a state of one position and many orders, a batch each."""
    properties = {"bootstrap.servers": proxied_kafka.bootstrap_servers}
    KafkaAdmin(properties).create([Topic(POSITIONS, 1, {"cleanup.policy": "compact"}, 1)])
    handed_over = HandedOver(1, b"12345678", 1)
    records = [position_record(POSITIONS, 0, ONE, TrekkpliktigPosition(7))]
    records += [handed_over_record(POSITIONS, 0, ONE, b"%04d" % number, handed_over) for number in range(ORDERS)]
    producer = Producer({**producer_properties(properties, "silent-0", 1_000_000), "batch.num.messages": "1"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for record in records:
        producer.produce(record.topic, record.value, record.key, record.partition)
    producer.commit_transaction(60)
    yield proxied_kafka
    proxied_kafka.come_up()


def test_state_is_read_whole_or_not_at_all(proxy: KafkaProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. All is well. 2. No answer ever comes. 3. Answers come for a while. 4. The network goes meanwhile."""
    properties = {"bootstrap.servers": proxy.bootstrap_servers, "socket.timeout.ms": "3000"}
    state = read_lane_state(properties, POSITIONS, 0)
    assert (len(state.of(ONE)), state.of(ONE).position.position) == (ORDERS, 7)
    # Little is fetched and handed out, and then nothing for a while: what follows finds much of the state unread.
    monkeypatch.setattr(trekkpaalegg.kafka.reader, "BATCH_RECORDS_MAX", FIRST)
    properties |= {"queued.min.messages": "1", "fetch.message.max.bytes": "1000", "fetch.queue.backoff.ms": "3000"}

    silence = proxy.lose_answers(FETCH, times=1_000_000, cut=False)
    with pytest.raises(RetryableError, match="stalled"):
        read_lane_state(properties, POSITIONS, 0, stalled_seconds_max=STALLED_SECONDS)
    assert silence.lost > 0
    silence.times = silence.lost

    messages = read_partition(properties, POSITIONS, 0, stalled_seconds_max=STALLED_SECONDS)
    assert len(list(islice(messages, FIRST))) == FIRST
    silence.times = 1_000_000
    with pytest.raises(RetryableError, match="stalled"):
        list(messages)
    silence.times = silence.lost

    messages = read_partition(properties, POSITIONS, 0, stalled_seconds_max=STALLED_SECONDS)
    assert len(list(islice(messages, FIRST))) == FIRST
    proxy.go_down()
    with pytest.raises(RetryableError):
        list(messages)
