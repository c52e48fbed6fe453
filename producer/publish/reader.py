"""Reading topics: where partitions end, ranges of offsets, and what is committed from now on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # it is not in its __all__

from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, ClientHealth
from trekkpaalegg.kafka.renewal import client_made_later
from trekkpaalegg.kafka.rights import TOPIC, Right, not_permitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient


_PAUSE_SECONDS = 0.02
PASSING = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._TRANSPORT,  # noqa: SLF001  librdkafka's local codes begin so
        KafkaError._DESTROY_BROKER,  # noqa: SLF001  as above
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  as above
    }
)
"""What is said while a partition is given to another broker; librdkafka does not ask again by itself.

Now and then it calls a partition unknown that exists (confluentinc/confluent-kafka-python#1043; seen after a request
had timed out).
"""


def end_of(consumer: Consumer, topic: str, partition: int, seconds_max: float) -> int:
    """The offset after the last message that a client of this isolation level may read.

    Raises `KafkaException` when Kafka does not say for so long, or refuses us.
    """
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=seconds_max)[1])
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


CALL_SECONDS_MAX = 10.0
READ_STALLED_SECONDS_MAX = 20.0
_PAUSE_SECONDS_STRETCHES = 0.05
_BATCH_RECORDS_MAX = 5000
_BATCH_SECONDS_MAX = 0.05
_NOTHING_LATER = -1


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int


def ends_of(client: AdminClient, places: Iterable[Place], isolation: IsolationLevel) -> dict[Place, int]:
    """Where each partition ends for a reader of this isolation. Raises `KafkaException` when Kafka does not say."""
    latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka's has no types
    return _offsets(client, dict.fromkeys(places, latest), isolation)


def starts_of(client: AdminClient, places: Iterable[Place]) -> dict[Place, int]:
    """The first offset that each partition still has. Raises as `ends_of`."""
    earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as above
    return _offsets(client, dict.fromkeys(places, earliest), IsolationLevel.READ_UNCOMMITTED)


def offsets_since(client: AdminClient, ends: Mapping[Place, int], instant: int) -> dict[Place, int]:
    """The first offset in each partition that was written at or after the instant, in milliseconds since 1970.

    That of its end where there is none. Raises as `ends_of`.
    """
    since = OffsetSpec.for_timestamp(instant)
    found = _offsets(client, dict.fromkeys(ends, since), IsolationLevel.READ_UNCOMMITTED)
    return {place: ends[place] if offset == _NOTHING_LATER else offset for place, offset in found.items()}


def _offsets(client: AdminClient, wanted: Mapping[Place, OffsetSpec], isolation: IsolationLevel) -> dict[Place, int]:
    """A broker that does not lead a partition yet is asked again."""
    deadline = time.monotonic() + CALL_SECONDS_MAX
    offsets: dict[Place, int] = {}
    left = {place: TopicPartition(*place) for place in wanted}
    while left:
        asked = {partition: wanted[place] for place, partition in left.items()}
        answers = client.list_offsets(asked, isolation_level=isolation, request_timeout=CALL_SECONDS_MAX)
        for place, partition in list(left.items()):
            try:
                offsets[place] = answers[partition].result().offset
                del left[place]
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise
        if left:
            time.sleep(_PAUSE_SECONDS_STRETCHES)
    return offsets


def read_stretches(
    properties: Mapping[str, str], starts: Mapping[Place, int], ends: Mapping[Place, int], isolation: str
) -> Iterator[tuple[Place, Message]]:
    """Every message from `starts` to before `ends`, in the order of each partition, `isolation` as of librdkafka.

    Raises `RetryableError` when nothing comes for a while before the ends are reached, `RefusedError` when a topic
    may not be read.
    """
    left = {place for place, offset in starts.items() if offset < ends[place]}
    if not left:
        return
    with client_made_later():
        consumer = create_consumer(
            {
                **properties,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "enable.partition.eof": "true",
                "fetch.wait.max.ms": "10",
            }
        )
    try:
        consumer.assign([TopicPartition(*place, starts[place]) for place in left])
        deadline = time.monotonic() + READ_STALLED_SECONDS_MAX
        while left:
            if time.monotonic() > deadline:
                topics = ", ".join(sorted({place.topic for place in left}))
                raise RetryableError(f"reading a part of {topics} has stalled before its end; Kafka may be overloaded")
            for message in consumer.consume(_BATCH_RECORDS_MAX, timeout=_BATCH_SECONDS_MAX):
                place, offset = Place(message.topic() or "", message.partition() or 0), message.offset() or 0
                if message.error() is None:
                    deadline = time.monotonic() + READ_STALLED_SECONDS_MAX
                    if offset < ends[place]:
                        yield place, message
                    offset += 1
                elif not _is_end(message, properties):
                    continue
                if offset >= ends[place]:
                    left.discard(place)
    except KafkaException as error:
        raise RetryableError(f"a part of the topics cannot be read: {error.args[0].name()}") from error
    finally:
        consumer.close()


def _is_end(message: Message, properties: Mapping[str, str]) -> bool:
    """Whether this error says no more than that a partition ends there."""
    error = message.error()
    code = None if error is None else error.code()
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise not_permitted([Right("READ", TOPIC, message.topic() or "")], properties)
    # librdkafka looks for the group that it must be given, and that is never joined.
    if code not in {KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED, *PASSING}:  # noqa: SLF001 - librdkafka's local codes begin so
        raise KafkaException(error)
    return code == KafkaError._PARTITION_EOF  # noqa: SLF001 - as above


_CALL_SECONDS_MAX = 10.0

_log = structlog.get_logger(__name__)


class Tail:
    """A reader of partitions 0 to `partitions`-1 of each topic, from their ends at the time it was made."""

    def __init__(self, properties: Mapping[str, str], topics: Sequence[str], partitions: int) -> None:
        self._properties = properties
        self._health = ClientHealth()
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
            **self._health.callbacks(),
        }
        return create_consumer(settings)

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
        if self._health.has_forgotten_brokers:
            self._connect_anew()
        return messages

    def _connect_anew(self) -> None:
        _log.info(ALL_FORGOTTEN)
        former, self._consumer = self._consumer, self._connect()
        former.close()
        self._health.replaced()
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
