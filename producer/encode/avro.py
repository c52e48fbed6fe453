"""Avro encoders of an order version: a reference encoder on fastavro, and the faster compiled one that is in use.

The compiled encoder walks the schema once, when it is loaded, and generates the Python source of one function for each
record, as dataclasses generate their methods: "join the bytes of these attributes". The attribute names of the domain's
Structs equal the schema's field names, so no dictionary is needed in between. Shortened, the source reads

    join((prefix, lengths[len(_0 := value.trekkid.encode())], _0, number(value.trekkversjon), …, _7(value.…)))

Tests check that both encoders write the same bytes for every schema ever released. A value that the schema cannot hold
makes its part of the expression raise; only then are the parts evaluated one by one, to find the path of the field.
"""

from __future__ import annotations

import struct
from datetime import date
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import fastavro

from producer.domain.trekkpaalegg import RejectionReason
from producer.errors import RejectedTrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producer.domain.trekkpaalegg import Trekkpaalegg, TrekkstoerrelseForPeriode
    from schemas import Schema

    Encode = Callable[[Any], bytes]
    Declared = str | list[Any] | dict[str, Any]

SINGLE_OBJECT_MARKER = b"\xc3\x01"
CONFLUENT_MARKER = b"\x00"
TREKKBELOEP_PRECISION, TREKKBELOEP_SCALE = 14, 2
TREKKPROSENT_PRECISION, TREKKPROSENT_SCALE = 5, 2


def single_object_prefix(fingerprint: bytes) -> bytes:
    """The prefix of a value in Avro's single-object encoding: marker and the schema's fingerprint, 10 bytes."""
    return SINGLE_OBJECT_MARKER + fingerprint


def confluent_prefix(schema_id: int) -> bytes:
    """The prefix of a value in Confluent's wire format: a zero byte and the registry's id of the schema."""
    return CONFLUENT_MARKER + struct.pack(">I", schema_id)


def decimal_bytes(value: Decimal, precision: int, scale: int) -> bytes:
    """The unscaled number in two's complement, big-endian, as Avro writes a decimal.

    Raises ValueError or ArithmeticError for what precision and scale cannot hold exactly; trailing zeros do not count.
    """
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    unscaled = int(value.quantize(Decimal((0, (1,), -scale)), context=exact).scaleb(scale, context=exact))
    return unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big", signed=True)


def reference_encoder(schema: Schema, prefix: bytes) -> Callable[[Trekkpaalegg], bytes]:
    """A function that encodes an order version as prefix and Avro bytes.

    It raises what fastavro raises for a value that the schema cannot hold.
    """

    def encode_value(trekkpaalegg: Trekkpaalegg) -> bytes:
        buffer = BytesIO()
        buffer.write(prefix)
        fastavro.schemaless_writer(buffer, schema.parsed, _datum(trekkpaalegg))
        return buffer.getvalue()

    return encode_value


def _datum(trekkpaalegg: Trekkpaalegg) -> dict[str, Any]:
    betalingsinformasjon = trekkpaalegg.betalingsinformasjon
    return {
        "trekkid": trekkpaalegg.trekkid,
        "trekkversjon": trekkpaalegg.trekkversjon,
        "sekvensnummer": trekkpaalegg.sekvensnummer,
        "opprettet": trekkpaalegg.opprettet,
        "saksnummer": trekkpaalegg.saksnummer,
        "trekkpliktig": trekkpaalegg.trekkpliktig,
        "skyldner": trekkpaalegg.skyldner.reveal(),
        "trekkstatus": trekkpaalegg.trekkstatus.value,
        "trekkstoerrelse_for_periode": [_periode(periode) for periode in trekkpaalegg.trekkstoerrelse_for_periode],
        "betalingsinformasjon": {
            "betalingsmottaker": betalingsinformasjon.betalingsmottaker,
            "kidnummer": betalingsinformasjon.kidnummer,
            "kontonummer": betalingsinformasjon.kontonummer,
            "ukjente_felter": betalingsinformasjon.ukjente_felter,
        },
        "ukjente_felter": trekkpaalegg.ukjente_felter,
    }


