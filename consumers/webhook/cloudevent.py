"""A message and its event as a CloudEvent 1.0 in structured JSON mode. Pure.

The body holds the national id, since payroll needs it. Nothing else that is made here does.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from trekkpaalegg.event import TrekkpaaleggVersjon


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


CONTENT_TYPE = JSONFormat.CONTENT_TYPE
_PREFIX = "ce_"
_REQUIRED = ("id", "source", "type", "specversion")
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
# What the body says of itself here, and what tells of Avro.
_NOT_ATTRIBUTES = frozenset({"data", "datacontenttype", "dataschema", "schemafingerprint"})
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class Parcel(msgspec.Struct, frozen=True):
    """What is sent: `webhook_id` names the event, is the same at every attempt, and fits into an HTTP header."""

    webhook_id: str
    body: bytes


def parcel_of(event: TrekkpaaleggVersjon, headers: Mapping[str, str]) -> Parcel:
    """The event as it is sent. Its attributes are the headers that begin with `ce_`, all of them text but `time`.

    Raises `UndecodableError` when the headers are no CloudEvent's, or name another order than the value.
    """
    attributes: dict[str, Any] = {
        name.removeprefix(_PREFIX): text
        for name, text in headers.items()
        if name.startswith(_PREFIX) and _ATTRIBUTE.fullmatch(name.removeprefix(_PREFIX))
    }
    missing = [f"{_PREFIX}{name}" for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise UndecodableError(f"headers are missing: {', '.join(missing)}")
    attributes = {name: value for name, value in attributes.items() if name not in _NOT_ATTRIBUTES}
    if attributes.get("subject", event.trekkid) != event.trekkid:
        raise UndecodableError("the header ce_subject names another order than the value")
    attributes["subject"] = event.trekkid
    attributes["datacontenttype"] = JSONFormat.DEFAULT_CONTENT_TYPE
    attributes["time"] = _moment(attributes["time"]) if "time" in attributes else event.opprettet
    try:
        message = to_structured(CloudEvent(attributes, data_of(event)), JSONFormat())
    except CloudEventValidationError as error:
        raise UndecodableError(f"the headers are no CloudEvent's: {', '.join(sorted(error.errors))}") from error
    return Parcel(quote(attributes["id"], safe=_VISIBLE), message.body)


def data_of(event: TrekkpaaleggVersjon) -> dict[str, Any]:
    """The event by the schema's field names. Decimals and dates are text, so that no reader makes floats of money."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(event, skyldner=""))
    plain["skyldner"] = event.skyldner.reveal()
    plain["opprettet"] = event.opprettet.isoformat().replace("+00:00", "Z")
    return plain


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UndecodableError("the header ce_time is no moment") from None
    if moment.tzinfo is None:
        raise UndecodableError("the header ce_time has no time zone")
    return moment
