"""A client and a topic in; its partitions and where they begin and end out.

A broker that has just come up is asked again. Where calls are short, a signal is taken between two.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import KafkaException, TopicPartition

from trekkpaalegg.kafka.errors import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer

    from trekkpaalegg.kafka.diagnosis import LastReason

CALL_SECONDS_MAX = 10.0
SHORT_CALL_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
"""Between two calls: a broker that no longer leads, or does not yet, says so at once."""

T = TypeVar("T")


def partitions_of(
    consumer: Consumer,
    topic: str,
    reason: LastReason,
    *,
    reads_already: bool = False,
    gives_up: Callable[[], bool] = lambda: False,
    on_silence: Callable[[], None] = lambda: None,
) -> list[int]:
    """The numbers of its partitions, as soon as Kafka says.

    Of a client that reads nothing yet, librdkafka is let tell its reasons between two calls. `on_silence` is called
    once when Kafka does not answer. Raises `KafkaException` when it has not for too long, refuses us or knows no such
    topic.
    """
    is_told = False

    def waits() -> bool:
        nonlocal is_told
        if not reads_already:
            consumer.poll(0)
        if gives_up() or reason.is_refusal:
            return False
        if not is_told:
            on_silence()
        is_told = True
        return True

    metadata = answered(lambda seconds: consumer.list_topics(topic, timeout=seconds), waits, CALL_SECONDS_MAX)
    found = metadata.topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def watermarks_of(consumer: Consumer, topic: str, partition: int, reason: LastReason) -> tuple[int, int]:
    """The partition's first offset, and the one after the last that a client of this isolation level may read.

    A broker that is slow is given all the time; one that does not lead, or not yet, is asked again. The client must
    read nothing yet: librdkafka is let tell its reasons meanwhile. Raises `KafkaException` when Kafka does not say for
    `CALL_SECONDS_MAX`, or refuses us.
    """
    place = TopicPartition(topic, partition)

    def waits() -> bool:
        consumer.poll(0)
        return not reason.is_refusal

    low, high = answered(
        lambda _: consumer.get_watermark_offsets(place, timeout=CALL_SECONDS_MAX), waits, CALL_SECONDS_MAX
    )
    return low, high


def answered(call: Callable[[float], T], waits: Callable[[], bool], seconds_max: float) -> T:
    """What the call gives, which takes how long it may last.

    While what Kafka says may pass, it is made again, for `seconds_max` and as long as `waits` says so.
    """
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return call(SHORT_CALL_SECONDS)
        except KafkaException as error:
            if not is_transient(error.args[0]) or time.monotonic() > deadline or not waits():
                raise
            time.sleep(_PAUSE_SECONDS)
