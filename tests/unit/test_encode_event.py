"""Events: key and headers are those of the contract, and the compiled encoder writes what fastavro writes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from producer.domain.content import content_hash
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    Publication,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.encode.avro import (
    compile_encoder,
    confluent_prefix,
    decimal_bytes,
    reference_encoder,
    single_object_prefix,
)
from producer.encode.event import EventEncoder, rfc3339, trekkpaalegg_of
from producer.errors import RejectedTrekkpaaleggError
from trekkpaalegg.decode import Decoder
from trekkpaalegg.identifiers import Foedselsnummer

# Key and headers of an event are those of the contract
API_URL = "https://api.skatteetaten.no/api/trekkpaalegg/v1"
VERSION = Trekkpaalegg(
    trekkid="ordre-æ",
    trekkversjon=3,
    sekvensnummer=4_000_000_000,
    opprettet=1_767_225_600_000_001,
    saksnummer=None,
    trekkpliktig="314150260",
    skyldner=Foedselsnummer("12345678901"),
    trekkstatus=Trekkstatus.AKTIV,
    trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal(5000), None),),
    betalingsinformasjon=Betalingsinformasjon("971648198", "1234567", "76940512057"),
)


def encoder(value: bytes = b"value", event_bytes_max: int = 512 * 1024) -> EventEncoder:
    return EventEncoder(API_URL, lambda _: value, bytes.fromhex("812db830cec018ee"), event_bytes_max)


def test_headers_are_those_of_the_contract() -> None:
    event = encoder().encode(Publication(VERSION, Origin.GAPFILL))
    assert event.key == "ordre-æ".encode()
    assert event.value == b"value"
    assert dict(event.headers) == {
        "content-type": b"application/avro",
        "ce_specversion": b"1.0",
        "ce_id": "ordre-æ/3".encode(),
        "ce_type": b"trekkpaalegg.versjon.v1",
        "ce_source": API_URL.encode(),
        "ce_subject": "ordre-æ".encode(),
        "ce_time": b"2026-01-01T00:00:00.000001Z",
        "ce_sekvensnummer": b"4000000000",
        "ce_trekkpliktig": b"314150260",
        "ce_origin": b"gapfill",
        "ce_schemafingerprint": b"812db830cec018ee",
    }


def test_late_version_is_marked() -> None:
    headers = dict(encoder().encode(Publication(VERSION, Origin.RECONCILE, late=True, current=False)).headers)
    assert headers["ce_late"] == b"true"
    assert headers["ce_id"] == "ordre-æ/3".encode()


def test_correction_is_marked_and_has_an_id_of_its_own() -> None:
    headers = dict(encoder().encode(Publication(VERSION, Origin.RELEASE, correction=2)).headers)
    assert headers["ce_correction"] == b"2"
    assert headers["ce_id"] == "ordre-æ/3/2".encode()


def test_no_header_and_no_key_holds_the_national_id() -> None:
    event = encoder().encode(Publication(VERSION, Origin.POLL))
    assert b"12345678901" not in event.key + b"".join(event.headers.values())


def test_event_larger_than_allowed_is_rejected_as_a_whole() -> None:
    encoder(b"x" * 76, event_bytes_max=100).encode(Publication(VERSION, Origin.POLL))
    with pytest.raises(RejectedTrekkpaaleggError) as fault:
        encoder(b"x" * 77, event_bytes_max=100).encode(Publication(VERSION, Origin.POLL))
    assert (fault.value.reason, fault.value.field_path) == ("too_large", "$")


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, b"1970-01-01T00:00:00Z"),
        (1_500_000, b"1970-01-01T00:00:01.500000Z"),
        (-1, b"1969-12-31T23:59:59.999999Z"),
        (253_402_300_799_999_999, b"9999-12-31T23:59:59.999999Z"),
    ],
)
def test_time_is_rfc_3339_in_utc(micros: int, text: bytes) -> None:
    assert rfc3339(micros) == text


@pytest.mark.parametrize("opprettet", [253_402_300_800_000_000, 2**63 - 1, -(2**63)])
def test_time_beyond_the_calendar_is_rejected(opprettet: int) -> None:
    with pytest.raises(RejectedTrekkpaaleggError, match="out_of_range at opprettet"):
        encoder().encode(Publication(msgspec.structs.replace(VERSION, opprettet=opprettet), Origin.POLL))


# The compiled encoder writes what fastavro writes, and names the path of what the schema cannot hold
RELEASED = schemas.versions("trekkpaalegg_versjon")
CURRENT = schemas.load("trekkpaalegg_versjon")
COMPILED = {schema.fingerprint: compile_encoder(schema, b"prefix") for schema in RELEASED}
ENCODE = compile_encoder(CURRENT, b"")
texts = st.text(max_size=20) | st.just("lang tekst " * 200)
longs = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300)
unknown = st.dictionaries(texts, texts, max_size=2)
perioder = st.builds(
    TrekkstoerrelseForPeriode,
    startdato=st.dates(),
    sluttdato=st.none() | st.dates(),
    trekkbeloep=st.none() | st.decimals(Decimal("-999999999999.99"), Decimal("999999999999.99"), places=2),
    trekkprosent=st.none() | st.decimals(-999, 999, places=1),
    ukjente_felter=unknown,
)
trekkpaalegg = st.builds(
    Trekkpaalegg,
    trekkid=texts,
    trekkversjon=longs,
    sekvensnummer=longs,
    opprettet=longs,
    saksnummer=st.none() | texts,
    trekkpliktig=texts,
    skyldner=st.from_regex(r"[0-9]{11}", fullmatch=True).map(Foedselsnummer),
    trekkstatus=st.sampled_from(Trekkstatus),
    trekkstoerrelse_for_periode=st.lists(perioder, max_size=2).map(tuple),
    betalingsinformasjon=st.builds(
        Betalingsinformasjon, betalingsmottaker=texts, kidnummer=texts, kontonummer=texts, ukjente_felter=unknown
    ),
    ukjente_felter=unknown,
)


def as_written_by_fastavro_alone(schema: schemas.Schema, version: Trekkpaalegg) -> bytes:
    """With nothing of the producer's encoding in between: fastavro prepares dates and decimals itself."""
    datum = msgspec.structs.asdict(version) | {
        "skyldner": version.skyldner.reveal(),
        "trekkstatus": version.trekkstatus.value,
        "trekkstoerrelse_for_periode": [msgspec.structs.asdict(each) for each in version.trekkstoerrelse_for_periode],
        "betalingsinformasjon": msgspec.structs.asdict(version.betalingsinformasjon),
    }
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    return buffer.getvalue()


