"""A topic in, its committed messages up to a given end out, batch by batch, without a group.

An end is that of the last transaction that has ended when it is asked for: nothing before it is still open.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.stream.partitions import partitions_of, watermarks_of
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import ends_reading, translate_reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

    from trekkpaalegg.errors import TrekkpaaleggError

SILENCE_SECONDS_MAX = 60.0
BATCH_RECORDS_MAX = 10_000
_WAIT_SECONDS = 0.02
_GROUP = "trekkpaalegg-consumer-verify"
# Codes of librdkafka's own begin with an underscore.
_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - see above


class CommittedReader:
    """One topic, read `read_committed` from where the last reading ended.

    Every method raises `UnknownTopicError`, `RefusedError` when Kafka refuses us, and `RetryableError` when it does not
    answer. Nothing read is ever given twice, and nothing is left out.
    """

    def __init__(self, properties: Mapping[str, str], topic: str) -> None:
        self.topic = topic
        self._properties = properties
        self._reason = LastReason()
        self._consumer = _consumer(properties, "read_committed", self._reason)
        self._uncommitted = _consumer(properties, "read_uncommitted", self._reason)
        self.begins: dict[int, int] = {}
        """The first offset that each partition still holds."""
        try:
            self.begins = {partition: low for partition, (low, _) in self._watermarks(self._consumer).items()}
        except BaseException:
            self.close()
            raise
        self.next: dict[int, int] = dict(self.begins)
        """Where the next reading goes on, by partition."""

    def ends(self) -> dict[int, int]:
        """By partition, the end of what is committed now."""
        return {partition: end for partition, (_, end) in self._watermarks(self._consumer).items()}

    def ends_with_open(self) -> dict[int, int]:
        """By partition, the end of all that is written now, open transactions included."""
        return {partition: end for partition, (_, end) in self._watermarks(self._uncommitted).items()}

    def ahead(self, ends: Mapping[int, int]) -> int:
        """How many offsets there are from here to `ends`: at least as many as messages."""
        return sum(max(0, end - self.next.get(partition, 0)) for partition, end in ends.items())

    def read_to(self, ends: Mapping[int, int]) -> Iterator[list[Message]]:
        """The messages up to `ends`, in batches; of a partition in its order. Batches may be empty."""
        ahead = {partition: end for partition, end in ends.items() if end > self.next.get(partition, 0)}
        if not ahead:
            return
        starts = [TopicPartition(self.topic, partition, self.next.get(partition, 0)) for partition in sorted(ahead)]
        self._consumer.assign(starts)
        heard = time.monotonic()
        while ahead:
            found = self._consumer.consume(BATCH_RECORDS_MAX, timeout=_WAIT_SECONDS)
            if found:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS_MAX:
                raise RetryableError(f"{self.topic}: Kafka has given nothing for {SILENCE_SECONDS_MAX:g} s")
            yield self._within(found, ahead)
        self._consumer.unassign()
        self.next |= ends

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
        self._uncommitted.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _within(self, found: list[Message], ahead: dict[int, int]) -> list[Message]:
        """Those that lie before the ends; takes out of `ahead` what has reached its end."""
        messages = []
        for message in found:
            error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
            end = ahead.get(partition, 0)
            if error is None:
                if offset < end:
                    messages.append(message)
                if offset + 1 >= end:
                    ahead.pop(partition, None)
            elif error.code() == _AT_END:
                if offset >= end:
                    ahead.pop(partition, None)
            elif ends_reading(error, joins_group=False):
                raise self._translated(error)
        return messages

    def _watermarks(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        # Between two readings the client reads nothing, so that no message is lost when librdkafka tells its reasons.
        try:
            return {
                partition: watermarks_of(consumer, self.topic, partition, self._reason)
                for partition in partitions_of(consumer, self.topic, self._reason)
            }
        except KafkaException as error:
            raise self._translated(error.args[0]) from error

    def _translated(self, error: KafkaError) -> TrekkpaaleggError:
        return translate_reading(error, self.topic, self._properties, self._reason)


def _consumer(properties: Mapping[str, str], isolation_level: str, reason: LastReason) -> Consumer:
    settings: dict[str, Any] = {
        **properties,
        "group.id": _GROUP,  # never joined; librdkafka wants one
        "enable.auto.commit": False,
        "isolation.level": isolation_level,
        "auto.offset.reset": "error",  # an offset that has gone must not be passed over in silence
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,  # the broker's answer that a partition has ended comes no sooner
    }
    return create_consumer(settings, reason)
