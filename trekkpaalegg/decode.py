"""Decoding: the bytes of a message, in either wire format, become an event.

Schema and Struct are walked once, side by side, and compiled to the Python source of one function that reads the bytes:
no dictionary is built in between. Shortened, it reads

    size = data[at]
    start = at + 1
    at = start + (size >> 1)
    _1 = data[start:at].decode()
    …
    return TrekkpaaleggVersjon(_1, …)

fastavro stays the reference. What the function returns is tested to equal what fastavro reads; of bytes that are
damaged, or written in a way that is rare (64 items and more, blocks with their sizes), it makes an error, and fastavro
is to judge.

Each value is read with the schema that it was written with, and given in the form of the current one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from functools import cache, lru_cache
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, get_args

import fastavro
import msgspec

import schemas
from trekkpaalegg.errors import FatalError, UndecodableError
from trekkpaalegg.event import TrekkpaaleggVersjon, trekkpaalegg_versjon_from

if TYPE_CHECKING:
    from collections.abc import Callable

    Declared = str | list[Any] | dict[str, Any]

S = TypeVar("S", bound=msgspec.Struct)

CACHED_VALUES_MAX = 4096
"""How many dates, and how many numbers of each decimal field, are kept; a few hundred are in use at a time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NUMBER_BYTES_MAX = 10
_DECODE = """
def decode(data, at):
    {lines}
    if at != len(data):
        raise ValueError
    return value
"""


def compile_decoder(declared: Declared, struct: type[S]) -> Callable[[bytes, int], S]:
    """A function from bytes, and the place in them where the record begins, to the Struct; it must end where they end.

    Fields are found by their names. Raises NotImplementedError for a schema and a Struct that do not fit together, or
    for a type that no schema of ours has. The function may raise any kind of exception.
    """
    compiler = _Compiler()
    lines = compiler.lines(declared, struct, "value")
    source = _DECODE.format(lines="\n    ".join(lines))
    exec(source, compiler.named)  # noqa: S102 - made of our schema alone
    decode: Callable[[bytes, int], S] = compiler.named["decode"]
    return decode


