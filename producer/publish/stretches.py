"""Stretches of partitions: where they end or an instant lies, and all that stands between two offsets."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # it is not in its __all__

from producer.connection.permission import TOPIC, Right, not_permitted
from producer.connection.renewal import client_made_later
from producer.errors import RetryableError
from producer.publish.partition_end import PASSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

CALL_SECONDS_MAX = 10.0
READ_STALLED_SECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.05
_BATCH_RECORDS_MAX = 5000
_BATCH_SECONDS_MAX = 0.05
_NOTHING_LATER = -1
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


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
            time.sleep(_PAUSE_SECONDS)
    return offsets


def read_stretches(
    properties: Mapping[str, str], starts: Mapping[Place, int], ends: Mapping[Place, int], isolation: str
) -> Iterator[tuple[Place, Message]]:
    """Every message from `starts` to before `ends`, in the order of each partition, `isolation` as of librdkafka.

    Raises `RetryableError` when nothing comes for a while before the ends are reached, `NotPermittedError` when a topic
    may not be read.
    """
    left = {place for place, offset in starts.items() if offset < ends[place]}
    if not left:
        return
    with client_made_later():
        consumer = Consumer(
            {
                **properties,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "enable.partition.eof": "true",
                "fetch.wait.max.ms": "10",
            },
            logger=_LIBRDKAFKA_LOG,
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
