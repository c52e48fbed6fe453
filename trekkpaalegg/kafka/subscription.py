"""A member of a ledger's consumer group: batches of committed messages, each with the offsets it moves the ledger to.

Reading starts at the offsets that the ledger stores. The offsets of the consumer group are committed for tools that
show its lag, and are never read.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from trekkpaalegg.errors import DisplacedError, FatalError, FencedError, ForgottenError, RetryableError
from trekkpaalegg.incoming import Advance, Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.errors import UNKNOWN_TOPIC, is_transient, translate_reading
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, MemberHealth
from trekkpaalegg.kafka.member import CLASSIC, leave, member_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from trekkpaalegg.errors import TrekkpaaleggError


class ClientStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka as a member of the group sees it.

    `partitions` are this member's, `ends` the ends of at least those of them whose end is known yet, `partition_count`
    says how many the topic has, 0 while that is unknown.
    """

    partitions: frozenset[int] = frozenset()
    ends: dict[int, int] = {}
    partition_count: int = 0
    is_reachable: bool = False
    is_member: bool = False


class Batch(msgspec.Struct):
    """Messages, in order within each partition, and the offsets that they move, by partition."""

    messages: list[Message]
    advances: dict[Partition, Advance]

    @property
    def written_at(self) -> float | None:
        """When the last message was written to Kafka, in seconds since 1970, if it says so."""
        milliseconds = self.messages[-1].timestamp()[1] if self.messages else 0
        return milliseconds / 1000 if milliseconds > 0 else None


class Owner(Protocol):
    """The consumer behind a subscription, which knows the ledger. Called within `Subscription.read` and `close`."""

    lost_offset_advice: str
    """What to do if the topic no longer has the next offset."""

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """The offsets to read these newly assigned partitions from; 0 if nothing was read yet."""

    def hand_over(self, topic: str, partitions: Collection[int]) -> None:
        """Finish work in progress, because these partitions are being reassigned to another member."""

    def report(self, event: str, **details: object) -> None:
        """Report an event that an operator may want to know."""

    def is_stopping(self) -> bool:
        """Whether to stop waiting for Kafka."""


class BatchSource(Protocol):
    """The source of batches: `Subscription`, a replay's reader, or a fake."""

    topic: str

    def read(self, records_max: int, seconds_max: float) -> Batch:
        """The messages received since the last call."""

    def seek_to_stored(self) -> None:
        """Continue from the ledger's offsets."""

    def ends(self) -> dict[int, int]:
        """The offset after the last committed message of every partition."""

    def client_status(self) -> ClientStatus:
        """The state of the Kafka client, without calling Kafka."""

    def lag(self) -> int:
        """How many offsets this member is behind."""

    def commit_to_group(self, advances: Mapping[Partition, Advance]) -> None:
        """Commit the ledger's offsets to the consumer group."""

    def close(self) -> None:
        """Leave the group."""


_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - codes of librdkafka's own begin so
_OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - as above