@pytest.mark.parametrize("schema", RELEASED, ids=lambda schema: schema.fingerprint.hex())
@given(version=trekkpaalegg)
def test_compiled_and_reference_write_what_fastavro_writes(schema: schemas.Schema, version: Trekkpaalegg) -> None:
    expected = as_written_by_fastavro_alone(schema, version)
    compiled = COMPILED[schema.fingerprint]
    assert compiled(version) == b"prefix" + expected
    assert reference_encoder(schema, b"prefix")(version) == b"prefix" + expected


in_the_calendar = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
amounts = st.decimals(0, Decimal("999999999999.99"), places=2)
published_perioder = st.builds(
    TrekkstoerrelseForPeriode,
    st.dates(),
    st.none() | st.dates(),
    st.none() | amounts,
    st.none() | st.decimals(0, 100, places=1),
    unknown,
)


@given(
    version=trekkpaalegg,
    opprettet=in_the_calendar,
    periods=st.lists(published_perioder, max_size=2).map(tuple),
)
def test_the_version_is_read_back_from_its_event_with_the_same_content_hash(
    version: Trekkpaalegg, opprettet: int, periods: tuple[TrekkstoerrelseForPeriode, ...]
) -> None:
    version = msgspec.structs.replace(version, opprettet=opprettet, trekkstoerrelse_for_periode=periods)
    value = compile_encoder(CURRENT, single_object_prefix(CURRENT.fingerprint))(version)
    read = trekkpaalegg_of(Decoder().decode_trekkpaalegg_versjon(value))
    assert read == version
    assert content_hash(read) == content_hash(version)


