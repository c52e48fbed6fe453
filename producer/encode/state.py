"""A lane's state as Avro bytes in single-object encoding, and back.

Single-object encoding is used even with a registry, so that reading the state back does not depend on the registry.
"""

from __future__ import annotations

import json
import struct
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec

import schemas
from producer.domain.requests import OperatorRequest, RequestResult
from producer.domain.state import EventCursor, OrderState, TrekkpliktigPosition
from producer.encode.avro import SINGLE_OBJECT_MARKER, encode_long, single_object_prefix
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastavro.types import Schema

_NO_OPEN_ENDS = b"\x00\x00\x00\x00"
"""Three empty arrays, and the first branch of a union, null."""

_SHORT = struct.Struct("<10sBB8sBI")
_EIGHT_BYTES = 8 << 1
_MORE_BYTES_OR_NEGATIVE = 0x81
"""Bits of the first byte of a number."""

_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES


def encode_order_state(order: OrderState) -> bytes:
    """One order's state as single-object encoded `order_state`.

    Nearly all orders have no open ends, and a back-fill writes a million of them: these are assembled here. Tests check
    that the bytes equal fastavro's.
    """
    if not (order.missing or order.rejected or order.corrections) and order.failing_since is None:
        return b"".join(
            (
                _prefix("order_state"),
                encode_long(order.trekkversjon),
                encode_long(len(order.content_hash)),
                order.content_hash,
                encode_long(order.content_hash_version),
                _NO_OPEN_ENDS,
            )
        )
    return _encode(
        "order_state",
        {
            "trekkversjon": order.trekkversjon,
            "content_hash": order.content_hash,
            "content_hash_version": order.content_hash_version,
            "missing": [{"first": first, "last": last} for first, last in order.missing],
            "rejected": order.rejected,
            "corrections": [
                {"trekkversjon": trekkversjon, "corrections": corrections}
                for trekkversjon, corrections in order.corrections
            ],
            "failing_since": order.failing_since,
        },
    )


def decode_order_state(value: bytes) -> OrderState:
    """The inverse of `encode_order_state`. Raises `FatalError` for bytes that are not such a record.

    An order without open ends whose numbers take one byte each is decoded here, as a lane reads a million of them when
    it starts.
    """
    if len(value) == _SHORT.size:
        prefix, trekkversjon, hash_bytes, content_hash, content_hash_version, open_ends = _SHORT.unpack(value)
        one_byte_each = not (trekkversjon | content_hash_version) & _MORE_BYTES_OR_NEGATIVE
        if prefix == _prefix("order_state") and hash_bytes == _EIGHT_BYTES and one_byte_each and not open_ends:
            return OrderState(trekkversjon >> 1, content_hash, content_hash_version >> 1)
    datum = _decode("order_state", value)
    return OrderState(
        trekkversjon=datum["trekkversjon"],
        content_hash=datum["content_hash"],
        content_hash_version=datum["content_hash_version"],
        missing=tuple([(missing["first"], missing["last"]) for missing in datum["missing"]]),
        rejected=tuple(datum["rejected"]),
        corrections=tuple([(each["trekkversjon"], each["corrections"]) for each in datum["corrections"]]),
        failing_since=datum["failing_since"],
    )


def encode_trekkpliktig_position(position: TrekkpliktigPosition, results: Sequence[RequestResult] = ()) -> bytes:
    """One trekkpliktig's position as single-object encoded `trekkpliktig_state`, with the results in the record."""
    datum = msgspec.structs.asdict(position)
    datum["wishes"] = [msgspec.structs.asdict(request) for request in datum.pop("requests")]
    datum["answers"] = [_datum_of(result) for result in results]
    return _encode("trekkpliktig_state", datum)


def decode_trekkpliktig_position(value: bytes) -> TrekkpliktigPosition:
    """The inverse of `encode_trekkpliktig_position`, without results. Raises `FatalError` for other bytes."""
    return _position_of(_decode("trekkpliktig_state", value))


