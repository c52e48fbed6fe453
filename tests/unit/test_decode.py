"""Decoding: what the producer encodes, in both wire formats; all other bytes, and what databases cannot store."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import schemas
from producer.domain import trekkpaalegg as domain
from producer.domain.requests import RequestState
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from producer.encode.state import encode_request_state
from tests.kit.event_stream import incoming_of, make_stream
from trekkpaalegg.decode import Decoder, compile_decoder
from trekkpaalegg.errors import FatalError, UndecodableError
from trekkpaalegg.event import TrekkpaaleggVersjon, trekkpaalegg_versjon_from
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import storable

# Consumers decode what the producer encodes, in both wire formats, and recognise all other bytes
CURRENT = schemas.load("trekkpaalegg_versjon")
VERSION = domain.Trekkpaalegg(
    trekkid="10001",
    trekkversjon=2,
    sekvensnummer=4_000_000_000,
    opprettet=1_767_225_600_000_001,
    saksnummer="2026/17 påleggstrekk",
    trekkpliktig="314150260",
    skyldner=Foedselsnummer("12345678901"),
    trekkstatus=domain.Trekkstatus.AKTIV,
    trekkstoerrelse_for_periode=(
        domain.TrekkstoerrelseForPeriode(date(2026, 1, 1), date(2026, 6, 30), Decimal("5000.50"), None),
        domain.TrekkstoerrelseForPeriode(date(2026, 7, 1), None, None, Decimal("12.5"), {"ny": '{"a":1}'}),
    ),
    betalingsinformasjon=domain.Betalingsinformasjon("971648198", "1234567", "76940512057"),
    ukjente_felter={"nyttFelt": "true"},
)
ENCODE = compile_encoder(CURRENT, single_object_prefix(CURRENT.fingerprint))
ENCODED = ENCODE(VERSION)


class SchemasById:
    """A registry in memory that counts how often it is asked."""

    def __init__(self, **texts: str) -> None:
        self._texts = texts
        self.asked = 0

    def fetch_schema(self, schema_id: int) -> str:
        self.asked += 1
        try:
            return self._texts[f"id_{schema_id}"]
        except KeyError:
            raise UndecodableError(f"no schema {schema_id}") from None


def test_an_event_survives_a_round_trip_with_its_types() -> None:
    event = Decoder().decode_trekkpaalegg_versjon(ENCODED)
    assert event.opprettet == datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert event.skyldner.reveal() == "12345678901"
    assert event.trekkstatus == "aktiv"
    first, second = event.trekkstoerrelse_for_periode
    assert (first.startdato, first.sluttdato) == (date(2026, 1, 1), date(2026, 6, 30))
    assert (first.trekkbeloep, first.trekkprosent) == (Decimal("5000.50"), None)
    assert (second.trekkbeloep, second.trekkprosent) == (None, Decimal("12.5"))
    assert second.ukjente_felter == {"ny": '{"a":1}'}
    assert event.betalingsinformasjon.kidnummer == "1234567"
    assert (event.trekkid, event.trekkversjon, event.sekvensnummer) == ("10001", 2, 4_000_000_000)
    assert (event.saksnummer, event.trekkpliktig) == ("2026/17 påleggstrekk", "314150260")
    assert event.ukjente_felter == {"nyttFelt": "true"}


@pytest.mark.parametrize("schema", schemas.versions("trekkpaalegg_versjon"), ids=lambda each: each.fingerprint.hex())
def test_every_released_schema_is_read(schema: schemas.Schema) -> None:
    encode = compile_encoder(schema, single_object_prefix(schema.fingerprint))
    assert Decoder().decode_trekkpaalegg_versjon(encode(VERSION)).trekkid == "10001"


def test_national_id_is_masked_when_an_event_is_printed() -> None:
    event = Decoder().decode_trekkpaalegg_versjon(ENCODED)
    assert "12345678901" not in f"{event} {event!r} {event.skyldner} {event.skyldner!r}"


def test_both_wire_formats_give_the_same_event() -> None:
    source = SchemasById(id_7=CURRENT.canonical_json)
    decoder = Decoder(source)
    confluent = compile_encoder(CURRENT, confluent_prefix(7))(VERSION)
    assert decoder.decode_trekkpaalegg_versjon(confluent) == decoder.decode_trekkpaalegg_versjon(ENCODED)
    decoder.decode_trekkpaalegg_versjon(confluent)
    assert source.asked == 1


def test_event_of_a_newer_schema_is_given_in_the_form_of_ours() -> None:
    """A field that we do not know is left out, a symbol that we do not know becomes the enum's default."""
    declared = json.loads(CURRENT.canonical_json)
    declared["fields"].append({"name": "ny", "type": "string", "default": ""})
    next(each for each in declared["fields"] if each["name"] == "trekkstatus")["type"]["symbols"].append("sperret")
    newer = schemas.parse("trekkpaalegg_versjon", json.dumps(declared))
    _, datum = Decoder().decode_record(ENCODED)
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, newer.parsed, datum | {"ny": "noe", "trekkstatus": "sperret"})

    decoder = Decoder(SchemasById(id_8=newer.canonical_json))
    event = decoder.decode_trekkpaalegg_versjon(confluent_prefix(8) + buffer.getvalue())

    expected = Decoder().decode_trekkpaalegg_versjon(ENCODED)
    assert event == msgspec.structs.replace(expected, trekkstatus="ukjent")