def _periode(periode: TrekkstoerrelseForPeriode) -> dict[str, Any]:
    beloep, prosent = periode.trekkbeloep, periode.trekkprosent
    return {
        "startdato": periode.startdato,
        "sluttdato": periode.sluttdato,
        "trekkbeloep": None if beloep is None else decimal_bytes(beloep, TREKKBELOEP_PRECISION, TREKKBELOEP_SCALE),
        "trekkprosent": None if prosent is None else decimal_bytes(prosent, TREKKPROSENT_PRECISION, TREKKPROSENT_SCALE),
        "ukjente_felter": periode.ukjente_felter,
    }


CACHED_VALUES_MAX = 4096
"""How many encoded values of each date and decimal field are cached; a few hundred are in use at a time."""

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_UNSIGNED_END = 2**64
_NONE, _SOME = b"\x00", b"\x02"
_END_OF_BLOCKS = b"\x00"
# TypeError: a signalling NaN has no hash, so the cache refuses it before the encoder is called.
_CANNOT_HOLD = (RejectedTrekkpaaleggError, ValueError, ArithmeticError, TypeError)
_RECORD = """
def encode_record(value):
    try:
        return join(({parts},))
    except cannot_hold:
        raise fault_in(value) from None
"""


def compile_encoder(schema: Schema, prefix: bytes) -> Encode:
    """A function that encodes an order version as prefix and Avro bytes.

    The function raises `RejectedTrekkpaaleggError` with the field's path for a number beyond 64 bits, a decimal beyond
    precision or scale, and text that is not UTF-8.
    """
    return _EncoderCompiler().record(schema.parsed, prefix)


def encode_long(value: int) -> bytes:
    """Avro's zigzag encoding of a number, of variable length. Raises OverflowError beyond 64 bits."""
    unsigned = value << 1 if value >= 0 else ~(value << 1)
    if unsigned >= _UNSIGNED_END:
        raise OverflowError
    groups = b""
    while unsigned > _TWO_GROUPS:
        groups += _TWO_THAT_GO_ON[unsigned & _TWO_GROUPS]
        unsigned >>= 14
    return groups + _LAST[unsigned]


_MORE_FOLLOWS = 0x80
_TWO_GROUPS = 0x3FFF
"""Seven bits make a group, which takes a byte; two groups are looked up at a time."""

_TWO_THAT_GO_ON = [bytes((bits & 0x7F | _MORE_FOLLOWS, bits >> 7 | _MORE_FOLLOWS)) for bits in range(_TWO_GROUPS + 1)]
_LAST = [
    bytes((bits,)) if bits < _MORE_FOLLOWS else bytes((bits & 0x7F | _MORE_FOLLOWS, bits >> 7))
    for bits in range(_TWO_GROUPS + 1)
]


class _Numbers(dict[int, bytes]):
    """Encoded numbers: small ones precomputed, others computed when needed."""

    def __missing__(self, value: int) -> bytes:
        return encode_long(value)


_NUMBERS = _Numbers({number: encode_long(number) for number in range(1024)})


