"""Decoding Kafka messages for the checks, independently of the consumers' decoder, which is itself being checked.

Plain values are without logical types: microseconds, days and unscaled bytes. They take half the time to decode, and
are converted only where they are compared with values that are not Avro.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

import schemas
from consumers.verify.findings import HEADERS, MASKED, Check, Difference
from consumers.verify.history import TopicMessage, shown
from trekkpaalegg.errors import FatalError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from trekkpaalegg.decode import SchemaSource


CONFLUENT_MARKER = b"\x00"
CONFLUENT_PREFIX_BYTES = 5
SINGLE_OBJECT_MARKER = b"\xc3\x01"
SINGLE_OBJECT_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES
_EVENT = "trekkpaalegg_versjon"
_HEAD = frozenset({"trekkid", "trekkversjon", "sekvensnummer", "trekkpliktig", "skyldner"})


class _ValueSchema(NamedTuple):
    prefix_bytes: int
    head: Any
    """The writer's schema up to the last field of the head; the rest of the value is not decoded."""
    written: Any
    wanted: Any
    """The current schema; None if the value was written with it."""


class PlainValues:
    """Decodes values of the event topics in both wire formats; keeps each schema that it has seen."""

    def __init__(self, schema_source: SchemaSource | None = None) -> None:
        self._schema_source = schema_source
        self._readings: dict[bytes, _ValueSchema] = {}

    def head(self, value: bytes) -> dict[str, Any]:
        """The fields up to the last one that headers repeat, and skyldner.

        Raises as `fields`; damage in the rest of the value is not detected.
        """
        reading = self._reading(value)
        return _read(value, reading.prefix_bytes, reading.head, None)

    def fields(self, value: bytes) -> dict[str, Any]:
        """All fields of the current schema.

        Raises `UndecodableError` for bytes that are not such a record, `FatalError` for a Confluent id if no registry
        is set, and what the schema source raises.
        """
        reading = self._reading(value)
        return _read(value, reading.prefix_bytes, reading.written, reading.wanted)

    def body(self, value: bytes) -> bytes:
        """The bytes after the schema's identifier: equal in both topics, whatever the ids of their subjects."""
        return value[self._reading(value).prefix_bytes :]

    def _reading(self, value: bytes) -> _ValueSchema:
        length = CONFLUENT_PREFIX_BYTES if value[:1] == CONFLUENT_MARKER else SINGLE_OBJECT_PREFIX_BYTES
        prefix = value[:length]
        reading = self._readings.get(prefix)
        if reading is None:
            reading = self._readings[prefix] = self._learn(prefix)
        return reading

    def _learn(self, prefix: bytes) -> _ValueSchema:
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


def _reading_of(text: str, prefix_bytes: int) -> _ValueSchema:
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
    return _ValueSchema(prefix_bytes, head, written, wanted)


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


_MARKS = {None: False, b"false": False, b"true": True}


class EventReader:
    """Decodes the messages of one event topic. A message that cannot be decoded is a difference, not an event."""

    def __init__(self, topic: str, values: PlainValues, *, whole: bool = False) -> None:
        self.topic = topic
        self.check = Check(HEADERS, "events")
        self.fields: dict[str, Any] = {}
        """Plain fields of the last decoded value: all if `whole`, else those of the head."""
        self.national: set[str] = set()
        """Keys, as text, that contain a national id."""
        self._values = values
        self._fields_of = values.fields if whole else values.head

    def read(self, found: KafkaMessage) -> TopicMessage | None:
        """The event, after comparing its headers with its value; None if it cannot be decoded.

        Raises what the schema source raises.
        """
        self.check.examined += 1
        key, value = found.key() or b"", found.value() or b""
        headers = _headers(found)
        try:
            head = self.fields = self._fields_of(value)
            late, correction = _marks(headers)
        except UndecodableError as error:
            self._add(found, key, str(error))
            return None
        version = head["trekkversjon"]
        identity = b"%b/%d" % (key, version) if correction is None else b"%b/%d/%d" % (key, version, correction)
        skyldner = head["skyldner"].encode()
        if (
            headers.get("ce_id") != identity
            or headers.get("ce_sekvensnummer") != b"%d" % head["sekvensnummer"]
            or headers.get("ce_trekkpliktig") != head["trekkpliktig"].encode()
            or headers.get("ce_subject") != key
            or head["trekkid"].encode() != key
        ):
            self._add(found, key, "does not agree with the value", version, _disagreeing(key, headers, head, identity))
        if skyldner in key or skyldner in b"\n".join(headers.values()):
            self._add_national(found, key, headers, skyldner, version)
        digest = hash(self._values.body(value))
        return TopicMessage(key, version, digest, found.partition() or 0, found.offset() or 0, late, correction)

    def read_plainly(self, found: KafkaMessage) -> TopicMessage | None:
        """The event without its headers, in a third of the time; None as for `read`.

        Valid only if its version is the one that follows the newest: late versions and corrections have headers.
        """
        key, value = found.key() or b"", found.value()
        try:
            self.fields = self._fields_of(value or b"")
        except UndecodableError:
            return None
        digest = hash(self._values.body(value or b""))
        return TopicMessage(key, self.fields["trekkversjon"], digest, found.partition() or 0, found.offset() or 0)

    def _add_national(
        self, found: KafkaMessage, key: bytes, headers: Mapping[str, bytes], skyldner: bytes, trekkversjon: int
    ) -> None:
        names = [name for name, each in {"key": key, **headers}.items() if skyldner in each]
        if skyldner in key:
            self.national.add(shown(key))
            key = MASKED.encode()
        self._add(found, key, "holds a national id", trekkversjon, names)

    def _add(
        self,
        found: KafkaMessage,
        key: bytes,
        what: str,
        trekkversjon: int | None = None,
        fields: list[str] | None = None,
    ) -> None:
        place = f"{self.topic}/{found.partition()}/{found.offset()}"
        self.check.add(Difference(what, shown(key), trekkversjon, None, tuple(fields or ()), place))


def marks_of_message(found: KafkaMessage) -> tuple[bool, int | None]:
    """Whether the message is marked late, and its correction number. Raises `UndecodableError` for invalid headers."""
    return _marks(_headers(found))


def _disagreeing(key: bytes, headers: Mapping[str, bytes], head: Mapping[str, Any], identity: bytes) -> list[str]:
    expected = {
        "key": head["trekkid"].encode(),
        "ce_id": identity,
        "ce_sekvensnummer": b"%d" % head["sekvensnummer"],
        "ce_trekkpliktig": head["trekkpliktig"].encode(),
        "ce_subject": key,
    }
    return [name for name, each in expected.items() if {**headers, "key": key}.get(name) != each]


def _headers(found: KafkaMessage) -> dict[str, bytes]:
    headers: dict[str, bytes | None] = dict(found.headers() or ())  # type: ignore[arg-type] # a consumer gives pairs
    if None in headers.values():
        return {name: value or b"" for name, value in headers.items()}
    return headers  # type: ignore[return-value] # none of them is None


def _marks(headers: Mapping[str, bytes]) -> tuple[bool, int | None]:
    if "ce_late" not in headers and "ce_correction" not in headers:
        return False, None
    late, correction = headers.get("ce_late"), headers.get("ce_correction")
    if late not in _MARKS:
        raise UndecodableError("the header ce_late is neither true nor false")
    if correction is None or correction == b"0":
        return _MARKS[late], None
    if not correction.isdigit():
        raise UndecodableError("the header ce_correction is not a number")
    return _MARKS[late], int(correction)
