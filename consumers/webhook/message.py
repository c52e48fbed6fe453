"""One message as the Kafka client gives it in, the message as it is kept out. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from consumers.incoming import Coordinates

if TYPE_CHECKING:
    from confluent_kafka import Message as KafkaMessage

_ORDER_LENGTH_MAX = 200


class Message(msgspec.Struct, frozen=True):
    """One message as it was read; `order` is whom it stands in line with: the trekkid."""

    coordinates: Coordinates
    order: str
    value: bytes | None
    headers: dict[str, str]


def message_of(message: KafkaMessage) -> Message:
    """The message as it is kept."""
    place = Coordinates(message.topic() or "", message.partition() or 0, message.offset() or 0)
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    headers = {name: value.decode(errors="replace") for name, value in pairs if isinstance(value, bytes)}
    key = message.key()
    return Message(place, order_of(key.encode() if isinstance(key, str) else key, place), message.value(), headers)


def order_of(key: bytes | None, place: Coordinates) -> str:
    """The trekkid, by the message's key; a very long one by its hash. Without a readable key it stands alone."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\x00" in text:
        return f"@{place.topic}/{place.partition}/{place.offset}"
    return text if len(text) <= _ORDER_LENGTH_MAX else f"#{hashlib.sha256(text.encode()).hexdigest()}"
