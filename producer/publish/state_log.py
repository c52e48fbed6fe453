"""From one partition of `…-positions`, read committed to its end, to the state of a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from producer.connection.diagnosis import LastReason
from producer.connection.permission import TOPIC, Right, not_permitted
from producer.connection.renewal import client_made_later
from producer.encode.state import decode_lane_count
from producer.errors import RetryableError
from producer.publish.partition_end import end_of
from producer.publish.state_records import LANE_COUNT_KEY, lane_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

    from producer.domain.state import LaneState

LANE_COUNT_PARTITION = 0
READ_STALLED_SECONDS_MAX = 30.0
_BATCH_RECORDS_MAX = 10_000
_BATCH_SECONDS_MAX = 0.05
"""A batch that is not full waits for so long in any case, so this is what the end of a partition costs."""
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


def read_lane_state(
    properties: Mapping[str, str], topic: str, partition: int, stalled_seconds_max: float = READ_STALLED_SECONDS_MAX
) -> LaneState:
    """The state that stands at this moment. Call it only after the fence, so that nothing is written behind it.

    Raises `RetryableError` when the end was not reached: a part is never taken for the whole.
    """
    messages = read_to_end(properties, topic, partition, stalled_seconds_max=stalled_seconds_max)
    return lane_state_of((message.key() or b"", message.value()) for message in messages)


def read_lane_count(properties: Mapping[str, str], topic: str) -> int | None:
    """The recorded number of lanes, None when none was ever recorded. Raises `RetryableError` as `read_lane_state`."""
    for message in read_to_end(properties, topic, LANE_COUNT_PARTITION):
        value = message.value()
        if message.key() == LANE_COUNT_KEY and value is not None:
            return decode_lane_count(value)
    return None


def read_to_end(
    properties: Mapping[str, str],
    topic: str,
    partition: int,
    start: int = OFFSET_BEGINNING,
    *,
    stalled_seconds_max: float = READ_STALLED_SECONDS_MAX,
) -> Iterator[Message]:
    """Every committed message of a partition, from `start` to the end that stands when it is called.

    Raises `RetryableError` when that end was not reached, as nothing came for so long: a part is never taken for the
    whole; it is `NotPermittedError` when we may not read the topic.
    """
    reason = LastReason()
    with client_made_later():
        consumer = Consumer(
            {
                **properties,
                "error_cb": reason.take,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": "true",
                # The broker would hold back for half a second the answer that says that there is nothing more.
                "fetch.wait.max.ms": "10",
            },
            logger=_LIBRDKAFKA_LOG,
        )
    try:
        whole = TopicPartition(topic, partition, start)
        end = end_of(consumer, topic, partition, stalled_seconds_max)
        consumer.assign([whole])
        yield from _consume_until(consumer, end, f"partition {partition} of {topic}", stalled_seconds_max)
    except KafkaException as error:
        failed = error.args[0]
        if failed.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise not_permitted([Right("READ", TOPIC, topic)], properties) from error
        why = (reason.cause(properties) if reason.is_refusal else None) or failed.name()
        raise RetryableError(f"cannot read partition {partition} of {topic}: {why}") from error
    finally:
        consumer.close()


def _consume_until(consumer: Consumer, end: int, what: str, stalled_seconds_max: float) -> Iterator[Message]:
    """Yield messages until the partition's end has been seen at or beyond `end`."""
    deadline = time.monotonic() + stalled_seconds_max
    while time.monotonic() < deadline:
        for message in consumer.consume(_BATCH_RECORDS_MAX, timeout=_BATCH_SECONDS_MAX):
            error = message.error()
            if error is None:
                deadline = time.monotonic() + stalled_seconds_max
                yield message
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # librdkafka looks for the group that it must be given, and that is never joined
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes begin so
                raise KafkaException(error)
            elif (message.offset() or 0) >= end:
                return
    raise RetryableError(f"reading {what} has stalled before its end; Kafka may be overloaded")
