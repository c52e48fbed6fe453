"""What is committed to some topics from now on, as it comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from producer.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

_BATCH_RECORDS_MAX = 5000
_CALL_SECONDS_MAX = 10.0
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


class Tail:
    """A reader of partitions 0 to `partitions`-1 of each topic, from their ends at the time it was made."""

    def __init__(self, properties: Mapping[str, str], topics: Sequence[str], partitions: int) -> None:
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": "read_committed",
                "enable.partition.eof": "true",
                "fetch.wait.max.ms": "50",
            },
            logger=_LIBRDKAFKA_LOG,
        )
        self._reached: dict[tuple[str, int], int] = {}
        """Up to where nothing was left to read, the markers of transactions included."""
        try:
            for topic in topics:
                for partition in range(partitions):
                    self._reached[topic, partition] = self._end(topic, partition)
            self._consumer.assign([TopicPartition(*place, end) for place, end in self._reached.items()])
        except KafkaException as error:
            self._consumer.close()
            raise RetryableError(f"the topics cannot be read: {error.args[0].name()}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._consumer.close()

    def poll(self, wait_seconds: float) -> list[Message]:
        """What has come. Trouble that passes is waited out: what is read is never less than all."""
        messages = []
        for message in self._consumer.consume(_BATCH_RECORDS_MAX, wait_seconds):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes begin so
                self._reached[message.topic() or "", message.partition() or 0] = message.offset() or 0
        return messages

    def ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """Where the partitions of these topics end now; what was committed before this call lies below."""
        return {place: self._end(*place) for place in self._reached if place[0] in topics}

    def has_reached(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Whether everything below these ends was read."""
        return all(self._reached[place] >= end for place, end in ends.items())

    def _end(self, topic: str, partition: int) -> int:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_CALL_SECONDS_MAX)
        return end
