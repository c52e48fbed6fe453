"""The encoder in use: in comes a parsed Avro schema, out comes a function from one order version to its Avro bytes.

The schema is walked once, when it is loaded. Each type in it becomes a small function from a value to bytes, and a
record becomes "read these attributes, give each to its function, join what comes back". Attribute names of the domain's
Structs equal the schema's field names, so no dictionary is built in between. fastavro stays the reference: what this
writes is tested to equal it for every schema ever released.

A value that the schema cannot hold makes its small function raise; only then is the record walked again, field by
field, to name the path of the fault.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from operator import attrgetter, call
from typing import TYPE_CHECKING, Any

from producer.domain.trekkpaalegg import RejectionReason
from producer.encode.avro import decimal_bytes
from producer.errors import RejectedTrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from decimal import Decimal
    from enum import Enum

    from schemas import Schema

    Encode = Callable[[Any], bytes]
    Declared = str | list[Any] | dict[str, Any]

CACHED_VALUES_MAX = 4096
"""How many values of each date and decimal field keep their bytes; a few hundred are in use at a time."""

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_UNSIGNED_END = 2**64
_SEVEN_BITS, _MORE_FOLLOWS = 0x7F, 0x80
_NONE, _SOME = b"\x00", b"\x02"
_END_OF_BLOCKS = b"\x00"
# TypeError: a signalling NaN has no hash, so the cache refuses it before the encoder sees it.
_CANNOT_HOLD = (ValueError, ArithmeticError, TypeError)


def compile_encoder(schema: Schema, prefix: bytes) -> Encode:
    """A function from one order version to prefix and Avro bytes.

    The function raises `RejectedTrekkpaaleggError` with the field's path for a number beyond 64 bits, a decimal beyond
    precision or scale, and text that is not UTF-8.
    """
    encode = _compile(schema.parsed)
    return lambda trekkpaalegg: prefix + encode(trekkpaalegg)


def _compile(declared: Declared) -> Encode:
    if isinstance(declared, list):
        return _union(declared)
    if isinstance(declared, str):
        return _PRIMITIVE[declared]
    kind = str(declared.get("logicalType", declared["type"]))
    return _DECLARED[kind](declared) if kind in _DECLARED else _compile(declared["type"])


def encode_long(value: int) -> bytes:
    """Avro's zigzag variable-length number. Raises OverflowError beyond 64 bits."""
    unsigned = value << 1 if value >= 0 else ~(value << 1)
    if unsigned >= _UNSIGNED_END:
        raise OverflowError
    groups = bytearray()
    while unsigned > _SEVEN_BITS:
        groups.append(unsigned & _SEVEN_BITS | _MORE_FOLLOWS)
        unsigned >>= 7
    groups.append(unsigned)
    return bytes(groups)


_SHORT_LENGTHS = [encode_long(length) for length in range(1024)]


def _length(count: int) -> bytes:
    return _SHORT_LENGTHS[count] if count < len(_SHORT_LENGTHS) else encode_long(count)


def _string(value: str) -> bytes:
    # Foedselsnummer gives its digits by encode(), and stars by str() or in an f-string.
    text = value.encode()
    return _length(len(text)) + text


def encode_bytes(value: bytes) -> bytes:
    """Length and content."""
    return _length(len(value)) + value


def _date(_: dict[str, Any]) -> Encode:
    def encode_date(value: date) -> bytes:
        return encode_long(value.toordinal() - _EPOCH_ORDINAL)

    return lru_cache(CACHED_VALUES_MAX)(encode_date)


def _decimal(declared: dict[str, Any]) -> Encode:
    precision, scale = declared["precision"], declared.get("scale", 0)

    def encode_decimal(value: Decimal) -> bytes:
        return encode_bytes(decimal_bytes(value, precision, scale))

    return lru_cache(CACHED_VALUES_MAX)(encode_decimal)


def _enum(declared: dict[str, Any]) -> Encode:
    by_symbol = {symbol: encode_long(place) for place, symbol in enumerate(declared["symbols"])}

    def encode_enum(value: Enum) -> bytes:
        return by_symbol[value.value]

    return encode_enum


def _union(branches: list[Any]) -> Encode:
    if len(branches) != 2 or branches[0] != "null":  # noqa: PLR2004 - null and one type: the only unions in use
        raise NotImplementedError("only unions of null and one other type are compiled")
    encode = _compile(branches[1])

    def encode_optional(value: object) -> bytes:
        return _NONE if value is None else _SOME + encode(value)

    return encode_optional


def _array(declared: dict[str, Any]) -> Encode:
    encode_item = _compile(declared["items"])

    def encode_array(items: tuple[Any, ...]) -> bytes:
        if not items:
            return _END_OF_BLOCKS
        try:
            return b"".join((_length(len(items)), *map(encode_item, items), _END_OF_BLOCKS))
        except (RejectedTrekkpaaleggError, *_CANNOT_HOLD):
            raise _fault((f"[{place}]", encode_item, item) for place, item in enumerate(items)) from None

    return encode_array


def _map(declared: dict[str, Any]) -> Encode:
    encode_item = _compile(declared["values"])

    def encode_map(items: dict[str, Any]) -> bytes:
        if not items:
            return _END_OF_BLOCKS
        pairs = (part for name, item in items.items() for part in (_string(name), encode_item(item)))
        return b"".join((_length(len(items)), *pairs, _END_OF_BLOCKS))

    return encode_map


def _record(declared: dict[str, Any]) -> Encode:
    fields = declared["fields"]
    names = [field["name"] for field in fields]
    encoders = [_compile(field["type"]) for field in fields]
    read_attributes = attrgetter(*names)

    def encode_record(value: object) -> bytes:
        attributes = read_attributes(value)
        try:
            return b"".join(map(call, encoders, attributes))
        except (RejectedTrekkpaaleggError, *_CANNOT_HOLD):
            raise _fault(zip(map(_wire_name, names), encoders, attributes, strict=True)) from None

    return encode_record


def _fault(parts: Iterable[tuple[str, Encode, Any]]) -> RejectedTrekkpaaleggError:
    """The first part that cannot be encoded, by its path. Holds no value, nor an error that does."""
    for step, encode, value in parts:
        try:
            encode(value)
        except RejectedTrekkpaaleggError as fault:
            deeper = fault.field_path
            return RejectedTrekkpaaleggError(fault.reason, step + ("" if deeper.startswith("[") else ".") + deeper)
        except _CANNOT_HOLD:
            return RejectedTrekkpaaleggError(RejectionReason.OUT_OF_RANGE.value, step)
    raise AssertionError("encoding failed, and then no part of it did")


def _wire_name(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


_PRIMITIVE: dict[str, Encode] = {"string": _string, "long": encode_long, "int": encode_long, "bytes": encode_bytes}
_DECLARED: dict[str, Callable[[dict[str, Any]], Encode]] = {
    "record": _record,
    "array": _array,
    "map": _map,
    "enum": _enum,
    "decimal": _decimal,
    "date": _date,
}
