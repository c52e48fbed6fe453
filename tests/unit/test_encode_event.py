"""Key and headers of an event are those of the contract."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec
import pytest

from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    Publication,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.encode.event import EventEncoder, rfc3339
from producer.errors import RejectedTrekkpaaleggError
from trekkpaalegg.identifiers import Foedselsnummer

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
