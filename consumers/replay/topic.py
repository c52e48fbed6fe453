"""Reads a whole topic for a replay: its extent, and batches from all its partitions, without joining a group."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import IsolationLevel

from trekkpaalegg.errors import RetryableError, StoppedError
from trekkpaalegg.incoming import Advance, Partition
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.kafka.subscription import Batch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from trekkpaalegg.kafka.subscription import ClientStatus, Owner


class Extent(msgspec.Struct, frozen=True):
    """The offsets of a topic, by partition: the first one, and the one after the last committed message."""

    begins: dict[int, int]
    ends: dict[int, int]
    cluster: str
    """The id of the Kafka cluster."""


class TopicExtents:
    """Requests the extents of topics from Kafka, and stops waiting soon after `stopping` was set.

    Every method raises `FatalError` when there is no such topic, `RefusedError` when Kafka refuses a login or a right,
    `RetryableError` when it does not answer for `seconds_max`, and `StoppedError` when `stopping` was set meanwhile.
    """

    def __init__(
        self, properties: Mapping[str, str], stopping: threading.Event, seconds_max: float = CALL_SECONDS_MAX
    ) -> None:
        self._properties = properties
        self._seconds_max = seconds_max
        self._stopping = stopping

    def extent_of(self, topic: str) -> Extent:
        """The topic's extent now."""
        with self._calling() as admin:
            partitions = admin.partitions(topic)
            begins, ends = admin.begins(partitions), admin.ends(partitions)
            cluster = str(admin.metadata(topic).cluster_id)
        return Extent(_by_number(begins), _by_number(ends), cluster)

    def offsets_at(self, topic: str, milliseconds: int) -> dict[int, int]:
        """For every partition the offset of the first message at or after that time (since 1970), or its end."""
        with self._calling() as admin:
            return _by_number(admin.offsets_since(admin.ends(admin.partitions(topic)), milliseconds))

    @contextmanager
    def _calling(self) -> Iterator[Admin]:
        try:
            yield Admin(
                self._properties, role="consumer", seconds_max=self._seconds_max, gives_up=self._stopping.is_set
            )
        except RetryableError as error:
            if self._stopping.is_set():
                raise StoppedError from error
            raise


class WholeTopic:
    """A `BatchSource` of every partition of a topic, read from where `owner` says.

    `progress` receives how many offsets the ledger has moved on. Raises as `Follower`: `FatalError` also when messages
    that are to be read were deleted, before the reading or during it.
    """

    def __init__(
        self, properties: Mapping[str, str], topic: str, owner: Owner, progress: Callable[[int], None]
    ) -> None:
        self.topic = topic
        self._owner = owner
        self._progress = progress
        numbers = [
            each.partition for each in Admin(properties, role="consumer", gives_up=owner.is_stopping).partitions(topic)
        ]
        start = self._next_offsets(numbers)
        self._follower = Follower(
            properties, [topic], start, on_silence=self._report_silence, gives_up=owner.is_stopping
        )

    def read(self, records_max: int, seconds_max: float) -> Batch:
        """What has come, waiting at most so long; may be empty."""
        before = self._follower.positions
        messages = self._follower.poll(seconds_max, records_max)
        after = self._follower.positions
        advances = {each: Advance(before[each], after[each]) for each in after if before[each] != after[each]}
        return Batch(messages, advances)

    def seek_to_stored(self) -> None:
        """Go on where the ledger says, as another process has moved its offsets."""
        self._follower.seek(self._next_offsets([each.partition for each in self._follower.positions]))

    def ends(self) -> dict[int, int]:
        """The offset after the last message of every partition, open transactions included."""
        return _by_number(self._follower.admin.ends(self._follower.positions, IsolationLevel.READ_UNCOMMITTED))

    def client_status(self) -> ClientStatus:
        """Kafka as librdkafka reported it last, within `read`. Every partition is this reader's."""
        return self._follower.client_status()

    def lag(self) -> int:
        """How many offsets are still ahead, as far as is known without asking Kafka."""
        ends = self._follower.health.ends
        positions = self._follower.positions
        return sum(max(0, ends.get(each.partition, 0) - offset) for each, offset in positions.items())

    def commit_to_group(self, advances: Mapping[Partition, Advance]) -> None:
        """Report how many offsets the ledger has moved on."""
        self._progress(sum(each.after - each.before for each in advances.values()))

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._follower.close()

    def _next_offsets(self, numbers: list[int]) -> dict[Partition, int]:
        found = self._owner.next_offsets(self.topic, numbers)
        return {Partition(self.topic, number): offset for number, offset in found.items()}

    def _report_silence(self) -> None:
        event = "Kafka does not answer; reading continues when it does"
        self._owner.report(event, topic=self.topic, todo="check that the brokers run and have room on their disks")


def _by_number(offsets: Mapping[Partition, int]) -> dict[int, int]:
    return {each.partition: offset for each, offset in offsets.items()}
