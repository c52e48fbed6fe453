"""Bytes of a message's value in, its leading fields or all of its fields as plain numbers and text out.

Plain means without logical types: microseconds, days and unscaled bytes, which are had in half the time. Only where a
value is compared with something that is no Avro does it become more. The decoder of the consumers is not used, so that
an error of that is not made twice.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

import schemas
from consumers.errors import FatalError, UndecodableError

if TYPE_CHECKING:
    from consumers.decode import SchemaSource

CONFLUENT_MARKER = b"\x00"
CONFLUENT_PREFIX_BYTES = 5
SINGLE_OBJECT_MARKER = b"\xc3\x01"
SINGLE_OBJECT_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES
_EVENT = "trekkpaalegg_versjon"
_HEAD = frozenset({"trekkid", "trekkversjon", "sekvensnummer", "trekkpliktig", "skyldner"})


class _Reading(NamedTuple):
    prefix_bytes: int
    head: Any
    """The writer's schema up to its last field of the head: what follows is left unread."""
    written: Any
    wanted: Any
    """The current schema, None where it was written with that one."""


class PlainValues:
    """Reads values of the event topics in both wire formats; remembers each schema that it has met."""

    def __init__(self, schema_source: SchemaSource | None = None) -> None:
        self._schema_source = schema_source
        self._readings: dict[bytes, _Reading] = {}

    def head(self, value: bytes) -> dict[str, Any]:
        """The fields from the first to the last of those that headers repeat, and skyldner.

        Raises as `fields`; bytes that are damaged further back are not noticed.
        """
        reading = self._reading(value)
        return _read(value, reading.prefix_bytes, reading.head, None)

    def fields(self, value: bytes) -> dict[str, Any]:
        """All fields of the current schema.

        Raises `UndecodableError` for bytes that hold no such record, `FatalError` for a Confluent id without a
        registry to ask, and whatever the schema source raises.
        """
        reading = self._reading(value)
        return _read(value, reading.prefix_bytes, reading.written, reading.wanted)

    def body(self, value: bytes) -> bytes:
        """The bytes behind what names the schema: both topics hold the same, whatever ids their subjects have."""
        return value[self._reading(value).prefix_bytes :]

    def _reading(self, value: bytes) -> _Reading:
        length = CONFLUENT_PREFIX_BYTES if value[:1] == CONFLUENT_MARKER else SINGLE_OBJECT_PREFIX_BYTES
        prefix = value[:length]
        reading = self._readings.get(prefix)
        if reading is None:
            reading = self._readings[prefix] = self._learn(prefix)
        return reading

    def _learn(self, prefix: bytes) -> _Reading:
        if len(prefix) == CONFLUENT_PREFIX_BYTES and prefix.startswith(CONFLUENT_MARKER):
            text = self._fetch(int.from_bytes(prefix[len(CONFLUENT_MARKER) :], "big"))
        elif len(prefix) == SINGLE_OBJECT_PREFIX_BYTES and prefix.startswith(SINGLE_OBJECT_MARKER):
            try:
                text = schemas.by_fingerprint(prefix[len(SINGLE_OBJECT_MARKER) :]).canonical_json
            except schemas.UnknownSchemaError as error:
                raise UndecodableError(str(error)) from error
        else:
            raise UndecodableError("the value is in neither wire format" if prefix else "the message has no value")
        return _reading_of(text, len(prefix))

    def _fetch(self, schema_id: int) -> str:
        if self._schema_source is None:
            raise FatalError(
                f"values were written with the registry's schema {schema_id}, and no registry is set: "
                "set KAFKA_SCHEMA_REGISTRY to the one that the producer uses"
            )
        return self._schema_source.fetch_schema(schema_id)


def _reading_of(text: str, prefix_bytes: int) -> _Reading:
    current = schemas.load(_EVENT)
    try:
        declared = json.loads(text, object_hook=_without_logical_type)
        if f"{declared['namespace']}.{declared['name']}" != current.parsed["name"]:
            raise UndecodableError("the value holds no trekkpaalegg_versjon")
        names = [field["name"] for field in declared["fields"]]
        length = max(names.index(name) for name in _HEAD) + 1
        head = fastavro.parse_schema({**declared, "fields": declared["fields"][:length]})
        written = fastavro.parse_schema(declared)
    except (ValueError, KeyError, TypeError, fastavro.schema.SchemaParseException) as error:
        raise UndecodableError("its schema is none of this stream's") from error
    wanted = None
    if schemas.parse(_EVENT, text).fingerprint != current.fingerprint:
        wanted = fastavro.parse_schema(json.loads(current.canonical_json, object_hook=_without_logical_type))
    return _Reading(prefix_bytes, head, written, wanted)


def _without_logical_type(declared: dict[str, Any]) -> dict[str, Any]:
    declared.pop("logicalType", None)
    return declared


def _read(value: bytes, prefix_bytes: int, written: Any, wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - fastavro's own
    buffer = BytesIO(value)
    buffer.seek(prefix_bytes)
    try:
        return fastavro.schemaless_reader(buffer, written, wanted)  # type: ignore[return-value] # it is a record
    except Exception as error:  # noqa: BLE001 - foreign bytes make fastavro raise many kinds, and all mean the same
        # Not chained: fastavro's error may hold a part of the value.
        raise UndecodableError(f"the value is cut off or damaged ({type(error).__name__})") from None
