"""A topic in, batches from all its partitions out, without a group: for a replay, beside which others read on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.stream.partitions import CALL_SECONDS_MAX, answered
from trekkpaalegg.errors import FatalError, StoppedError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import ends_reading, translate_reading
from trekkpaalegg.kafka.subscription import Subscription

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from trekkpaalegg.incoming import Advance, Partition
    from trekkpaalegg.kafka.subscription import Owner

T = TypeVar("T")

_GROUP = "trekkpaalegg-consumer-replay"
"""Never joined; librdkafka wants one."""


class Extent(msgspec.Struct, frozen=True):
    """What a topic holds, by partition: the first offset that is still there, and the one after the last committed."""

    begins: dict[int, int]
    ends: dict[int, int]
    cluster: str
    """Which Kafka it was."""


class WholeTopic(Subscription):
    """As `Subscription`, with every partition of the topic for its own. `progress` is told of each offset applied."""

    def __init__(
        self, properties: Mapping[str, str], topic: str, owner: Owner, progress: Callable[[int], None]
    ) -> None:
        self._progress = progress
        super().__init__(properties, topic, _GROUP, owner)

    def show_progress(self, advances: Mapping[Partition, Advance]) -> None:
        """Tell how many offsets the ledger has moved on."""
        self._progress(sum(each.after - each.before for each in advances.values()))

    def _begin(self, partitions: list[int]) -> None:
        self._assigned(self._consumer, [TopicPartition(self.topic, partition) for partition in partitions])

    def _judge(self, error: KafkaError, partition: int) -> None:
        if ends_reading(error, joins_group=False):
            super()._judge(error, partition)

    def _begin_where_the_topic_does(self, partition: int) -> None:
        """Never: what the topic lacks was asked about before the reading began."""
        raise FatalError(
            f"{self.topic}/{partition} has lost messages that were still to be read: run the replay again, which says "
            "what is missing"
        )


class TopicDesk:
    """Asks Kafka about topics, in short calls: a word to stop is taken between two of them.

    Every method raises `FatalError` when there is no such topic or Kafka refuses us, `RetryableError` when it does not
    answer for `seconds_max`, and `StoppedError` when `stopping` was set meanwhile.
    """

    def __init__(
        self, properties: Mapping[str, str], stopping: threading.Event, seconds_max: float = CALL_SECONDS_MAX
    ) -> None:
        self._properties = dict(properties)
        self._seconds_max = seconds_max
        self._stopping = stopping
        self._reason = LastReason()

    def extent_of(self, topic: str) -> Extent:
        """What the topic holds now."""
        with self._asking(topic) as (consumer, partitions, cluster):
            found = {partition: self._watermarks(consumer, topic, partition) for partition in partitions}
        begins = {partition: low for partition, (low, _) in found.items()}
        return Extent(begins, {partition: high for partition, (_, high) in found.items()}, cluster)

    def offsets_at(self, topic: str, milliseconds: int) -> dict[int, int]:
        """For every partition the offset of the first message at or after that time (since 1970), or its end."""
        with self._asking(topic) as (consumer, partitions, _):
            ends = {partition: self._watermarks(consumer, topic, partition)[1] for partition in partitions}
            asked = [TopicPartition(topic, partition, milliseconds) for partition in partitions]
            found = self._called(lambda seconds: consumer.offsets_for_times(asked, timeout=seconds))
            for each in found:
                if each.error is not None:
                    raise KafkaException(each.error)
        return {each.partition: each.offset if each.offset >= 0 else ends[each.partition] for each in found}

    @contextmanager
    def _asking(self, topic: str) -> Iterator[tuple[Consumer, list[int], str]]:
        """A consumer, the topic's partitions, and the cluster's id."""
        self._reason = LastReason()
        settings: dict[str, Any] = {
            **self._properties,
            "group.id": _GROUP,
            "isolation.level": "read_committed",
        }
        consumer = create_consumer(settings, self._reason)
        try:
            metadata = self._called(lambda seconds: consumer.list_topics(topic, timeout=seconds))
            found = metadata.topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)  # noqa: TRY301  it joins the errors that calls raise
            yield consumer, sorted(found.partitions), str(metadata.cluster_id)
        except KafkaException as error:
            consumer.poll(0)  # reads nothing; librdkafka tells its reasons within
            raise translate_reading(error.args[0], topic, self._properties, self._reason) from error
        finally:
            consumer.close()

    def _watermarks(self, consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
        asked = TopicPartition(topic, partition)
        low, high = self._called(lambda seconds: consumer.get_watermark_offsets(asked, timeout=seconds))
        return low, high

    def _called(self, call: Callable[[float], T]) -> T:
        """What the call gives, which takes how long it may last; it is made again as long as trouble may pass."""
        try:
            return answered(call, lambda: not self._stopping.is_set(), self._seconds_max)
        except KafkaException as error:
            if self._stopping.is_set():
                raise StoppedError from error
            raise
