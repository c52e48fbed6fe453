"""Copies all topics to others, of another prefix, cluster or number of partitions: `topics copy`.

Kafka's own mirrors keep the partition of a record, and may write it twice. Here each record goes to the partition that
it belongs to among the new ones, once, in the order of its key, with its headers and time. Only what is committed is
copied. Observations and signals are not: what was handed over is handed over again, once the state is made again from
the copied history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from confluent_kafka import IsolationLevel, KafkaException

from producer.admin.kafka import KafkaAdmin
from producer.publish.recovery.recover import QUEUE_FULL_WAIT_SECONDS
from producer.publish.state import IDENTITY_PARTITION, identity_record, is_schema, lane_of_key, schema_records
from producer.publish.topics import FOR_EVER, Topics, home_of, wanted_topics
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    from producer.domain.identity import Identity
    from producer.publish.topics import FoundTopics

Headers: TypeAlias = Any
"""As confluent-kafka gives and takes them."""

FLUSH_SECONDS_MAX = 120.0


class NewTopics(NamedTuple):
    """How the new topics are to be. Where None is given they are as the former ones."""

    partitions: int | None
    replication: int
    history_retention_ms: int | None


class TopicsCopy:
    """The topics of one prefix, to be copied to those of another. Used by one thread, once.

    `properties` and `prefix` are those of the former topics, the others those of the new ones.
    """

    def __init__(
        self, properties: Mapping[str, str], prefix: str, new_properties: Mapping[str, str], new_prefix: str
    ) -> None:
        self._prefix = prefix
        self._topics = Topics.of(prefix)
        self._history = (self._topics.versjoner, self._topics.gjeldende, self._topics.quarantine)
        self._new_prefix = new_prefix
        self._new_topics = Topics.of(new_prefix)
        self._properties = properties
        self._new_properties = new_properties
        self._admin = KafkaAdmin(properties)
        self._new_admin = KafkaAdmin(new_properties, role="admin")
        self._schemas: set[bytes] = set()
        """The keys of those that are written."""

    def find(self) -> FoundTopics:
        """The former topics.

        Raises `FatalError` if one is missing that holds what was published, nothing ever was, or any of the new ones
        exists.
        """
        found = self._admin.inspect(self._prefix, "")
        missing = [name for name in self._history if name not in found.topics]
        if missing:
            raise FatalError(f"{', '.join(missing)}: no such topic; restore it, then copy")
        if not found.has_history:
            raise FatalError(
                f"{self._topics.versjoner} holds no event; run `trekkpaalegg-producer topics apply` instead"
            )
        there = self._new_admin.describe(self._new_topics)
        if there:
            raise FatalError(
                f"{', '.join(there)}: exists already; topics are copied to new ones alone: take another "
                "TREKKPAALEGG_TOPIC_PREFIX, or delete what a copy that was cut off has left"
            )
        return found

    def workers(self, found: FoundTopics) -> int:
        """How many workers of the application that the former topics are recorded for are live."""
        return 0 if found.recorded is None else self._admin.group_members(found.recorded.application_id)

    def run(self, found: FoundTopics, wanted: NewTopics, watch: Callable[[int, int], None]) -> int:
        """Create the new topics and copy to them; returns how many records.

        The state comes first, recorded as that of the former topics: no worker starts on the new ones until it is made
        again from the history. `watch` is called with the number of records read, and of those to be read, about.
        Raises `FatalError` if the former topics hold open transactions, `RetryableError` if it was cut off.
        """
        recorded = found.recorded or found.present
        if found.recorded is not None:
            for lane in range(recorded.lanes):
                self._admin.fence(f"{recorded.application_id}-{lane}")
        begins, ends = self._range(found)
        versjoner = found.topics[self._topics.versjoner]
        lanes = wanted.partitions or recorded.lanes or versjoner.partitions
        kept_ms = wanted.history_retention_ms
        if kept_ms is None:
            kept_ms = int(versjoner.config.get("retention.ms", FOR_EVER))
        self._new_admin.create(
            wanted_topics(
                self._new_prefix, partitions=lanes, replication=wanted.replication, history_retention_ms=kept_ms
            )
        )
        writer = _Writer(self._new_properties)
        self._begin_state(writer, recorded, lanes)
        names = dict(zip(self._topics, self._new_topics, strict=True))
        read, total, written = 0, sum(ends[each] - begins[each] for each in ends), 0
        with RangeReader(self._properties) as reader:
            for topic in dict.fromkeys(each.topic for each in ends):
                is_state = topic == self._topics.positions
                for messages in reader.read(begins, {each: end for each, end in ends.items() if each.topic == topic}):
                    for message in messages:
                        key = message.key() or b""
                        for partition in self._lanes_of(key, lanes) if is_state else (home_of(key, lanes),):
                            writer.copy(message, names[topic], partition)
                            written += 1
                    read += len(messages)
                    watch(read, total)
        writer.flush()
        return written

    def _begin_state(self, writer: _Writer, recorded: Identity, lanes: int) -> None:
        """Have the new topics be recorded as the former ones."""
        positions = self._new_topics.positions
        records = [each for lane in range(lanes) for each in schema_records(positions, lane, ())]
        self._schemas = {each.key for each in records}
        for record in (*records, identity_record(positions, IDENTITY_PARTITION, recorded)):
            writer.write(record.topic, record.key, record.value, record.partition)
        writer.flush()

    def _lanes_of(self, key: bytes, lanes: int) -> Iterable[int]:
        """The lanes that get a record of the state: of a schema that another program has written all of them, once."""
        if not is_schema(key):
            lane = lane_of_key(key, lanes)
            return () if lane is None else (lane,)
        is_new = key not in self._schemas
        self._schemas.add(key)
        return range(lanes) if is_new else ()

    def _range(self, found: FoundTopics) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """Where the former topics that are copied begin and end, in the order in which they are."""
        admin, topics = Admin(self._properties), (self._topics.positions, *self._history)
        places = [
            Partition(name, number)
            for name in topics
            if name in found.topics
            for number in range(found.topics[name].partitions)
        ]
        ends = admin.ends(places)
        if admin.ends(places, IsolationLevel.READ_UNCOMMITTED) != ends:
            raise FatalError(
                f"the topics of {self._prefix} hold open transactions: run `trekkpaalegg-producer once` there, which "
                "ends those that are hanging, then copy"
            )
        return admin.begins(places), {each: ends[each] for each in places}


class _Writer:
    """Writes records to given partitions. Its methods raise `RetryableError` once one is not stored."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._failed: list[KafkaError] = []
        self._producer = create_producer(
            {
                "linger.ms": "5",
                "compression.type": "lz4",
                **properties,
                "acks": "all",
                "enable.idempotence": "true",
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    def copy(self, message: Message, topic: str, partition: int) -> None:
        """Store the same record there, with its time."""
        headers, (_, written_at) = message.headers(), message.timestamp()
        self.write(topic, message.key() or b"", message.value(), partition, headers, written_at)

    def write(
        self, topic: str, key: bytes, value: bytes | None, partition: int, headers: Headers = None, written_at: int = 0
    ) -> None:
        """Store a record, behind those that were written before. `written_at`: milliseconds since 1970, 0 for now."""
        while not self._failed:
            try:
                self._producer.produce(topic, value, key, partition, timestamp=written_at, headers=headers)
            except BufferError:
                self._producer.poll(QUEUE_FULL_WAIT_SECONDS)
            except KafkaException as error:
                self._failed.append(error.args[0])
            else:
                return
        self.flush()

    def flush(self) -> None:
        """Wait until all is stored."""
        left = self._producer.flush(FLUSH_SECONDS_MAX)
        if left or self._failed:
            reason = self._failed[0].name() if self._failed else "no answer"
            raise RetryableError(f"copying was cut off: {reason}; delete the new topics, and copy again")

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error)
