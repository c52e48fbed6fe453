"""What the producer encodes the consumers decode, in both wire formats; all other bytes are told apart."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from producer.domain import trekkpaalegg as domain
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from producer.encode.state import encode_lane_count
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError, UndecodableError
from trekkpaalegg.identifiers import Foedselsnummer

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


def test_event_comes_back_with_its_types() -> None:
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
    assert Decoder().decode_record(encode_lane_count(6)) == ("lane_count", {"lanes": 6})
    with pytest.raises(UndecodableError, match="a lane_count, no trekkpaalegg_versjon"):
        Decoder().decode_trekkpaalegg_versjon(encode_lane_count(6))


def test_unknown_fingerprint_is_named() -> None:
    with pytest.raises(UndecodableError, match="0101010101010101: it was written by a newer version"):
        Decoder().decode_record(b"\xc3\x01" + b"\x01" * 8 + b"rest")


def test_id_without_a_registry_names_the_setting() -> None:
    with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
        Decoder().decode_record(confluent_prefix(7) + b"rest")


@pytest.mark.parametrize("text", ['{"type":"record","name":"Other","fields":[]}', '"string"', "no JSON", "{}"])
def test_foreign_schema_in_the_registry_is_told(text: str) -> None:
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