class Subscription:
    """One member of the consumer group `group_id`, which shares the partitions of `topic` among its members.

    With an `instance_id` it is a static one: started again within a session it has its partitions back at once.

    Raises `FatalError` when there is no such topic, `RetryableError` when Kafka does not answer at the start (later it
    is waited for), and at any time `RefusedError`, `ForgottenError` and `DisplacedError`: then make a new one. Used by
    one thread.
    """

    def __init__(
        self, properties: Mapping[str, str], topic: str, group_id: str, owner: Owner, instance_id: str | None = None
    ) -> None:
        self.topic = topic
        self._owner = owner
        self._group_id = group_id
        self._properties = properties
        self._health = MemberHealth(topic)
        self._was_silent = False
        self._positions: dict[int, int] = {}
        self._repositioned: set[int] = set()
        self._is_leaving = False
        settings = {
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 32 * 1024,
            **member_settings(dict(properties) | CLASSIC, group_id, instance_id),
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            **self._health.callbacks(),
        }
        self._admin().partitions(topic)
        self._consumer = create_consumer(settings)
        callbacks = {"on_assign": self._assigned, "on_revoke": self._revoked, "on_lost": self._lost}
        self._consumer.subscribe([topic], **callbacks)

    @property
    def partitions(self) -> set[int]:
        """The partitions that are assigned to this member."""
        return set(self._positions)

    def read(self, records_max: int, seconds_max: float) -> Batch:
        """The messages received, which may be none. Waits for `seconds_max`, or until there are `records_max`.

        Raises `FatalError` when Kafka refuses us or no longer has what the ledger needs, and what the owner raises.
        """
        found = self._consume(records_max, seconds_max)
        repositioned, positions = frozenset(self._repositioned), self._positions
        befores: dict[int, int] = {}
        dropped: dict[int, int] = {}
        messages = []
        for message in found:
            error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is not None and error.code() != _AT_END:
                self._judge(error, partition)
                continue
            position = positions.get(partition)
            if position is None or offset < position:
                continue
            if partition in repositioned:
                dropped[partition] = position
                continue
            if partition not in befores:
                befores[partition] = position
            if error is None:
                positions[partition] = offset + 1
                messages.append(message)
            else:
                positions[partition] = offset
        if dropped:
            # Messages of the same call may be from before or after the new position: they are fetched again.
            self._fetch_from(dropped)
        return Batch(
            messages,
            {
                Partition(self.topic, partition): Advance(before, positions[partition])
                for partition, before in befores.items()
                if positions[partition] != before
            },
        )

    def _consume(self, records_max: int, seconds_max: float) -> list[Message]:
        self._repositioned.clear()
        try:
            found = self._consumer.consume(records_max, timeout=seconds_max)
        except KafkaException as failed:
            raise self._translated(failed.args[0]) from failed
        if self._health.refusal is not None:
            raise self._translated(self._health.refusal)
        if self._health.has_forgotten_brokers:
            raise ForgottenError(ALL_FORGOTTEN)
        self._report_silence()
        return found

    def seek_to_stored(self) -> None:
        """Continue from the ledger's offsets, because another owner has moved them."""
        if self._positions:
            self._fetch_from(self._owner.next_offsets(self.topic, self.partitions))

    def ends(self) -> dict[int, int]:
        """The offset after the last message of every partition of the topic, open transactions included.

        A transaction that has just been committed may appear open for a moment. Raises as the class says.
        """
        admin = self._admin()
        found = admin.ends(admin.partitions(self.topic), IsolationLevel.READ_UNCOMMITTED)
        return {each.partition: end for each, end in found.items()}

    def client_status(self) -> ClientStatus:
        """What librdkafka last reported; it does so every two seconds, within `read`."""
        health = self._health
        return ClientStatus(
            partitions=frozenset(self._positions),
            ends=health.ends,
            partition_count=health.partition_count,
            is_reachable=bool(health.is_connected),
            is_member=health.is_member,
        )

    def lag(self) -> int:
        """How many offsets this member is behind, as far as is known without asking Kafka."""
        behind = 0
        for partition, position in self._positions.items():
            with contextlib.suppress(KafkaException):
                _, end = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
                behind += max(0, end - position)
        return behind

    def commit_to_group(self, advances: Mapping[Partition, Advance]) -> None:
        """Commit the ledger's offsets to the consumer group, so that its lag can be seen. Does not wait, may fail.

        Only for partitions that are ours: a static member that commits before it has joined is fenced for it.
        """
        ours = {place: each.after for place, each in advances.items() if place[1] in self._positions}
        with contextlib.suppress(KafkaException):
            self._consumer.commit(offsets=[TopicPartition(*place, ours[place]) for place in ours], asynchronous=True)

    def close(self) -> None:
        """Leave the group, so that others get the partitions at once. Takes some seconds at most."""
        self._is_leaving = True
        try:
            if self._positions:
                self._owner.hand_over(self.topic, list(self._positions))
        finally:
            if not leave(self._consumer):
                self._owner.report("left the group without an answer from Kafka", topic=self.topic)

    def _admin(self) -> Admin:
        return Admin(
            self._properties, role="consumer", gives_up=self._owner.is_stopping, on_silence=self._report_no_answer
        )

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        partitions = [each.partition for each in assigned]
        offsets = self._owner.next_offsets(self.topic, partitions) if partitions else {}
        self._positions |= offsets
        self._repositioned |= offsets.keys()
        consumer.incremental_assign([TopicPartition(self.topic, *place) for place in offsets.items()])

    def _revoked(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        if not self._is_leaving:
            self._owner.hand_over(self.topic, [each.partition for each in revoked])
        self._drop(consumer, revoked)

    def _lost(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._owner.report("partitions lost", topic=self.topic, partitions=sorted(each.partition for each in lost))
        self._drop(consumer, lost)

    def _drop(self, consumer: Consumer, dropped: list[TopicPartition]) -> None:
        for each in dropped:
            self._positions.pop(each.partition, None)
        consumer.incremental_unassign(dropped)

    def _fetch_from(self, offsets: Mapping[int, int]) -> None:
        """Fetch again from these offsets. Unlike a seek it works before the first fetch, and drops what was fetched."""
        self._positions |= offsets
        places = [TopicPartition(self.topic, *place) for place in offsets.items()]
        self._consumer.incremental_unassign(places)
        self._consumer.incremental_assign(places)

    def _judge(self, error: KafkaError, partition: int) -> None:
        """Raise `FatalError` unless the error is temporary."""
        code = error.code()
        if code == _OUT_OF_RANGE:
            self._begin_where_the_topic_does(partition)
        elif code in UNKNOWN_TOPIC:
            # A broker that has just come up may not know its topics yet.
            with contextlib.suppress(RetryableError):
                self._admin().partitions(self.topic)
        elif not is_transient(error):
            raise self._translated(error)

    def _begin_where_the_topic_does(self, partition: int) -> None:
        """Only a ledger that has read nothing of the partition may begin later than at 0."""
        position = self._positions.get(partition)
        if position is None:
            return
        if position:
            raise FatalError(
                f"{self.topic}/{partition} no longer has offset {position}, which the ledger has come to: messages "
                f"were deleted before they were read, or the topic was made again; {self._owner.lost_offset_advice}"
            )
        self._owner.report(
            "the topic no longer has its beginning, so the ledger will lack it", topic=self.topic, partition=partition
        )
        beginning = [TopicPartition(self.topic, partition, OFFSET_BEGINNING)]
        self._consumer.incremental_unassign(beginning)
        self._consumer.incremental_assign(beginning)

    def _report_silence(self) -> None:
        """Report once that no broker is connected any more."""
        is_silent, self._was_silent = self._health.are_all_down and not self._was_silent, self._health.are_all_down
        if is_silent:
            self._report_no_answer()

    def _report_no_answer(self) -> None:
        event = "Kafka does not answer; reading continues when it does"
        self._owner.report(event, topic=self.topic, todo="check that the brokers run and have room on their disks")

    def _translated(self, error: KafkaError) -> TrekkpaaleggError:
        found = translate_reading(error, self.topic, self._properties, self._health.reason, group_id=self._group_id)
        if isinstance(found, FencedError) and self._health.is_fence_self_inflicted():
            return DisplacedError(str(found))
        return found
