"""What is committed to some topics from now on, as it comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from producer.connection.brokers import ALL_FORGOTTEN, Brokers, watching
from producer.errors import RetryableError
from producer.publish.partition_end import end_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

_BATCH_RECORDS_MAX = 5000
_CALL_SECONDS_MAX = 10.0
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")

_log = structlog.get_logger(__name__)


class Tail:
    """A reader of partitions 0 to `partitions`-1 of each topic, from their ends at the time it was made."""

    def __init__(self, properties: Mapping[str, str], topics: Sequence[str], partitions: int) -> None:
        self._properties = properties
        self._brokers = Brokers()
        self._consumer = self._connect()
        self._reached: dict[tuple[str, int], int] = {}
        """Up to where nothing was left to read, the markers of transactions included."""
        self._next: dict[tuple[str, int], int] = {}
        """Behind what was given."""
        try:
            for topic in topics:
                for partition in range(partitions):
                    self._reached[topic, partition] = end_of(self._consumer, topic, partition, _CALL_SECONDS_MAX)
            self._next |= self._reached
            self._begin()
        except KafkaException as error:
            self._consumer.close()
            raise _unread(error) from error

    def _connect(self) -> Consumer:
        settings = {
            **self._properties,
            "group.id": "none",
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
            "fetch.wait.max.ms": "50",
            **watching(self._brokers.take),
        }
        return Consumer(settings, logger=_LIBRDKAFKA_LOG)

    def _begin(self) -> None:
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._consumer.close()

    def poll(self, wait_seconds: float) -> list[Message]:
        """What has come. Trouble that passes is waited out: what is read is never less than all."""
        messages = []
        for message in self._consumer.consume(_BATCH_RECORDS_MAX, wait_seconds):
            error, offset = message.error(), message.offset() or 0
            place = message.topic() or "", message.partition() or 0
            if error is None:
                messages.append(message)
                self._next[place] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes begin so
                self._reached[place] = self._next[place] = offset
        if self._brokers.are_forgotten:
            self._connect_anew()
        return messages

    def _connect_anew(self) -> None:
        _log.info(ALL_FORGOTTEN)
        former, self._consumer = self._consumer, self._connect()
        former.close()
        self._brokers.connecting_anew()
        self._begin()

    def ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """Where the partitions of these topics end now; what was committed before this call lies below.

        Raises `RetryableError`.
        """
        wanted = [place for place in self._reached if place[0] in topics]
        try:
            return {place: end_of(self._consumer, *place, _CALL_SECONDS_MAX) for place in wanted}
        except KafkaException as error:
            raise _unread(error) from error

    def has_reached(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Whether everything below these ends was read."""
        return all(self._reached[place] >= end for place, end in ends.items())


def _unread(error: KafkaException) -> RetryableError:
    return RetryableError(f"the topics cannot be read: {error.args[0].name()}")