class _EncoderCompiler:
    """Generates the source for a type: one or more expressions, to be joined, for the bytes of a value.

    The value is itself given as source. `_named` holds the names that the source refers to.
    """

    def __init__(self) -> None:
        self._named: dict[str, Any] = {
            "join": b"".join,
            "lengths": _NUMBERS,
            "number": encode_long,
            "none": _NONE,
            "some": _SOME,
            "end": _END_OF_BLOCKS,
            "cannot_hold": _CANNOT_HOLD,
        }
        self._counter = count()

    def record(self, declared: dict[str, Any], prefix: bytes = b"") -> Encode:
        """The function that encodes a record, with the prefix in front."""
        names = [field["name"] for field in declared["fields"]]
        sources = [self._source(field["type"], f"value.{field['name']}") for field in declared["fields"]]
        parts = [(_wire_name(name), self._function(source)) for name, source in zip(names, sources, strict=True)]
        namespace = self._named | {
            "prefix": prefix,
            "fault_in": lambda value: _fault((step, encode, value) for step, encode in parts),
        }
        exec(_RECORD.format(parts=", ".join(["prefix", *sources])), namespace)  # noqa: S102 - generated from our own schema
        encode_record: Encode = namespace["encode_record"]
        return encode_record

    def _function(self, source: str) -> Encode:
        encode: Encode = eval(f"lambda value: join(({source},))", self._named)  # noqa: S307 - as above
        return encode

    def _name(self, thing: object = None) -> str:
        """A new name, for this object or for a variable."""
        name = f"_{next(self._counter)}"
        if thing is not None:
            self._named[name] = thing
        return name

    def _source(self, declared: Declared, value: str) -> str:
        if isinstance(declared, list):
            return self._optional(declared, value)
        if isinstance(declared, str):
            return self._primitive(declared, value)
        match declared.get("logicalType", declared["type"]):
            case "record":
                source = f"{self._name(self.record(declared))}({value})"
            case "array":
                source = f"{self._name(_array(self._item(declared['items'])))}({value})"
            case "map":
                items, encode_map = self._name(), self._name(_map(self._item(declared["values"])))
                source = f"{encode_map}({items}) if ({items} := {value}) else end"
            case "enum":
                by_symbol = {symbol: encode_long(place) for place, symbol in enumerate(declared["symbols"])}
                source = f"{self._name(by_symbol)}[{value}._value_]"  # the same as .value, at a tenth of its time
            case "decimal":
                source = f"{self._name(_decimal(declared['precision'], declared.get('scale', 0)))}({value})"
            case "date":
                source = f"{self._name(_date)}({value})"
            case _:
                source = self._primitive(declared["type"], value)
        return source

    def _primitive(self, declared: str, value: str) -> str:
        if declared in {"long", "int"}:
            return f"number({value})"
        text = self._name()
        # encode() of a Foedselsnummer returns its digits; str() and f-strings show asterisks.
        content = {"string": f"{value}.encode()", "bytes": value}[declared]
        return f"lengths[len({text} := {content})], {text}"

    def _optional(self, branches: list[Any], value: str) -> str:
        if len(branches) != 2 or branches[0] != "null":  # noqa: PLR2004 - null and one type: the only unions in use
            raise NotImplementedError("only unions of null and one other type are compiled")
        given = self._name()
        return f"none if ({given} := {value}) is None else join((some, {self._source(branches[1], given)}))"

    def _item(self, declared: Declared) -> Encode:
        if isinstance(declared, dict) and declared["type"] == "record":
            return self.record(declared)
        return self._function(self._source(declared, "value"))


def _array(encode_item: Encode) -> Encode:
    def encode_array(items: tuple[Any, ...]) -> bytes:
        if not items:
            return _END_OF_BLOCKS
        try:
            return b"".join((_NUMBERS[len(items)], *map(encode_item, items), _END_OF_BLOCKS))
        except _CANNOT_HOLD:
            raise _fault((f"[{place}]", encode_item, item) for place, item in enumerate(items)) from None

    return encode_array


def _map(encode_item: Encode) -> Encode:
    def encode_map(items: dict[str, Any]) -> bytes:
        names = [name.encode() for name in items]
        pairs = zip(names, map(encode_item, items.values()), strict=True)
        parts = [part for name, item in pairs for part in (_NUMBERS[len(name)], name, item)]
        return b"".join((_NUMBERS[len(items)], *parts, _END_OF_BLOCKS))

    return encode_map


@lru_cache(CACHED_VALUES_MAX)
def _date(value: date) -> bytes:
    return encode_long(value.toordinal() - _EPOCH_ORDINAL)


def _decimal(precision: int, scale: int) -> Encode:
    def encode_decimal(value: Decimal) -> bytes:
        unscaled = decimal_bytes(value, precision, scale)
        return _NUMBERS[len(unscaled)] + unscaled

    return lru_cache(CACHED_VALUES_MAX)(encode_decimal)


def _fault(parts: Iterable[tuple[str, Encode, Any]]) -> RejectedTrekkpaaleggError:
    """The error of the first part that cannot be encoded, with its path. It holds no value, nor an error that does."""
    for step, encode, value in parts:
        try:
            encode(value)
        except RejectedTrekkpaaleggError as fault:
            deeper = fault.field_path
            return RejectedTrekkpaaleggError(fault.reason, step + ("" if deeper.startswith("[") else ".") + deeper)
        except _CANNOT_HOLD:
            return RejectedTrekkpaaleggError(RejectionReason.OUT_OF_RANGE.value, step)
    raise AssertionError("encoding failed, but none of its parts does")


def _wire_name(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))
