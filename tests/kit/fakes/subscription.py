"""A topic in memory and members that read it, as `trekkpaalegg.kafka.subscription.Subscription` does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Message

from tests.kit.event_stream import event_encoder
from trekkpaalegg.incoming import Advance, Partition
from trekkpaalegg.kafka.subscription import Batch, ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from producer.domain.trekkpaalegg import Publication
    from trekkpaalegg.kafka.subscription import Owner

_PAUSE_SECONDS = 0.002


class FakeTopic:
    """Messages by partition. After those of each `write` comes an offset without a message, as after a transaction."""

    def __init__(self, name: str = "test-versjoner", partitions: int = 2) -> None:
        self.name = name
        self.messages: dict[int, list[Message | None]] = {partition: [] for partition in range(partitions)}

    def write(self, publications: Sequence[Publication]) -> None:
        """Add these events, spread over the partitions by order."""
        encode = event_encoder().encode
        for each in publications:
            encoded = encode(each)
            self._add(sum(encoded.key) % len(self.messages), encoded.key, encoded.value, encoded.headers)
        for kept in self.messages.values():
            kept.append(None)

    def write_raw(self, value: bytes | None, *, partition: int = 0) -> None:
        """Add one message as it is."""
        self._add(partition, b"unknown", value, {})

    def ends(self) -> dict[int, int]:
        """The offset after the last of each partition."""
        return {partition: len(kept) for partition, kept in self.messages.items()}

    def _add(self, partition: int, key: bytes, value: bytes | None, headers: Mapping[str, bytes]) -> None:
        kept = self.messages[partition]
        made = Message(
            topic=self.name, partition=partition, offset=len(kept), key=key, value=value, headers=list(headers.items())
        )
        kept.append(made)


class FakeSubscription:
    """One member that has all partitions. `before_read` are called, one each time, before a batch is given."""

    def __init__(self, topic: FakeTopic, owner: Owner, before_read: list[Callable[[FakeSubscription], None]]) -> None:
        self.topic = topic.name
        self.shown: dict[Partition, int] = {}
        """The group's own offsets."""
        self.closed = False
        self.is_reachable = True
        self._topic = topic
        self._owner = owner
        self._before_read = before_read
        self._positions = owner.next_offsets(topic.name, list(topic.messages))

    def read(self, records_max: int, seconds_max: float) -> Batch:  # noqa: ARG002 - a topic in memory is not waited for
        """See `Subscription`."""
        if self._before_read:
            self._before_read.pop(0)(self)
        messages: list[Message] = []
        advances: dict[Partition, Advance] = {}
        for partition, begin in self._positions.items():
            found = self._topic.messages[partition][begin : begin + records_max - len(messages)]
            messages += [message for message in found if message is not None]
            if found:
                advances[Partition(self.topic, partition)] = Advance(begin, begin + len(found))
                self._positions[partition] = begin + len(found)
        if not advances:
            time.sleep(_PAUSE_SECONDS)
        return Batch(messages, advances)

    def seek_to_stored(self) -> None:
        """See `Subscription`."""
        self._positions = self._owner.next_offsets(self.topic, list(self._positions))

    def give_up(self, partitions: Collection[int]) -> None:
        """Another member gets these."""
        self._owner.hand_over(self.topic, partitions)
        for partition in partitions:
            del self._positions[partition]

    def ends(self) -> dict[int, int]:
        """See `Subscription`."""
        return self._topic.ends()

    def client_status(self) -> ClientStatus:
        """See `Subscription`."""
        return ClientStatus(
            partitions=frozenset(self._positions),
            ends=self._topic.ends(),
            partition_count=len(self._topic.messages),
            is_reachable=self.is_reachable,
            is_member=True,
        )

    def lag(self) -> int:
        """See `Subscription`."""
        return sum(self._topic.ends()[partition] - position for partition, position in self._positions.items())

    def commit_to_group(self, advances: Mapping[Partition, Advance]) -> None:
        """See `Subscription`."""
        self.shown |= {partition: advance.after for partition, advance in advances.items()}

    def close(self) -> None:
        """See `Subscription`."""
        self.closed = True