def test_other_records_of_the_stream_are_read_by_name_and_are_no_event() -> None:
    encoded = encode_request_state(RequestState("311111111", 1, 2))
    told = {"trekkpliktig": "311111111", "published": 1, "quarantined": 2}
    assert Decoder().decode_record(encoded) == ("request_state", told)
    with pytest.raises(UndecodableError, match="a request_state, no trekkpaalegg_versjon"):
        Decoder().decode_trekkpaalegg_versjon(encoded)


def test_unknown_fingerprint_is_named() -> None:
    with pytest.raises(UndecodableError, match="0101010101010101: it was written by a newer version"):
        Decoder().decode_record(b"\xc3\x01" + b"\x01" * 8 + b"rest")


def test_id_without_a_registry_names_the_setting() -> None:
    with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
        Decoder().decode_record(confluent_prefix(7) + b"rest")


@pytest.mark.parametrize("text", ['{"type":"record","name":"Other","fields":[]}', '"string"', "no JSON", "{}"])
def test_foreign_schema_in_the_registry_is_reported(text: str) -> None:
    with pytest.raises(UndecodableError, match="schema 9 is none of this stream's"):
        Decoder(SchemasById(id_9=text)).decode_record(confluent_prefix(9) + b"rest")


@pytest.mark.parametrize("value", [None, b"", b"\xc3", b"\x00\x00", b'{"trekkid":"1"}', single_object_prefix(b"short")])
def test_other_bytes_are_undecodable(value: bytes | None) -> None:
    with pytest.raises(UndecodableError, match=r"no value|neither wire format"):
        Decoder().decode_record(value)


def test_value_cut_off_anywhere_is_undecodable() -> None:
    for length in range(10, len(ENCODED)):
        with pytest.raises(UndecodableError, match="cut off"):
            Decoder().decode_record(ENCODED[:length])


def test_bytes_after_the_record_are_undecodable() -> None:
    with pytest.raises(UndecodableError, match="2 bytes follow"):
        Decoder().decode_record(ENCODED + b"\x00\x00")


@given(junk=st.binary(max_size=80))
def test_any_bytes_are_decoded_or_undecodable_without_a_value_in_the_error(junk: bytes) -> None:
    try:
        Decoder().decode_trekkpaalegg_versjon(single_object_prefix(CURRENT.fingerprint) + junk)
    except UndecodableError as error:
        assert error.__cause__ is None  # noqa: PT017 - junk may also decode


# The compiled decoder reads what fastavro reads, and raises an error for everything else
RELEASED = schemas.versions("trekkpaalegg_versjon")
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
def test_damaged_bytes_are_read_as_fastavro_reads_them_or_are_an_error(content: bytes, at: int, instead: bytes) -> None:
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


# What databases cannot store is undecodable: it is kept with its bytes, and the stream goes on
EVENT = incoming_of(make_stream(1, 1))[0].event


def with_period(**changes: Decimal):
    periode = msgspec.structs.replace(EVENT.trekkstoerrelse_for_periode[0], **changes)
    return msgspec.structs.replace(EVENT, trekkstoerrelse_for_periode=(periode,))


def test_an_ordinary_event_is_storable() -> None:
    assert storable(EVENT) is EVENT
    largest = with_period(trekkbeloep=Decimal("999999999999.99"), trekkprosent=Decimal("999.99"))
    assert storable(largest) is largest


@pytest.mark.parametrize("name", ["trekkid", "saksnummer", "trekkpliktig"])
def test_a_nul_in_a_text_cannot_be_stored(name: str) -> None:
    with pytest.raises(UndecodableError, match="NUL"):
        storable(msgspec.structs.replace(EVENT, **{name: "a\x00b"}))


def test_a_nul_in_the_payment_cannot_be_stored() -> None:
    payment = msgspec.structs.replace(EVENT.betalingsinformasjon, kidnummer="12\x00")
    with pytest.raises(UndecodableError, match="NUL"):
        storable(msgspec.structs.replace(EVENT, betalingsinformasjon=payment))


@pytest.mark.parametrize(
    "changes", [{"trekkbeloep": Decimal(1000000000000)}, {"trekkprosent": Decimal(-1000)}], ids=["beloep", "prosent"]
)
def test_a_number_of_too_many_digits_cannot_be_stored(changes: dict[str, Decimal]) -> None:
    with pytest.raises(UndecodableError, match="digits"):
        storable(with_period(**changes))
