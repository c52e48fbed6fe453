"""A topic in, batches from all its partitions out, without a group: for a replay, beside which others read on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumers.consume import CALL_SECONDS_MAX, Subscription
from consumers.kafka_errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.consume import Owner
    from consumers.ledger.port import Advance, Partition

_GROUP = "trekkpaalegg-consumer-replay"
"""Never joined; librdkafka wants one."""


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


def ends_of(properties: Mapping[str, str], topic: str) -> dict[int, int]:
    """The offset after the last committed message of every partition.

    Raises `FatalError` when there is no such topic or Kafka refuses us, `RetryableError` when it does not answer.
    """
    with _asking(properties, topic) as (consumer, partitions):
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=CALL_SECONDS_MAX)[1]
            for partition in partitions
        }


def offsets_at(properties: Mapping[str, str], topic: str, milliseconds: int) -> dict[int, int]:
    """For every partition the offset of the first message at or after that time (since 1970), or its end.

    Raises as `ends_of`.
    """
    ends = ends_of(properties, topic)
    with _asking(properties, topic) as (consumer, partitions):
        asked = [TopicPartition(topic, partition, milliseconds) for partition in partitions]
        found = consumer.offsets_for_times(asked, timeout=CALL_SECONDS_MAX)
    return {each.partition: each.offset if each.offset >= 0 else ends[each.partition] for each in found}


@contextmanager
def _asking(properties: Mapping[str, str], topic: str) -> Iterator[tuple[Consumer, list[int]]]:
    consumer = Consumer({**properties, "group.id": _GROUP, "isolation.level": "read_committed"})
    try:
        found = consumer.list_topics(topic, timeout=CALL_SECONDS_MAX).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)  # noqa: TRY301  it joins the errors that calls raise
        yield consumer, sorted(found.partitions)
    except KafkaException as error:
        raise translated(error.args[0], topic, _GROUP) from error
    finally:
        consumer.close()
