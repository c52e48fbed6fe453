"""A topic on Kafka in, every event that was committed to it out, read with the consumers' decoder."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.stream.kafka_errors import passes
from sandbox.proof.faults import Published
from sandbox.proof.source import with_canonical_json

if TYPE_CHECKING:
    from confluent_kafka import Message

    from consumers.decode import Decoder

READ_SECONDS_MAX = 120.0
_BATCH_RECORDS_MAX = 5000
_WAIT_SECONDS = 0.02
_LOGGER = logging.getLogger(__name__)


def read_published(bootstrap_servers: str, topic: str, decoder: Decoder) -> list[Published]:
    """All events of a topic, read committed to its very end, partition by partition. Raises as `read_committed`."""
    return [_published(message, decoder) for message in read_committed(bootstrap_servers, topic)]


def read_committed(bootstrap_servers: str, topic: str, *, deadline_seconds: float = READ_SECONDS_MAX) -> list[Message]:
    """All messages of a topic, read committed to its very end, partition by partition.

    Raises `TimeoutError` when the end cannot be reached: an open transaction hides what follows it.
    """
    watermarks = watermarks_of(bootstrap_servers, topic)
    ends = {partition: end for partition, (_, end) in watermarks.items()}
    consumer = consumer_of(bootstrap_servers, "read_committed")
    try:
        # A number and not OFFSET_BEGINNING: librdkafka would take half a second to look that up.
        consumer.assign([TopicPartition(topic, partition, begin) for partition, (begin, _) in watermarks.items()])
        messages: dict[int, list[Message]] = {partition: [] for partition in ends}
        deadline = time.monotonic() + deadline_seconds
        while ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: the end of partitions {sorted(ends)} is hidden by an open transaction")
            for message in consumer.consume(_BATCH_RECORDS_MAX, timeout=_WAIT_SECONDS):
                error, partition = message.error(), message.partition() or 0
                if error is None:
                    messages[partition].append(message)
                elif passes(error):
                    continue
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes begin so
                    raise KafkaException(error)
                elif (message.offset() or 0) >= ends.get(partition, 0):
                    ends.pop(partition, None)
        return [message for partition in sorted(messages) for message in messages[partition]]
    finally:
        consumer.close()


def watermarks_of(bootstrap_servers: str, topic: str) -> dict[int, tuple[int, int]]:
    """The first offset and the end of every partition, open transactions included."""
    consumer = consumer_of(bootstrap_servers, "read_uncommitted")
    try:
        deadline = time.monotonic() + READ_SECONDS_MAX
        while True:
            try:
                partitions = consumer.list_topics(topic, timeout=READ_SECONDS_MAX).topics[topic].partitions
                found = [TopicPartition(topic, partition) for partition in sorted(partitions)]
                return {
                    each.partition: consumer.get_watermark_offsets(each, timeout=READ_SECONDS_MAX) for each in found
                }
            except KafkaException as error:
                if not passes(error.args[0]) or time.monotonic() > deadline:
                    raise
                time.sleep(_WAIT_SECONDS)
    finally:
        consumer.close()


def consumer_of(bootstrap_servers: str, isolation_level: str) -> Consumer:
    """A consumer that belongs to no group, and tells of the end of each partition."""
    settings: dict[str, str | bool | int] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "proof",
        "enable.auto.commit": False,
        "isolation.level": isolation_level,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 20,
        # A broker that sleeps is left for the one that leads instead of it.
        "socket.timeout.ms": 3000,
        "topic.metadata.refresh.interval.ms": 3000,
    }
    return Consumer(settings, logger=_LOGGER)


def _published(message: Message, decoder: Decoder) -> Published:
    headers = {name: (value or b"").decode() for name, value in message.headers() or []}  # type: ignore[str-unpack,union-attr]  # a consumer gives pairs with bytes
    correction = headers.get("ce_correction")
    return Published(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=(message.key() or b"").decode(),
        event=with_canonical_json(decoder.decode_trekkpaalegg_versjon(message.value())),
        ce_id=headers.get("ce_id", ""),
        late=headers.get("ce_late") == "true",
        correction=None if correction is None else int(correction),
        origin=headers.get("ce_origin", ""),
    )
