"""Elements as the API sends them: which are accepted, and how each field is read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producer.domain.trekkpaalegg import Trekkpaalegg, Trekkstatus
from producer.source.parse.page import read_elements
from tests.unit.wire_elements import (
    BETALINGSINFORMASJON,
    MISSING,
    PLAIN,
    SKYLDNER,
    changed,
    encoded,
    read,
    with_number,
    with_periode,
)


def accepted(element: dict[str, Any] | bytes) -> Trekkpaalegg:
    result = read(element)
    assert isinstance(result, Trekkpaalegg), result
    return result


def test_a_plain_version_is_read_with_its_true_types() -> None:
    raw = encoded(PLAIN)
    read_version = accepted(raw)
    [periode] = read_version.trekkstoerrelse_for_periode
    assert (read_version.trekkid, read_version.trekkversjon, read_version.sekvensnummer) == ("10001", 2, 38)
    assert read_version.opprettet == int(datetime(2025, 8, 9, 15, tzinfo=UTC).timestamp()) * 1_000_000 + 123_456
    assert read_version.saksnummer == "TREKK/2025/1"
    assert read_version.skyldner.reveal() == SKYLDNER
    assert read_version.trekkstatus is Trekkstatus.AKTIV
    assert (periode.startdato, periode.sluttdato) == (date(2026, 1, 1), None)
    assert (periode.trekkbeloep, periode.trekkprosent) == (Decimal(5000), None)
    assert read_version.betalingsinformasjon.kidnummer == "0000000018"
    assert read_version.ukjente_felter == {}
    assert read_version.raw == raw


def test_every_official_example_is_accepted() -> None:
    examples = Path(__file__).parents[2] / "sandbox" / "data" / "skatteetaten_eksempler.json"
    elements = read_elements(examples.read_bytes(), "123456789")
    assert len(elements) == 19
    assert all(isinstance(element, Trekkpaalegg) for element in elements)


def test_unknown_fields_of_every_level_are_kept_as_they_were_sent() -> None:
    raw = encoded(
        changed(
            nytt={"NYTT": 1},
            trekkstoerrelseForPeriode=[
                {"startdato": "20260101", "trekkprosent": {"trekkprosent": 7, "av": "grunnlag"}, "grunn": None}
            ],
            betalingsinformasjon={**BETALINGSINFORMASJON, "iban": "æ"},
        )
    ).replace(b'{"NYTT": 1}', b'{"b" :1.50,  "a":1e2}')
    read_version = accepted(raw)
    assert read_version.ukjente_felter == {"nytt": '{"b" :1.50,  "a":1e2}'}
    [periode] = read_version.trekkstoerrelse_for_periode
    assert periode.ukjente_felter == {"grunn": "null", "trekkprosent.av": '"grunnlag"'}
    assert periode.trekkprosent == 7
    assert read_version.betalingsinformasjon.ukjente_felter == {"iban": '"\\u00e6"'}


def test_only_a_new_field_on_the_outermost_level_changes_nothing_else() -> None:
    read_version = accepted(changed(nytt=[1, 2]))
    assert read_version.ukjente_felter == {"nytt": "[1, 2]"}
    assert read_version.trekkstoerrelse_for_periode == accepted(PLAIN).trekkstoerrelse_for_periode


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ny", {"trekkstatus": '"ny"'}),
        ("ukjent", {"trekkstatus": '"ukjent"'}),
        (3, {"trekkstatus": "3"}),
        (MISSING, {}),
    ],
)
def test_a_status_that_is_not_known_is_kept_with_its_text(given: Any, kept: dict[str, str]) -> None:
    read_version = accepted(changed(trekkstatus=given))
    assert read_version.trekkstatus is Trekkstatus.UKJENT
    assert read_version.ukjente_felter == kept


@pytest.mark.parametrize(("given", "kept"), [(MISSING, {}), (None, {}), (17, {"saksnummer": "17"})])
def test_a_saksnummer_that_is_no_text_is_no_reason_to_reject(given: Any, kept: dict[str, str]) -> None:
    read_version = accepted(changed(saksnummer=given))
    assert read_version.saksnummer is None
    assert read_version.ukjente_felter == kept


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.1Z", 100_000),
        ("1970-01-01T00:00:00.123456999999999Z", 123_456),
        ("1970-01-01t01:00:01+01:00", 1_000_000),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("2026-11-23T12:00:00.000000001-03:30", 1_795_447_800_000_000),
    ],
)
def test_an_instant_is_cut_to_microseconds(text: str, micros: int) -> None:
    assert accepted(changed(opprettet=text)).opprettet == micros


@pytest.mark.parametrize("date_text", ["2026-02-28", "20260228"])
def test_both_ways_to_write_a_date_are_read(date_text: str) -> None:
    read_version = accepted(with_periode(startdato=date_text, sluttdato=date_text))
    periode = read_version.trekkstoerrelse_for_periode[1]
    assert (periode.startdato, periode.sluttdato) == (date(2026, 2, 28), date(2026, 2, 28))


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("0", "0"),
        ("-0.0", "0"),
        ("5000", "5000"),
        ("5000.0", "5000"),
        ("5000.10", "5000.1"),
        ("0.010000000", "0.01"),
        ("5e3", "5000"),
        ("999999999999.99", "999999999999.99"),
        ("0e-999999999", "0"),
    ],
)
def test_an_amount_is_read_by_its_value(number: str, value: str) -> None:
    beloep = accepted(with_number("trekkbeloep", number)).trekkstoerrelse_for_periode[1].trekkbeloep
    assert beloep == Decimal(value)
    assert str(beloep) == f"{Decimal(value):.2f}"


def test_an_empty_list_of_periods_is_accepted() -> None:
    assert accepted(changed(trekkstoerrelseForPeriode=[])).trekkstoerrelse_for_periode == ()


def test_numbers_beyond_32_bits_are_read() -> None:
    read_version = accepted(changed(trekkversjon=2**40, sekvensnummer=2**63 - 1))
    assert (read_version.trekkversjon, read_version.sekvensnummer) == (2**40, 2**63 - 1)
