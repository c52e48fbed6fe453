"""A lane's state as Avro bytes in single-object encoding, and back.

Single-object encoding is used even with a registry, so that reading the state back does not depend on the registry.
Every schema stands beside the state that is written with it, so that a former release can read what a newer one wrote:
`learn_schema`. It drops fields that it does not know, and takes the defaults of those that the record lacks.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

import schemas
from producer.domain.identity import Identity, TopicIdentity
from producer.domain.requests import OperatorRequest, RequestResult, RequestState
from producer.domain.state import (
    EventCursor,
    Failing,
    HandedOver,
    Missing,
    ObservationOffsets,
    OrderState,
    TrekkpliktigPosition,
)
from producer.encode.avro import SINGLE_OBJECT_MARKER, encode_long, single_object_prefix
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastavro.types import Schema

STATE_SCHEMAS = (
    "trekkpliktig_state",
    "order_state",
    "handed_over",
    "observation_offsets",
    "request_state",
    "known_orders",
    "event_cursor",
    "lane_count",
)
"""The names of all schemas of state."""

_learnt: dict[bytes, schemas.Schema] = {}
"""By prefix. A fingerprint stands for one schema, whichever topic it was read from."""

_NO_OPEN_ENDS = bytes(7)
"""Empty arrays and numbers that are 0, and the first branch of a union, null."""

_NEWEST = struct.Struct("<10sBB8sB")
"""Prefix, version, number of bytes, content hash and its method, where each number takes one byte."""

_EIGHT_BYTES = 8 << 1
_ONE_BYTE_MAX = 63
_MORE_BYTES_OR_NEGATIVE = 0x81
"""Bits of the first byte of a number."""

_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES


def encode_order_state(order: OrderState) -> bytes:
    """One order's state as single-object encoded `order_state`.

    Nearly all orders have no open ends, and a back-fill writes a million of them: these are assembled here. Tests check
    that the bytes equal fastavro's.
    """
    if (
        order.tried_at is None
        and not order.seen
        and not (order.missing or order.rejected or order.corrections or order.failing or order.readers)
    ):
        return _encode_newest(_prefix("order_state"), order) + _NO_OPEN_ENDS
    datum = msgspec.structs.asdict(order)
    datum["missing"] = [msgspec.structs.asdict(each) for each in order.missing]
    datum["failing"] = [msgspec.structs.asdict(each) for each in order.failing]
    datum["corrections"] = [
        {"trekkversjon": trekkversjon, "corrections": corrections} for trekkversjon, corrections in order.corrections
    ]
    return _encode("order_state", datum)


def decode_order_state(value: bytes) -> OrderState:
    """The inverse of `encode_order_state`. Raises `FatalError` for bytes that are not such a record.

    A record of the former layout (version 1) is of an order as one trekkpliktig's list showed it: see
    `decode_handed_over`.
    """
    if value[_NEWEST.size :] == _NO_OPEN_ENDS:
        newest = _decode_newest(_prefix("order_state"), value)
        if newest is not None:
            return OrderState(*newest)
    datum = _decode("order_state", value)
    datum["missing"] = tuple([Missing(**each) for each in datum["missing"]])
    datum["failing"] = tuple([Failing(**each) for each in datum["failing"]])
    datum["rejected"] = tuple(datum["rejected"])
    datum["readers"] = tuple(datum["readers"])
    datum["corrections"] = tuple([(each["trekkversjon"], each["corrections"]) for each in datum["corrections"]])
    return OrderState(**datum)


def encode_handed_over(handed_over: HandedOver) -> bytes:
    """What was last handed over of one order as single-object encoded `handed_over`; assembled as an order's state."""
    return _encode_newest(_prefix("handed_over"), handed_over)


def decode_handed_over(value: bytes) -> HandedOver:
    """The inverse of `encode_handed_over`. Raises `FatalError` for bytes that are not such a record.

    An `order_state` of the former layout (version 1) is what was published of an order that the list showed, and is
    read as what was handed over.
    """
    if len(value) == _NEWEST.size:
        newest = _decode_newest(_prefix("handed_over"), value)
        if newest is not None:
            return HandedOver(*newest)
    datum = _decode("order_state" if value[:_PREFIX_BYTES] == _former_order_prefix() else "handed_over", value)
    return HandedOver(datum["trekkversjon"], datum["content_hash"], datum["content_hash_version"])


