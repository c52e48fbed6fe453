"""A client and a partition in, where it ends out: a broker that does not lead it, or not yet, is asked again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Consumer

_PAUSE_SECONDS = 0.02
PASSING = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._TRANSPORT,  # noqa: SLF001  librdkafka's local codes begin so
        KafkaError._DESTROY_BROKER,  # noqa: SLF001  as above
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  as above
    }
)
"""What is said while a partition is given to another broker; librdkafka does not ask again by itself.

Now and then it calls a partition unknown that exists (confluentinc/confluent-kafka-python#1043; seen after a request
had timed out).
"""


def end_of(consumer: Consumer, topic: str, partition: int, seconds_max: float) -> int:
    """The offset after the last message that a client of this isolation level may read.

    Raises `KafkaException` when Kafka does not say for so long, or refuses us.
    """
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=seconds_max)[1])
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
