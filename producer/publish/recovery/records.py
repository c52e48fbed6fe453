"""What the lane's Kafka records say: the event that a message holds, and the records that correct a state. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from producer.encode.event import READ_FOR, TREKKPLIKTIG
from producer.publish.port import Record
from producer.publish.recovery.rollback import PublishedEvent
from producer.publish.state import forget_records, state_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

    from producer.domain.state import LaneState, OrderState
    from producer.publish.recovery.rollback import Rollback


def headers_of(message: Message) -> dict[str, bytes]:
    """The headers by name."""
    headers: Any = message.headers() or []  # typed as what may be given, too
    return {name: value for name, value in headers if isinstance(value, bytes)}


def trekkpliktig_of(message: Message) -> str | None:
    """The trekkpliktig for whom an event or quarantine record was read, None if its headers do not say."""
    headers = headers_of(message)
    trekkpliktig = headers.get(READ_FOR) or headers.get(TREKKPLIKTIG)
    try:
        return None if trekkpliktig is None else trekkpliktig.decode()
    except UnicodeDecodeError:
        return None


def event_of(message: Message, *, is_rejected: bool = False) -> PublishedEvent | None:
    """The event, or with `is_rejected` the quarantine record, that a message holds; None if its headers do not say."""
    headers = headers_of(message)
    trekkpliktig, key, identity = trekkpliktig_of(message), message.key() or b"", headers.get("ce_id", b"")
    if trekkpliktig is None or not identity:
        return None
    try:
        if is_rejected:
            order = headers.get("ce_subject", b"#" + identity)
            return PublishedEvent(trekkpliktig, order, rejected=bytes.fromhex(identity.decode()))
        trekkversjon, _, number = identity.removeprefix(key + b"/").partition(b"/")
        correction = int(number) if number else None
        return PublishedEvent(trekkpliktig, key, int(trekkversjon), late="ce_late" in headers, correction=correction)
    except ValueError:
        return None


def identity_of(event: PublishedEvent) -> bytes:
    """The event's `ce_id`."""
    identity = b"%s/%d" % (event.order, event.trekkversjon)
    return identity if event.correction is None else b"%s/%d" % (identity, event.correction)


def written_at(message: Message) -> int:
    """In milliseconds since 1970."""
    return message.timestamp()[1]


def copy_of(message: Message) -> Record:
    """The same record, to the same partition."""
    return Record(
        message.topic() or "", message.key() or b"", message.value(), headers_of(message), message.partition() or 0
    )


def rollback_records(
    topic: str, partition: int, state: LaneState, rollbacks: Mapping[str, Rollback]
) -> Iterator[Record]:
    """Records for `…-positions` that roll back these trekkpliktige; `state` is what is remembered before."""
    for trekkpliktig, rollback in rollbacks.items():
        known = state.of(trekkpliktig).position
        kept = {key: order for key, order in rollback.orders.items() if order is not None}
        gone = [key for key, order in rollback.orders.items() if order is None]
        position = (
            msgspec.structs.replace(known, position=rollback.position) if rollback.position < known.position else None
        )
        yield from state_records(topic, partition, trekkpliktig, position, kept)
        yield from forget_records(topic, partition, trekkpliktig, gone)


def order_records(topic: str, partition: int, orders_of: Mapping[str, Mapping[bytes, OrderState]]) -> Iterator[Record]:
    """Records for `…-positions` that remember these orders, by trekkpliktig and key."""
    for trekkpliktig, orders in orders_of.items():
        yield from state_records(topic, partition, trekkpliktig, None, orders)