def decode_former_order(value: bytes) -> OrderState | None:
    """What the former layout (version 1) recorded of an order in one list; None for a record of the present layout.

    Raises `FatalError` for a damaged one.
    """
    return decode_order_state(value) if value.startswith(_former_order_prefix()) else None


def _encode_newest(prefix: bytes, newest: OrderState | HandedOver) -> bytes:
    """The fields that both schemas begin with."""
    trekkversjon, content_hash, method = newest.trekkversjon, newest.content_hash, newest.content_hash_version
    if 0 <= trekkversjon <= _ONE_BYTE_MAX >= method >= 0 and len(content_hash) << 1 == _EIGHT_BYTES:
        return _NEWEST.pack(prefix, trekkversjon << 1, _EIGHT_BYTES, content_hash, method << 1)
    return b"".join(
        (prefix, encode_long(trekkversjon), encode_long(len(content_hash)), content_hash, encode_long(method))
    )


def _decode_newest(prefix: bytes, value: bytes) -> tuple[int, bytes, int] | None:
    """Version, content hash and its method; None if a number takes more than one byte, or the prefix is another."""
    found, trekkversjon, hash_bytes, content_hash, method = _NEWEST.unpack_from(value)
    if found != prefix or hash_bytes != _EIGHT_BYTES or (trekkversjon | method) & _MORE_BYTES_OR_NEGATIVE:
        return None
    return trekkversjon >> 1, content_hash, method >> 1


@cache
def _former_order_prefix() -> bytes:
    return single_object_prefix(schemas.versions("order_state")[0].fingerprint)


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
        requests=tuple([_request_of(each) for each in datum["wishes"]]),
        shown_at=datum["shown_at"],
        unidentified=datum["unidentified"],
        unidentified_since=datum["unidentified_since"],
    )


def decode_results(value: bytes) -> list[RequestResult]:
    """The results in a record of `trekkpliktig_state`. Raises `FatalError` for other bytes."""
    return _results_of(_decode("trekkpliktig_state", value))


def _datum_of(result: RequestResult) -> dict[str, Any]:
    datum = msgspec.structs.asdict(result)
    datum["wish"] = msgspec.structs.asdict(datum.pop("request"))
    return datum


def _results_of(datum: dict[str, Any]) -> list[RequestResult]:
    return [RequestResult(_request_of(each.pop("wish")), **each) for each in datum["answers"]]


def _request_of(datum: dict[str, Any]) -> OperatorRequest:
    return OperatorRequest(**{**datum, "answered": tuple(datum["answered"])})


def encode_event_cursor(cursor: EventCursor) -> bytes:
    """One trekkpliktig's cursor in Altinn's events as single-object encoded `event_cursor`."""
    return _encode("event_cursor", msgspec.structs.asdict(cursor))


def decode_event_cursor(value: bytes) -> EventCursor:
    """The inverse of `encode_event_cursor`. Raises `FatalError` for other bytes."""
    return EventCursor(**_decode("event_cursor", value))


def encode_observation_offsets(offsets: ObservationOffsets, show_since: int | None) -> bytes:
    """How far a home has decided on observations as single-object encoded `observation_offsets`.

    With `show_since`, in microseconds since 1970, lists that were not handed over completely since then are due.
    """
    return _encode("observation_offsets", {**msgspec.structs.asdict(offsets), "show_since": show_since})


def decode_observation_offsets(value: bytes) -> tuple[ObservationOffsets, int | None]:
    """The inverse of `encode_observation_offsets`. Raises `FatalError` for other bytes."""
    datum = _decode("observation_offsets", value)
    show_since: int | None = datum.pop("show_since")
    return ObservationOffsets(**datum), show_since


def encode_known_orders(keys: Iterable[bytes]) -> bytes:
    """Orders of which nothing was recorded as handed over yet, as single-object encoded `known_orders`."""
    return _encode("known_orders", {"orders": list(keys)})