class _Compiler:
    """Writes down, as lines of source, how a type is read at `at` of `data` into the variable `target`."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {
            "goes_on": _goes_on,
            "day": _day,
            "epoch": _EPOCH,
            "timedelta": timedelta,
        }
        self._counter = count(1)

    def lines(self, declared: Declared, kind: Any, target: str) -> list[str]:  # noqa: ANN401 - a type, as annotated
        """`kind` is what the value is to be in Python."""
        if isinstance(declared, list):
            return self._optional(declared, kind, target)
        if isinstance(declared, str):
            return self._primitive(declared, kind, target)
        match declared.get("logicalType", declared["type"]):
            case "record":
                lines = self._record(declared, kind, target)
            case "array":
                lines = self._array(declared["items"], get_args(kind)[0], target)
            case "map":
                lines = self._map(declared["values"], get_args(kind)[1], target)
            case "enum":
                symbols = self._name({place << 1: symbol for place, symbol in enumerate(declared["symbols"])})
                lines = [f"{target} = {symbols}[data[at]]", "at += 1"]
            case "decimal":
                number = self._name(_decimal(declared["precision"], declared.get("scale", 0)))
                lines = [*_SIZE, f"{target} = {number}(data[start:at])"]
            case "date":
                lines = [*_NUMBER, f"{target} = day(number)"]
            case "timestamp-micros":
                lines = [*_NUMBER, f"{target} = epoch + timedelta(0, 0, number >> 1 ^ -(number & 1))"]
            case _:
                lines = self._primitive(declared["type"], kind, target)
        return lines

    def _name(self, thing: object = None) -> str:
        """A new name: of this thing, or of a variable."""
        name = f"_{next(self._counter)}"
        if thing is not None:
            self.named[name] = thing
        return name

    def _primitive(self, declared: str, kind: type, target: str) -> list[str]:
        if declared in {"long", "int"}:
            return [*_NUMBER, f"{target} = number >> 1 ^ -(number & 1)"]
        if declared != "string":
            raise NotImplementedError(declared)
        text = "data[start:at].decode()"
        return [*_SIZE, f"{target} = {text if kind is str else f'{self._name(kind)}({text})'}"]

    def _record(self, declared: dict[str, Any], struct: type[msgspec.Struct], target: str) -> list[str]:
        kinds = {field.name: field.type for field in msgspec.structs.fields(struct)}
        if {field["name"] for field in declared["fields"]} != kinds.keys():
            raise NotImplementedError(declared["name"])
        targets = {field["name"]: self._name() for field in declared["fields"]}
        lines = [
            line
            for field in declared["fields"]
            for line in self.lines(field["type"], kinds[field["name"]], targets[field["name"]])
        ]
        return [*lines, f"{target} = {self._name(struct)}({', '.join(targets[name] for name in kinds)})"]

    def _optional(self, branches: list[Any], kind: Any, target: str) -> list[str]:  # noqa: ANN401 - as in `lines`
        if len(branches) != 2 or branches[0] != "null":  # noqa: PLR2004 - null and one type: the only unions in use
            raise NotImplementedError("only unions of null and one other type are compiled")
        given = self.lines(branches[1], next(each for each in get_args(kind) if each is not type(None)), target)
        return [
            "branch = data[at]",
            "at += 1",
            "if branch == 2:",
            *_indented(given),
            "elif branch:",
            "    raise ValueError",
            "else:",
            f"    {target} = None",
        ]

    def _array(self, items: Declared, kind: Any, target: str) -> list[str]:  # noqa: ANN401 - as in `lines`
        item, found = self._name(), self._name()
        return [
            f"{found} = []",
            *_block([*self.lines(items, kind, item), f"{found}.append({item})"]),
            f"{target} = tuple({found})",
        ]

    def _map(self, values: Declared, kind: Any, target: str) -> list[str]:  # noqa: ANN401 - as in `lines`
        name, item = self._name(), self._name()
        pair = [*self.lines("string", str, name), *self.lines(values, kind, item), f"{target}[{name}] = {item}"]
        return [f"{target} = {{}}", *_block(pair)]


_NUMBER = ("number = data[at]", "at += 1", "if number > 127:", "    number, at = goes_on(data, at)")
"""Not yet unfolded: of a number n that is not negative, 2n."""

_SIZE = (
    "size = data[at]",
    "at += 1",
    "if size & 129:",
    "    size, at = goes_on(data, at)",
    "    if size & 1:",
    "        raise ValueError",
    "start = at",
    "at += size >> 1",
)
"""Of what lies from `start` to `at`. An end beyond that of all bytes shows when the record is read."""


def _block(lines: list[str]) -> list[str]:
    """None, or one block of fewer than 64 items."""
    return [
        "items = data[at]",
        "at += 1",
        "if items:",
        "    if items & 129:",
        "        raise ValueError",
        "    for _ in range(items >> 1):",
        *_indented(_indented(lines)),
        "    if data[at]:",
        "        raise ValueError",
        "    at += 1",
    ]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _goes_on(data: bytes, at: int) -> tuple[int, int]:
    """The number, not yet unfolded, whose first byte lies before `at`, and where it ends."""
    number, shift, limit = data[at - 1] & 0x7F, 7, at - 1 + _NUMBER_BYTES_MAX
    while (byte := data[at]) > 0x7F:  # noqa: PLR2004 - the upper bit says that more follows
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if at == limit:
            raise ValueError
    return number | byte << shift, at + 1


@lru_cache(CACHED_VALUES_MAX)
def _day(number: int) -> date:
    return date.fromordinal(_EPOCH_ORDINAL + (number >> 1 ^ -(number & 1)))


def _decimal(precision: int, scale: int) -> Callable[[bytes], Decimal]:
    context = Context(precision)

    @lru_cache(CACHED_VALUES_MAX)
    def decimal(unscaled: bytes) -> Decimal:
        return Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(-scale, context)

    return decimal


CONFLUENT_MARKER = b"\x00"
CONFLUENT_PREFIX_BYTES = 5
SINGLE_OBJECT_MARKER = b"\xc3\x01"
_EVENT = "trekkpaalegg_versjon"
SINGLE_OBJECT_PREFIX_BYTES = len(SINGLE_OBJECT_MARKER) + schemas.FINGERPRINT_BYTES


class SchemaSource(Protocol):
    """A source of the schemas behind Confluent ids, such as a registry."""

    def fetch_schema(self, schema_id: int) -> str:
        """The schema's JSON text. Raises `UndecodableError` when there is no such id."""


class _Reading(NamedTuple):
    """Which schema to read with, and which form to give (None: the same)."""

    written: schemas.Schema
    wanted: schemas.Schema | None
    read_event: Callable[[bytes, int], TrekkpaaleggVersjon] | None = None
    """The quick way to an event; None for other records, and for events of another schema than the current one."""


class Decoder:
    """Decodes values. Remembers each schema that it has used; `schema_source` is needed for Confluent ids only."""

    def __init__(self, schema_source: SchemaSource | None = None) -> None:
        self._schema_source = schema_source
        self._by_id: dict[int, _Reading] = {}

    def decode_trekkpaalegg_versjon(self, value: bytes | None) -> TrekkpaaleggVersjon:
        """The event. Raises as `decode_record`, and `UndecodableError` for a record of another kind."""
        reading, begin = self._reading(value)
        if reading.read_event is not None and value is not None:
            # fastavro reads what this cannot, or says what is wrong with it.
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
