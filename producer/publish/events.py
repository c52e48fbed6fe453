"""Events and quarantined records as they stand in Kafka, to what their keys and headers tell of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producer.domain.undoing import Told
from producer.encode.event import READ_FOR, TREKKPLIKTIG
from producer.publish.port import Record

if TYPE_CHECKING:
    from confluent_kafka import Message


def headers_of(message: Message) -> dict[str, bytes]:
    """Its headers, by name."""
    headers: Any = message.headers() or []  # typed as what may be given, too
    return {name: value for name, value in headers if isinstance(value, bytes)}


def trekkpliktig_of(message: Message) -> str | None:
    """For whom an event or a record of the quarantine was read, None where it does not tell."""
    headers = headers_of(message)
    trekkpliktig = headers.get(READ_FOR) or headers.get(TREKKPLIKTIG)
    try:
        return None if trekkpliktig is None else trekkpliktig.decode()
    except UnicodeDecodeError:
        return None


def event_of(message: Message, *, is_rejected: bool = False) -> Told | None:
    """What an event, or a record of the quarantine, makes the lane hold published; None where it tells nothing."""
    headers = headers_of(message)
    trekkpliktig, key, identity = trekkpliktig_of(message), message.key() or b"", headers.get("ce_id", b"")
    if trekkpliktig is None or not identity:
        return None
    try:
        if is_rejected:
            order = headers.get("ce_subject", b"#" + identity)
            return Told(trekkpliktig, order, rejected=bytes.fromhex(identity.decode()))
        trekkversjon, _, number = identity.removeprefix(key + b"/").partition(b"/")
        correction = int(number) if number else None
        return Told(trekkpliktig, key, int(trekkversjon), late="ce_late" in headers, correction=correction)
    except ValueError:
        return None


def again(message: Message) -> Record:
    """The same record, to the same partition."""
    return Record(
        message.topic() or "", message.key() or b"", message.value(), headers_of(message), message.partition() or 0
    )


def written_at(message: Message) -> int:
    """In milliseconds since 1970."""
    return message.timestamp()[1]


def identity_of(event: Told) -> bytes:
    """Its `ce_id`."""
    identity = b"%s/%d" % (event.order, event.trekkversjon)
    return identity if event.correction is None else b"%s/%d" % (identity, event.correction)
