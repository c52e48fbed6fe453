"""The compiled decoder reads what fastavro reads, and makes an error of all that it does not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import schemas
from trekkpaalegg.decode import compile_decoder
from trekkpaalegg.event import TrekkpaaleggVersjon, trekkpaalegg_versjon_from

RELEASED = schemas.versions("trekkpaalegg_versjon")
CURRENT = schemas.load("trekkpaalegg_versjon")
READ = compile_decoder(CURRENT.parsed, TrekkpaaleggVersjon)

texts = st.text(max_size=20) | st.just("lang tekst " * 200) | st.text(min_size=60, max_size=66)
longs = st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 300)
unknown = st.dictionaries(texts, texts, max_size=2)
perioder = st.fixed_dictionaries(
    {
        "startdato": st.dates(),
        "sluttdato": st.none() | st.dates(),
        "trekkbeloep": st.none() | st.decimals(Decimal("-999999999999.99"), Decimal("999999999999.99"), places=2),
        "trekkprosent": st.none() | st.decimals(-999, 999, places=2),
        "ukjente_felter": unknown,
    }
)
trekkpaalegg = st.fixed_dictionaries(
    {
        "trekkid": texts,
        "trekkversjon": longs,
        "sekvensnummer": longs,
        "opprettet": st.datetimes(timezones=st.just(UTC)),
        "saksnummer": st.none() | texts,
        "trekkpliktig": texts,
        "skyldner": texts,
        "trekkstatus": st.sampled_from(["ukjent", "aktiv", "avsluttet"]),
        "trekkstoerrelse_for_periode": st.lists(perioder, max_size=3) | st.lists(st.nothing(), max_size=0),
        "betalingsinformasjon": st.fixed_dictionaries(
            {"betalingsmottaker": texts, "kidnummer": texts, "kontonummer": texts, "ukjente_felter": unknown}
        ),
        "ukjente_felter": unknown,
    }
)

PERIODE = {
    "startdato": date(2026, 1, 1),
    "sluttdato": date(1969, 12, 31),
    "trekkbeloep": Decimal("5000.50"),
    "trekkprosent": None,
    "ukjente_felter": {"ny": "true"},
}
EXAMPLE: dict[str, Any] = {
    "trekkid": "10001",
    "trekkversjon": 2,
    "sekvensnummer": 4_000_000_000,
    "opprettet": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    "saksnummer": "2026/17 påleggstrekk",
    "trekkpliktig": "314150260",
    "skyldner": "12345678901",
    "trekkstatus": "aktiv",
    "trekkstoerrelse_for_periode": [PERIODE],
    "betalingsinformasjon": {
        "betalingsmottaker": "971648198",
        "kidnummer": "1234567",
        "kontonummer": "76940512057",
        "ukjente_felter": {},
    },
    "ukjente_felter": {"nyttFelt": "true"},
}


def written(schema: schemas.Schema, datum: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    return buffer.getvalue()


def as_read_by_fastavro(schema: schemas.Schema, content: bytes) -> TrekkpaaleggVersjon:
    """The reference: every byte is read, or it is an error."""
    buffer = BytesIO(content)
    event = trekkpaalegg_versjon_from(fastavro.schemaless_reader(buffer, schema.parsed, None))
    if buffer.tell() != len(content):
        raise EOFError
    return event


def shown(event: TrekkpaaleggVersjon) -> tuple[Any, ...]:
    """All that can be seen of it: `100` and `100.00` are equal decimals and are stored as different text."""
    return repr(event), event.skyldner.reveal(), event.opprettet.utcoffset()


@pytest.mark.parametrize("schema", RELEASED, ids=lambda each: each.fingerprint.hex())
def test_every_event_of_every_released_schema_is_read_as_fastavro_reads_it(schema: schemas.Schema) -> None:
    read = compile_decoder(schema.parsed, TrekkpaaleggVersjon)

    @given(datum=trekkpaalegg)
    @example(datum=EXAMPLE)
    @example(datum=EXAMPLE | {"trekkstoerrelse_for_periode": [PERIODE] * 63})
    def reads_the_same(datum: dict[str, Any]) -> None:
        content = written(schema, datum)
        read_here, read_there = read(content, 0), as_read_by_fastavro(schema, content)
        assert read_here == read_there
        assert shown(read_here) == shown(read_there)

    reads_the_same()


@given(content=st.binary(max_size=90), at=st.integers(0, 150), instead=st.binary(max_size=3))
def test_of_damaged_bytes_it_reads_what_fastavro_reads_or_makes_an_error(
    content: bytes, at: int, instead: bytes
) -> None:
    """Both of junk and of an event with a few bytes changed, taken out or put in."""
    whole = written(CURRENT, EXAMPLE)
    for damaged in (content, whole[:at] + instead + whole[at + 1 :], whole[:at] + instead + whole[at:]):
        try:
            event = READ(damaged, 0)
        except Exception:  # noqa: BLE001, S112 - fastavro is the judge of it
            continue
        assert shown(event) == shown(as_read_by_fastavro(CURRENT, damaged))


def test_event_cut_off_anywhere_is_an_error() -> None:
    whole = written(CURRENT, EXAMPLE)
    for length in range(len(whole)):
        with pytest.raises((ValueError, LookupError)):
            READ(whole[:length], 0)


def test_event_begins_where_it_is_said_to() -> None:
    whole = written(CURRENT, EXAMPLE)
    assert READ(b"prefix" + whole, 6) == READ(whole, 0)


def test_event_with_very_many_periods_is_left_to_fastavro() -> None:
    """More periods than a block's shortest count holds."""
    whole = written(CURRENT, EXAMPLE | {"trekkstoerrelse_for_periode": [PERIODE] * 64})
    with pytest.raises(ValueError, match=r"^$"):
        READ(whole, 0)


def test_schema_with_a_field_that_the_event_lacks_is_not_compiled() -> None:
    declared = json.loads(CURRENT.canonical_json)
    declared["fields"].append({"name": "ny", "type": "string", "default": ""})
    with pytest.raises(NotImplementedError, match="TrekkpaaleggVersjon"):
        compile_decoder(schemas.parse("trekkpaalegg_versjon", json.dumps(declared)).parsed, TrekkpaaleggVersjon)


@pytest.mark.parametrize("declared", ["double", ["string", "null"], ["null", "string", "long"]])
def test_type_that_no_schema_of_ours_has_is_not_compiled(declared: Any) -> None:
    schema = json.loads(CURRENT.canonical_json)
    next(each for each in schema["fields"] if each["name"] == "saksnummer")["type"] = declared
    with pytest.raises(NotImplementedError):
        compile_decoder(schema, TrekkpaaleggVersjon)
