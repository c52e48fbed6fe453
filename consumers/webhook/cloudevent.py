"""An event as a CloudEvent 1.0 in structured JSON mode. Pure.

The body contains the national id, because payroll needs it; the headers and the message id never do.
Source: https://github.com/cloudevents/spec, "JSON Event Format", v1.0.2.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from trekkpaalegg.event import TrekkpaaleggVersjon

CONTENT_TYPE = "application/cloudevents+json"

_ORDER_LENGTH_MAX = 200
_PREFIX = "ce_"
_SPECVERSION = "1.0"
_REQUIRED = ("id", "source", "type", "specversion")
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
# The first two are set here; the others describe the Avro value.
_NOT_ATTRIBUTES = frozenset({"data", "datacontenttype", "dataschema", "schemafingerprint"})
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class EventMessage(msgspec.Struct, frozen=True):
    """One Kafka message. Messages of the same `order` (trekkid) are delivered one after the other."""

    coordinates: Coordinates
    order: str
    value: bytes | None
    headers: dict[str, str]


def event_message(message: KafkaMessage) -> EventMessage:
    """The parts of a Kafka message that are stored until it is delivered."""
    place = Coordinates(message.topic() or "", message.partition() or 0, message.offset() or 0)
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    headers = {name: value.decode(errors="replace") for name, value in pairs if isinstance(value, bytes)}
    key = message.key()
    return EventMessage(place, order_of(key.encode() if isinstance(key, str) else key, place), message.value(), headers)


def order_of(key: bytes | None, place: Coordinates) -> str:
    """The trekkid from a message's key, or a hash of a very long key. Without a readable key: an order of its own."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\x00" in text:
        return f"@{place.topic}/{place.partition}/{place.offset}"
    return text if len(text) <= _ORDER_LENGTH_MAX else f"#{hashlib.sha256(text.encode()).hexdigest()}"


class WebhookRequest(msgspec.Struct, frozen=True):
    """The body to send. `webhook_id` identifies the event: equal at every attempt, and valid in an HTTP header."""

    webhook_id: str
    body: bytes


def request_for(event: TrekkpaaleggVersjon, headers: Mapping[str, str]) -> WebhookRequest:
    """The request that delivers an event. Headers that begin with `ce_` become the CloudEvent's attributes.

    Raises `UndecodableError` if the headers are not those of a CloudEvent, or if they name another order than the
    value does.
    """
    attributes = {
        name.removeprefix(_PREFIX): text
        for name, text in headers.items()
        if name.startswith(_PREFIX) and _ATTRIBUTE.fullmatch(name.removeprefix(_PREFIX))
    }
    missing = [f"{_PREFIX}{name}" for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise UndecodableError(f"headers are missing: {', '.join(missing)}")
    if attributes["specversion"] != _SPECVERSION:
        raise UndecodableError(f"the header ce_specversion is not {_SPECVERSION}")
    if attributes.get("subject", event.trekkid) != event.trekkid:
        raise UndecodableError("the header ce_subject names another order than the value")
    document: dict[str, Any] = {name: text for name, text in attributes.items() if name not in _NOT_ATTRIBUTES}
    document["subject"] = event.trekkid
    document["datacontenttype"] = "application/json"
    document["time"] = _rfc3339(_moment(attributes["time"]) if "time" in attributes else event.opprettet)
    document["data"] = data_of(event)
    return WebhookRequest(quote(attributes["id"], safe=_VISIBLE), json.dumps(document).encode())


def data_of(event: TrekkpaaleggVersjon) -> dict[str, Any]:
    """The event by the schema's field names. Decimals and dates are text, so that no reader makes floats of money."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(event, skyldner=""))
    plain["skyldner"] = event.skyldner.reveal()
    plain["opprettet"] = _rfc3339(event.opprettet)
    return plain


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UndecodableError("the header ce_time is not a timestamp") from None
    if moment.tzinfo is None:
        raise UndecodableError("the header ce_time has no time zone")
    return moment


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