def decode_known_orders(value: bytes) -> list[bytes]:
    """The inverse of `encode_known_orders`. Raises `FatalError` for other bytes."""
    orders: list[bytes] = _decode("known_orders", value)["orders"]
    return orders


def encode_request_state(request: RequestState) -> bytes:
    """What a home has done for an operator request as single-object encoded `request_state`."""
    return _encode("request_state", msgspec.structs.asdict(request))


def decode_request_state(value: bytes) -> RequestState:
    """The inverse of `encode_request_state`. Raises `FatalError` for other bytes."""
    return RequestState(**_decode("request_state", value))


def encode_identity(identity: Identity) -> bytes:
    """Whose topics these are as single-object encoded `lane_count`, which once held the number of lanes alone."""
    datum = msgspec.structs.asdict(identity)
    datum["topics"] = [msgspec.structs.asdict(topic) for topic in identity.topics]
    return _encode("lane_count", datum)


def decode_identity(value: bytes) -> Identity | None:
    """The inverse of `encode_identity`; None for a record of the former layout (version 1), which names nobody.

    Raises `FatalError` for other bytes.
    """
    if value[:_PREFIX_BYTES] == single_object_prefix(schemas.versions("lane_count")[0].fingerprint):
        return None
    datum = _decode("lane_count", value)
    datum["topics"] = tuple([TopicIdentity(**topic) for topic in datum["topics"]])
    return Identity(**datum)


def encode_schemas() -> dict[bytes, bytes]:
    """The JSON of every schema of state as it is written here, by fingerprint."""
    current = map(schemas.load, STATE_SCHEMAS)
    return {schema.fingerprint: schema.canonical_json.encode() for schema in current}


def learn_schema(fingerprint: bytes, value: bytes) -> None:
    """From now on, decode records of this schema too, which another program has written.

    Raises `FatalError` for a value that is no schema with this fingerprint.
    """
    prefix = single_object_prefix(fingerprint)
    with suppress(schemas.UnknownSchemaError):
        schemas.by_fingerprint(fingerprint)
        return
    if prefix in _learnt:
        return
    try:
        schema = schemas.parse(fingerprint.hex(), value.decode())
    except (ValueError, TypeError, KeyError, AttributeError, SchemaParseException) as error:
        raise FatalError(f"the positions topic holds no schema where {fingerprint.hex()} should be") from error
    if schema.fingerprint != fingerprint:
        raise FatalError(f"the positions topic holds another schema where {fingerprint.hex()} should be")
    _learnt[prefix] = schema


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
    except SchemaResolutionError as error:
        raise FatalError(f"the positions topic holds a {name} record whose schema is incompatible with ours") from error


@cache
def _reading_schemas(name: str, prefix: bytes) -> tuple[Schema, Schema | None]:
    current = schemas.load(name)
    if prefix == single_object_prefix(current.fingerprint):
        return _without_logical_types(current), None
    for earlier in schemas.versions(name):
        if prefix == single_object_prefix(earlier.fingerprint):
            return _without_logical_types(earlier), _without_logical_types(current)
    learnt = _learnt.get(prefix)
    if learnt is not None and _record_name(learnt) == _record_name(current):
        return _without_logical_types(learnt), _without_logical_types(current)
    raise FatalError(
        f"the positions topic holds a record that is no {name} of any released schema, nor of one that stands "
        f"beside it (it begins {prefix.hex()}): "
        "was it written by a newer version of this program, or is the topic another application's?"
    )


def _record_name(schema: schemas.Schema) -> str | None:
    parsed = schema.parsed
    return parsed["name"] if isinstance(parsed, dict) and parsed["type"] == "record" else None


def _without_logical_types(schema: schemas.Schema) -> Schema:
    """Times as plain microseconds: the state wants numbers, and datetime objects cost more than all the rest."""

    def drop(declared: dict[str, Any]) -> dict[str, Any]:
        declared.pop("logicalType", None)
        return declared

    return fastavro.parse_schema(json.loads(schema.canonical_json, object_hook=drop))
