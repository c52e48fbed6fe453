"""From the bytes of a message's value, in either wire format, to the record or the typed event that they hold.

Each value is read with the schema that it was written with, and given in the form of the current one.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import fastavro

import schemas
from consumers.compiled import compile_decoder
from consumers.errors import FatalError, UndecodableError
from consumers.event import TrekkpaaleggVersjon, trekkpaalegg_versjon_from

if TYPE_CHECKING:
    from collections.abc import Callable

CONFLUENT_MARKER = b"\x00"
CONFLUENT_PREFIX_BYTES = 5
SINGLE_OBJECT_MARKER = b"\xc3\x01"
_EVENT = "trekkpaalegg_versjon"
SINGLE_OBJECT_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES


class SchemaSource(Protocol):
    """Where the schema behind a Confluent id is had from."""

    def fetch_schema(self, schema_id: int) -> str:
        """The schema's JSON text. Raises `UndecodableError` when there is no such id."""


class _Reading(NamedTuple):
    """Which schema to read with, and which form to give (None: the same)."""

    written: schemas.Schema
    wanted: schemas.Schema | None
    read_event: Callable[[bytes, int], TrekkpaaleggVersjon] | None = None
    """The quick way to an event; None for other records, and for events of another schema than the current one."""


class Decoder:
    """Decodes values. Remembers each schema that it has met; `schema_source` is asked for Confluent ids only."""

    def __init__(self, schema_source: SchemaSource | None = None) -> None:
        self._schema_source = schema_source
        self._by_id: dict[int, _Reading] = {}

    def decode_trekkpaalegg_versjon(self, value: bytes | None) -> TrekkpaaleggVersjon:
        """The event. Raises as `decode_record`, and `UndecodableError` for a record of another kind."""
        reading, begin = self._reading(value)
        if reading.read_event is not None and value is not None:
            # What it does not read fastavro reads, or tells what is wrong with it.
            try:
                return reading.read_event(value, begin)
            except Exception:  # noqa: BLE001, S110 - see above; foreign bytes make it raise many kinds
                pass
        name, datum = self.decode_record(value)
        if name != _EVENT:
            raise UndecodableError(f"the value is a {name}, no {_EVENT}")
        return trekkpaalegg_versjon_from(datum)

    def decode_record(self, value: bytes | None) -> tuple[str, dict[str, Any]]:
        """Name of the schema and the record in its current form: Decimal, date and datetime (UTC) where they belong.

        Raises `UndecodableError` for bytes that hold no such record, `FatalError` for a Confluent id without a
        registry to ask, and whatever the schema source raises.
        """
        reading, begin = self._reading(value)
        return _read(reading, (value or b"")[begin:])

    def _reading(self, value: bytes | None) -> tuple[_Reading, int]:
        """How to read the value, and where in it the record begins."""
        if value is None:
            raise UndecodableError("the message has no value")
        if value.startswith(SINGLE_OBJECT_MARKER) and len(value) >= SINGLE_OBJECT_PREFIX_BYTES:
            fingerprint = value[len(SINGLE_OBJECT_MARKER) : SINGLE_OBJECT_PREFIX_BYTES]
            return _reading_by_fingerprint(fingerprint), SINGLE_OBJECT_PREFIX_BYTES
        if value.startswith(CONFLUENT_MARKER) and len(value) >= CONFLUENT_PREFIX_BYTES:
            schema_id = int.from_bytes(value[len(CONFLUENT_MARKER) : CONFLUENT_PREFIX_BYTES], "big")
            return self._reading_by_id(schema_id), CONFLUENT_PREFIX_BYTES
        raise UndecodableError(f"the value is in neither wire format: it begins with {value[:2].hex() or 'nothing'}")

    def _reading_by_id(self, schema_id: int) -> _Reading:
        reading = self._by_id.get(schema_id)
        if reading is None:
            if self._schema_source is None:
                raise FatalError(
                    f"the value was written with the registry's schema {schema_id}, and no registry is set: "
                    "set KAFKA_SCHEMA_REGISTRY to the one that the producer uses"
                )
            reading = _reading_of_text(schema_id, self._schema_source.fetch_schema(schema_id))
            self._by_id[schema_id] = reading
        return reading


@cache
def _reading_by_fingerprint(fingerprint: bytes) -> _Reading:
    try:
        written = schemas.by_fingerprint(fingerprint)
    except schemas.UnknownSchemaError as error:
        raise UndecodableError(
            f"{error}: it was written by a newer version than this, or by another application"
        ) from error
    return _reading(written)


def _reading_of_text(schema_id: int, text: str) -> _Reading:
    try:
        full_name = schemas.parse("", text).parsed["name"]
        name = next(name for name in schemas.NAMES if schemas.load(name).parsed["name"] == full_name)
    except Exception as error:  # fastavro raises many kinds for what is no Avro schema
        raise UndecodableError(f"the registry's schema {schema_id} is none of this stream's") from error
    return _reading(schemas.parse(name, text))


def _reading(written: schemas.Schema) -> _Reading:
    current = schemas.load(written.name)
    if written.fingerprint != current.fingerprint:
        return _Reading(written, current)
    if written.name != _EVENT:
        return _Reading(written, None)
    try:
        # Of the schema that it was written with: the fingerprint does not see precision and scale.
        return _Reading(written, None, compile_decoder(written.parsed, TrekkpaaleggVersjon))
    except NotImplementedError:
        return _Reading(written, None)


def _read(reading: _Reading, body: bytes) -> tuple[str, dict[str, Any]]:
    buffer = BytesIO(body)
    wanted = reading.wanted.parsed if reading.wanted else None
    try:
        datum = fastavro.schemaless_reader(buffer, reading.written.parsed, wanted)
    except Exception as error:  # noqa: BLE001 - foreign bytes make fastavro raise many kinds, and all mean the same
        # Not chained: fastavro's error may hold a part of the value.
        raise UndecodableError(
            f"the bytes are no {reading.written.name} ({type(error).__name__}): cut off, or damaged"
        ) from None
    if buffer.tell() != len(body):
        raise UndecodableError(f"{len(body) - buffer.tell()} bytes follow the {reading.written.name}")
    return reading.written.name, datum  # type: ignore[return-value] # every schema of ours is a record