def decode_position_and_results(value: bytes) -> tuple[TrekkpliktigPosition, list[RequestResult]]:
    """The inverse of `encode_trekkpliktig_position`. Raises `FatalError` for other bytes."""
    datum = _decode("trekkpliktig_state", value)
    return _position_of(datum), _results_of(datum)


def _position_of(datum: dict[str, Any]) -> TrekkpliktigPosition:
    return TrekkpliktigPosition(
        position=datum["position"],
        reconciled_at=datum["reconciled_at"],
        suspended_at=datum["suspended_at"],
        forgotten_by=datum["forgotten_by"],
        requests=tuple([OperatorRequest(**request) for request in datum["wishes"]]),
    )


def decode_results(value: bytes) -> list[RequestResult]:
    """The results in a record of `trekkpliktig_state`. Raises `FatalError` for other bytes."""
    return _results_of(_decode("trekkpliktig_state", value))


def _datum_of(result: RequestResult) -> dict[str, Any]:
    datum = msgspec.structs.asdict(result)
    datum["wish"] = msgspec.structs.asdict(datum.pop("request"))
    return datum


def _results_of(datum: dict[str, Any]) -> list[RequestResult]:
    results = []
    for each in datum["answers"]:
        request = OperatorRequest(**each.pop("wish"))
        results.append(RequestResult(request, **each))
    return results


def encode_event_cursor(cursor: EventCursor) -> bytes:
    """One trekkpliktig's cursor in Altinn's events as single-object encoded `event_cursor`."""
    return _encode("event_cursor", {"after": cursor.after, "newest_at": cursor.newest_at})


def decode_event_cursor(value: bytes) -> EventCursor:
    """The inverse of `encode_event_cursor`. Raises `FatalError` for other bytes."""
    datum = _decode("event_cursor", value)
    return EventCursor(after=datum["after"], newest_at=datum["newest_at"])


def encode_lane_count(lanes: int) -> bytes:
    """The number of lanes as single-object encoded `lane_count`."""
    return _encode("lane_count", {"lanes": lanes})


def decode_lane_count(value: bytes) -> int:
    """The inverse of `encode_lane_count`. Raises `FatalError` for other bytes."""
    lanes: int = _decode("lane_count", value)["lanes"]
    return lanes


def _encode(name: str, datum: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    buffer.write(_prefix(name))
    fastavro.schemaless_writer(buffer, schemas.load(name).parsed, datum)
    return buffer.getvalue()


@cache
def _prefix(name: str) -> bytes:
    return single_object_prefix(schemas.load(name).fingerprint)


def _decode(name: str, value: bytes) -> dict[str, Any]:
    writer, reader = _reading_schemas(name, value[:_PREFIX_BYTES])
    try:
        return fastavro.schemaless_reader(BytesIO(value[_PREFIX_BYTES:]), writer, reader)  # type: ignore[return-value] # every state schema is a record
    except (EOFError, ValueError, IndexError) as error:
        raise FatalError(f"a {name} record in the positions topic is cut off or damaged") from error


@cache
def _reading_schemas(name: str, prefix: bytes) -> tuple[Schema, Schema | None]:
    current = schemas.load(name)
    if prefix == single_object_prefix(current.fingerprint):
        return _without_logical_types(current), None
    for earlier in schemas.versions(name):
        if prefix == single_object_prefix(earlier.fingerprint):
            return _without_logical_types(earlier), _without_logical_types(current)
    raise FatalError(
        f"the positions topic holds a record that is no {name} of any released schema (it begins {prefix.hex()}): "
        "was it written by a newer version of this program, or is the topic another application's?"
    )


def _without_logical_types(schema: schemas.Schema) -> Schema:
    """Times as plain microseconds: the state wants numbers, and datetime objects cost more than all the rest."""

    def drop(declared: dict[str, Any]) -> dict[str, Any]:
        declared.pop("logicalType", None)
        return declared

    return fastavro.parse_schema(json.loads(schema.canonical_json, object_hook=drop))