@given(number=longs)
def test_every_64_bit_number_survives_a_round_trip(number: int) -> None:
    encoded = ENCODE(msgspec.structs.replace(VERSION, sekvensnummer=number))
    assert fastavro.schemaless_reader(BytesIO(encoded), CURRENT.parsed)["sekvensnummer"] == number


def test_national_id_is_written_with_its_digits() -> None:
    decoded = fastavro.schemaless_reader(BytesIO(ENCODE(VERSION)), CURRENT.parsed)
    assert decoded["skyldner"] == "12345678901"


def with_beloep(text: str) -> Trekkpaalegg:
    fault = TrekkstoerrelseForPeriode(date(2026, 2, 1), None, Decimal(text), None)
    perioder = (VERSION.trekkstoerrelse_for_periode[0], fault)
    return msgspec.structs.replace(VERSION, trekkstoerrelse_for_periode=perioder)


def with_prosent(text: str) -> Trekkpaalegg:
    fault = TrekkstoerrelseForPeriode(date(2026, 2, 1), None, None, Decimal(text))
    return msgspec.structs.replace(VERSION, trekkstoerrelse_for_periode=(fault,))


BELOEP = "trekkstoerrelseForPeriode[1].trekkbeloep"


@pytest.mark.parametrize(
    ("version", "path"),
    [
        (with_beloep("0.001"), BELOEP),
        (with_beloep("1000000000000"), BELOEP),
        (with_beloep("1E+999999"), BELOEP),
        (with_beloep("Infinity"), BELOEP),
        (with_beloep("NaN"), BELOEP),
        (with_beloep("sNaN"), BELOEP),
        (with_prosent("1000"), "trekkstoerrelseForPeriode[0].trekkprosent"),
        (msgspec.structs.replace(VERSION, sekvensnummer=2**63), "sekvensnummer"),
        (msgspec.structs.replace(VERSION, trekkversjon=-(2**63) - 1), "trekkversjon"),
        (msgspec.structs.replace(VERSION, trekkid="half \ud800 of a pair"), "trekkid"),
        (msgspec.structs.replace(VERSION, ukjente_felter={"nytt": "\udfff"}), "ukjenteFelter"),
        (
            msgspec.structs.replace(VERSION, betalingsinformasjon=Betalingsinformasjon("1", "2", "\ud800")),
            "betalingsinformasjon.kontonummer",
        ),
    ],
)
def test_what_the_schema_cannot_hold_is_rejected_by_path_alone(version: Trekkpaalegg, path: str) -> None:
    with pytest.raises(RejectedTrekkpaaleggError) as fault:
        ENCODE(version)
    assert (fault.value.reason, fault.value.field_path) == ("out_of_range", path)
    assert str(fault.value) == f"out_of_range at {path}"
    assert fault.value.__suppress_context__


@pytest.mark.parametrize("text", ["999999999999.99", "-999999999999.99", "5000", "5000.0", "5000.000", "0E+9999", "-0"])
def test_decimal_that_fits_keeps_its_value(text: str) -> None:
    decoded = fastavro.schemaless_reader(BytesIO(ENCODE(with_beloep(text))), CURRENT.parsed)
    assert decoded["trekkstoerrelse_for_periode"][1]["trekkbeloep"] == Decimal(text)


def test_decimal_is_its_unscaled_number_big_endian() -> None:
    assert decimal_bytes(Decimal("1.28"), 14, 2) == b"\x00\x80"
    assert decimal_bytes(Decimal("-0.01"), 14, 2) == b"\xff"


def test_prefixes_are_those_of_the_two_wire_formats() -> None:
    assert single_object_prefix(bytes(range(8))) == b"\xc3\x01\x00\x01\x02\x03\x04\x05\x06\x07"
    assert confluent_prefix(258) == b"\x00\x00\x00\x01\x02"
