"""Reading committed messages of one topic, up to given ends, in batches.

The end of a partition is where its last completed transaction ends: no transaction before it is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from confluent_kafka import IsolationLevel

from consumers.verify.content import PublishedOrder, content_of_fields
from consumers.verify.events import marks_of_message
from consumers.verify.places import FoundTopic
from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from confluent_kafka import Message

    from consumers.verify.events import PlainValues
    from consumers.verify.findings import Progress

STALLED_SECONDS_MAX = 60.0


def describe_topics(properties: Mapping[str, str], names: Iterable[str]) -> tuple[str, list[FoundTopic], set[str]]:
    """The cluster's id, those of the topics that exist, and the names of those that we may not see.

    Raises as `CommittedReader`.
    """
    admin = Admin(properties, role="consumer")
    found, hidden = admin.describe(names)
    topics = [FoundTopic(name, str(each.topic_id), len(each.partitions)) for name, each in found.items()]
    return admin.metadata().cluster_id, topics, hidden


class CommittedReader:
    """One topic, read from where the last reading ended. Close it, or use it as a context.

    Every method raises `UnknownTopicError`, `RefusedError` when Kafka refuses a login or a right, and `RetryableError`
    when it does not answer. No message is returned twice, and none is left out.
    """

    def __init__(self, properties: Mapping[str, str], topic: str) -> None:
        self.topic = topic
        self._admin = Admin(properties, role="consumer")
        found = self._admin.begins(self._admin.partitions(topic))
        self.begins = {each.partition: offset for each, offset in found.items()}
        """The first offset that each partition still holds."""
        self.next: dict[int, int] = dict(self.begins)
        """The offset at which the next reading starts, by partition."""
        self._reader = RangeReader(properties, role="consumer", stalled_seconds_max=STALLED_SECONDS_MAX)

    def ends(self) -> dict[int, int]:
        """By partition, the end of what is committed now."""
        return self._ends(IsolationLevel.READ_COMMITTED)

    def ends_with_open(self) -> dict[int, int]:
        """By partition, the end of all that is written now, open transactions included."""
        return self._ends(IsolationLevel.READ_UNCOMMITTED)

    def ahead(self, ends: Mapping[int, int]) -> int:
        """How many offsets there are from here to `ends`: at least as many as messages."""
        return sum(max(0, end - self.next.get(partition, 0)) for partition, end in ends.items())

    def read_to(self, ends: Mapping[int, int]) -> Iterator[list[Message]]:
        """The messages up to `ends`, in batches; of a partition in its order. Batches may be empty."""
        starts = {Partition(self.topic, number): self.next.get(number, 0) for number in sorted(ends)}
        yield from self._reader.read(starts, {each: ends[each.partition] for each in starts})
        self.next |= ends

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ends(self, isolation: IsolationLevel) -> dict[int, int]:
        found = self._admin.ends(self._admin.partitions(self.topic), isolation)
        return {each.partition: end for each, end in found.items()}


class OrderReader:
    """Reads all messages of some orders, for a comparison field by field.

    Raises what `CommittedReader` and the schema source raise.
    """

    def __init__(self, properties: Mapping[str, str], values: PlainValues, progress: Progress) -> None:
        self._properties = properties
        self._values = values
        self._progress = progress

    def read(
        self, topic: str, orders: Collection[str], limits: Mapping[int, int] | None = None
    ) -> dict[str, PublishedOrder]:
        """The topic's messages of these orders, by trekkid, up to `limits` (by partition) or its end.

        Messages that cannot be decoded are skipped: the check of headers reports them.
        """
        wanted: dict[str, PublishedOrder] = {}
        keys = {trekkid.encode() for trekkid in orders}
        with CommittedReader(self._properties, topic) as reader:
            ends = reader.ends()
            if limits is not None:
                ends = {partition: min(end, limits.get(partition, 0)) for partition, end in ends.items()}
            self._progress.expect(sum(max(0, end - reader.begins[partition]) for partition, end in ends.items()))
            for found in reader.read_to(ends):
                for message in found:
                    if message.key() not in keys:
                        continue
                    try:
                        late, correction = marks_of_message(message)
                        fields = self._values.fields(message.value() or b"")
                    except UndecodableError:
                        continue
                    order = wanted.setdefault(fields["trekkid"], PublishedOrder())
                    order.add(content_of_fields(fields, correction or 0), correction or 0, late=late)
                self._progress.advance(len(found))
        return wanted
