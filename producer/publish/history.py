"""Reads the partition of a lane in the history: what it has lost of what was published, and older versions."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]  # it is not in its __all__
from msgspec.structs import replace

from producer.detect.repair import History
from producer.domain.content import content_hash
from producer.encode.avro import SINGLE_OBJECT_MARKER
from producer.encode.event import trekkpaalegg_of
from producer.publish.port import Loss
from producer.publish.recovery.events import copy_of, event_of, headers_of
from producer.publish.state import read_partition
from producer.publish.topics import FOR_EVER
from trekkpaalegg.decode import CONFLUENT_MARKER, CONFLUENT_PREFIX_BYTES, Decoder
from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from confluent_kafka import Message

    from producer.domain.state import OrderBook
    from producer.publish.port import Record
    from producer.publish.recovery.events import PublishedEvent
    from producer.publish.topics import Topics

COPIES_MAX = 20_000
"""Events that are held at once to be copied to `…-gjeldende`."""

_LIMITS = ("retention.ms", "retention.bytes")
_FINGERPRINT_HEADER = "ce_schemafingerprint"

_log = structlog.get_logger(__name__)


def lost_of(properties: Mapping[str, str], topics: Topics, lane: int, orders: OrderBook) -> Loss:
    """What the lane's partitions of the history and of `…-gjeldende` have lost of these orders.

    Everything that is published of the orders must be committed when it is called. It is read to the end of all that
    was written by then: a transaction that was just committed may not be visible yet. Raises as `Admin`, and
    `RetryableError` when that end is not reached.
    """
    admin, history = Admin(properties), History()
    config = admin.configs(ResourceType.TOPIC, [topics.versjoner])[topics.versjoner] or {}
    is_kept = all(config.get(limit) == str(FOR_EVER) for limit in _LIMITS)
    with as_retryable(), RangeReader(properties) as reader:

        def events(topic: str) -> Iterator[tuple[PublishedEvent, Message]]:
            place = Partition(topic, lane)
            ends = admin.ends([place], IsolationLevel.READ_UNCOMMITTED)
            for messages in reader.read(admin.begins([place]), ends):
                for message in messages:
                    event = event_of(message)
                    if event is not None and message.value() is not None:
                        yield event, message

        for event, _ in events(topics.versjoner):
            history.add(event.order, event.trekkversjon, event.correction)
        for event, _ in events(topics.gjeldende):
            history.add_current(event.order, event.trekkversjon, event.correction)
        found = ((key, history.lost(key, orders.order(key), is_kept=is_kept)) for key in orders)
        lost = {key: each for key, each in found if each is not None}
        behind = {key: each.behind for key, each in lost.items() if each.behind is not None}
        chosen = dict(islice(behind.items(), COPIES_MAX))
        copies: dict[bytes, Record] = {}
        if chosen:
            for event, message in events(topics.versjoner):
                if chosen.get(event.order) == event.trekkversjon and not event.late:
                    copies[event.order] = replace(copy_of(message), topic=topics.gjeldende)
    return Loss(lost, copies, is_all=len(chosen) == len(behind))


def published_of(
    properties: Mapping[str, str], topic: str, lane: int, wanted: Collection[tuple[bytes, int]]
) -> dict[tuple[bytes, int], set[bytes]]:
    """Of each wanted version (key of the order, trekkversjon), the content hashes of all that was published of it.

    They are made by the present method: of the version itself, and of its corrections. A version that the lane's
    partition of the history does not hold is left out. Reads all of it, a part at a time. Raises `RetryableError` when
    it cannot be read to its end.
    """
    decoder, keys = Decoder(), {key for key, _ in wanted}
    found: dict[tuple[bytes, int], set[bytes]] = {}
    for message in read_partition(properties, topic, lane):
        if message.key() not in keys:
            continue
        event = event_of(message)
        if event is None or (event.order, event.trekkversjon) not in wanted:
            continue
        try:
            published = content_hash_of(message.value(), headers_of(message), decoder)
        except UndecodableError as error:
            _log.warning("an event cannot be compared", lane=lane, offset=message.offset(), reason=str(error))
        else:
            found.setdefault((event.order, event.trekkversjon), set()).add(published)
    return found


def content_hash_of(value: bytes | None, headers: Mapping[str, bytes], decoder: Decoder) -> bytes:
    """The hash of the content of an event in either wire format: a header names the schema, so no registry is needed.

    Raises `UndecodableError` for other bytes.
    """
    if value is not None and value.startswith(CONFLUENT_MARKER):
        try:
            fingerprint = bytes.fromhex(headers.get(_FINGERPRINT_HEADER, b"").decode())
        except ValueError:
            raise UndecodableError("its header names no schema") from None
        value = SINGLE_OBJECT_MARKER + fingerprint + value[CONFLUENT_PREFIX_BYTES:]
    return content_hash(trekkpaalegg_of(decoder.decode_trekkpaalegg_versjon(value)))
