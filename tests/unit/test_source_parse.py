"""Parsing responses of the API: which elements are accepted, which are rejected, and what is no answer."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkpaalegg, Trekkstatus
from producer.source.parse.page import read_elements, read_trekkpaalegg
from trekkpaalegg.errors import RetryableError

TREKKPLIKTIG = "312345678"
SKYLDNER = "12345678901"
MISSING = object()
PERIODE: dict[str, Any] = {"startdato": "2026-01-01", "trekkbeloep": {"trekkbeloep": 5000}}
BETALINGSINFORMASJON = {"betalingsmottaker": "971648198", "kidnummer": "0000000018", "kontonummer": "70213997155"}
PLAIN: dict[str, Any] = {
    "trekkid": "10001",
    "trekkversjon": 2,
    "sekvensnummer": 38,
    "opprettet": "2025-08-09T15:00:00.123456Z",
    "saksnummer": "TREKK/2025/1",
    "trekkpliktig": TREKKPLIKTIG,
    "skyldner": SKYLDNER,
    "trekkstatus": "aktiv",
    "trekkstoerrelseForPeriode": [PERIODE],
    "betalingsinformasjon": BETALINGSINFORMASJON,
}
OTHER = {**PLAIN, "trekkid": "10002", "sekvensnummer": 39}


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**PLAIN, **changes}.items() if value is not MISSING}


def with_periode(**changes: Any) -> dict[str, Any]:
    periode = {name: value for name, value in {**PERIODE, **changes}.items() if value is not MISSING}
    return changed(trekkstoerrelseForPeriode=[PERIODE, periode])


def with_number(name: str, number: str) -> bytes:
    """An element whose second period holds the JSON text `number` as its size."""
    element = json.dumps(with_periode(**{"trekkbeloep": MISSING, name: {name: "NUMBER"}}))
    return element.replace('"NUMBER"', number).encode()


def read(element: dict[str, Any] | bytes) -> Trekkpaalegg | Rejected:
    """The element as it comes out of a page, between others that must survive it."""
    raw = element if isinstance(element, bytes) else json.dumps(element).encode()
    first, read_element, last = read_elements(b"[%s, %s,%s]" % (encoded(OTHER), raw, encoded(OTHER)), TREKKPLIKTIG)
    assert isinstance(first, Trekkpaalegg)
    assert isinstance(last, Trekkpaalegg)
    return read_element


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


# Elements as the API sends them: which are accepted, and how each field is read


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


# Elements as the API sends them: which are rejected and why, and what a rejection says about them
R = RejectionReason
P1 = "trekkstoerrelseForPeriode[1]"


@pytest.mark.parametrize(
    "number", ["-1", "0.001", "1000000000000", "1e999999999", "1e-999999999", "1e99999999999999999"]
)
def test_an_amount_outside_of_decimal_14_2_is_out_of_range(number: str) -> None:
    assert_rejected(
        with_number("trekkbeloep", number),
        RejectionReason.OUT_OF_RANGE,
        "trekkstoerrelseForPeriode[1].trekkbeloep.trekkbeloep",
    )


@pytest.mark.parametrize("number", ["100.01", "-0.01", "33.333", "1e9"])
def test_a_percentage_outside_of_0_to_100_is_out_of_range(number: str) -> None:
    assert_rejected(
        with_number("trekkprosent", number),
        RejectionReason.OUT_OF_RANGE,
        "trekkstoerrelseForPeriode[1].trekkprosent.trekkprosent",
    )


@pytest.mark.parametrize("number", ['"5000"', "true", "[]", "{}", "1" * 2000])
def test_anything_but_a_number_is_no_amount(number: str) -> None:
    assert_rejected(
        with_number("trekkbeloep", number),
        RejectionReason.INVALID_FIELD,
        "trekkstoerrelseForPeriode[1].trekkbeloep.trekkbeloep",
    )


@pytest.mark.parametrize(
    ("element", "reason", "path"),
    [
        (changed(trekkid=MISSING), R.MISSING_FIELD, "trekkid"),
        (changed(trekkid=""), R.INVALID_FIELD, "trekkid"),
        (changed(trekkid=10001), R.INVALID_FIELD, "trekkid"),
        (changed(trekkid="10001\n"), R.INVALID_FIELD, "trekkid"),
        (changed(trekkid="x" * 1001), R.OUT_OF_RANGE, "trekkid"),
        (changed(trekkversjon=None), R.MISSING_FIELD, "trekkversjon"),
        (changed(trekkversjon=0), R.OUT_OF_RANGE, "trekkversjon"),
        (changed(trekkversjon=-1), R.OUT_OF_RANGE, "trekkversjon"),
        (changed(trekkversjon=2**63), R.OUT_OF_RANGE, "trekkversjon"),
        (changed(trekkversjon=10**400), R.OUT_OF_RANGE, "trekkversjon"),
        (changed(trekkversjon=1.5), R.INVALID_FIELD, "trekkversjon"),
        (changed(trekkversjon="1"), R.INVALID_FIELD, "trekkversjon"),
        (changed(trekkversjon=True), R.INVALID_FIELD, "trekkversjon"),
        (changed(sekvensnummer=MISSING), R.MISSING_FIELD, "sekvensnummer"),
        (changed(sekvensnummer=2**64), R.OUT_OF_RANGE, "sekvensnummer"),
        (changed(opprettet="2025-08-09T15:00:00"), R.INVALID_FIELD, "opprettet"),
        (changed(opprettet="2025-08-09"), R.INVALID_FIELD, "opprettet"),
        (changed(opprettet=1754751600), R.INVALID_FIELD, "opprettet"),
        (changed(trekkpliktig="12345678"), R.INVALID_FIELD, "trekkpliktig"),
        (changed(trekkpliktig="31234567\u0668"), R.INVALID_FIELD, "trekkpliktig"),
        (changed(skyldner="1234567890"), R.INVALID_FIELD, "skyldner"),
        (changed(skyldner="1234567890\u00b2"), R.INVALID_FIELD, "skyldner"),
        (changed(skyldner=12345678901), R.INVALID_FIELD, "skyldner"),
        (changed(trekkid=f"TREKK-{SKYLDNER}"), R.PERSONAL_DATA_IN_IDENTITY, "trekkid"),
        (changed(trekkpliktig=SKYLDNER), R.PERSONAL_DATA_IN_IDENTITY, "trekkpliktig"),
        (changed(trekkstoerrelseForPeriode=MISSING), R.MISSING_FIELD, "trekkstoerrelseForPeriode"),
        (changed(trekkstoerrelseForPeriode={}), R.INVALID_FIELD, "trekkstoerrelseForPeriode"),
        (changed(trekkstoerrelseForPeriode=[PERIODE, 5]), R.INVALID_FIELD, P1),
        (with_periode(startdato=MISSING), R.MISSING_FIELD, f"{P1}.startdato"),
        (with_periode(startdato="2026-13-01"), R.INVALID_FIELD, f"{P1}.startdato"),
        (with_periode(startdato="2026-1-1"), R.INVALID_FIELD, f"{P1}.startdato"),
        (with_periode(startdato="202601-01"), R.INVALID_FIELD, f"{P1}.startdato"),
        (with_periode(startdato="2026-01-01T00:00:00Z"), R.INVALID_FIELD, f"{P1}.startdato"),
        (with_periode(sluttdato="2025-12-31"), R.PERIOD_DATES, f"{P1}.sluttdato"),
        (with_periode(trekkprosent={"trekkprosent": 5}), R.AMOUNT_OR_PERCENT, P1),
        (with_periode(trekkbeloep=MISSING), R.AMOUNT_OR_PERCENT, P1),
        (with_periode(trekkbeloep=5000), R.INVALID_FIELD, f"{P1}.trekkbeloep"),
        (with_periode(trekkbeloep={}), R.MISSING_FIELD, f"{P1}.trekkbeloep.trekkbeloep"),
        (changed(betalingsinformasjon=MISSING), R.MISSING_FIELD, "betalingsinformasjon"),
        (changed(betalingsinformasjon=[]), R.INVALID_FIELD, "betalingsinformasjon"),
        (changed(betalingsinformasjon={}), R.MISSING_FIELD, "betalingsinformasjon.betalingsmottaker"),
        (
            changed(betalingsinformasjon={**BETALINGSINFORMASJON, "kidnummer": 18}),
            R.INVALID_FIELD,
            "betalingsinformasjon.kidnummer",
        ),
        (b"5", R.NOT_AN_OBJECT, "$"),
        (b"null", R.NOT_AN_OBJECT, "$"),
        (b'["a"]', R.NOT_AN_OBJECT, "$"),
        (b'{"trekkid": "10001", "skyldner": "\\ud800"}', R.INVALID_FIELD, "$"),
        (encoded(PLAIN).replace(SKYLDNER.encode(), b"\xff"), R.INVALID_FIELD, "skyldner"),
        (b'{"trekkid": "10001", "trekkversjon": NaN}', R.INVALID_FIELD, "$"),
    ],
)
def test_a_broken_hard_rule_rejects_the_element_alone(
    element: dict[str, Any] | bytes, reason: RejectionReason, path: str
) -> None:
    assert_rejected(element, reason, path)


def assert_rejected(element: dict[str, Any] | bytes, reason: RejectionReason, path: str) -> Rejected:
    rejected = read(element)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.field_path) == (reason, path)
    assert rejected.trekkpliktig == TREKKPLIKTIG
    assert rejected.detail.endswith(".")
    assert SKYLDNER not in f"{rejected!r} {rejected.detail} {rejected.trekkid}"
    assert len(rejected.raw_hash) == 16
    return rejected


def test_a_rejection_holds_what_can_be_read_of_the_identity() -> None:
    rejected = assert_rejected(with_periode(startdato="x"), R.INVALID_FIELD, f"{P1}.startdato")
    assert (rejected.trekkid, rejected.trekkversjon, rejected.sekvensnummer) == ("10001", 2, 38)
    rejected = assert_rejected(b'{"trekkid":"10001","trekkversjon":4,"x":"\\udc00"}', R.INVALID_FIELD, "$")
    assert (rejected.trekkid, rejected.trekkversjon, rejected.sekvensnummer) == ("10001", 4, None)


@pytest.mark.parametrize(
    "element",
    [
        changed(trekkid=SKYLDNER, opprettet="x"),
        changed(trekkid=f"a{SKYLDNER}b", skyldner=MISSING),
        changed(trekkid=SKYLDNER, skyldner=int(SKYLDNER)),
        changed(trekkpliktig=SKYLDNER),
        changed(trekkid="10001\x7f", skyldner=MISSING),
    ],
)
def test_a_trekkid_that_may_be_a_person_or_cannot_be_a_key_is_left_out(element: dict[str, Any]) -> None:
    rejected = read(element)
    assert isinstance(rejected, Rejected)
    assert rejected.trekkid is None


def test_the_raw_hash_is_that_of_the_value_not_of_its_text() -> None:
    def raw_hash(raw: bytes) -> bytes:
        rejected = read(raw)
        assert isinstance(rejected, Rejected)
        return rejected.raw_hash

    assert raw_hash(b'{"a": 1, "b": [2.50, {"x":1,"y":2}]}') == raw_hash(b'{"b":[2.50,{"y":2,"x":1}],"a":1}')
    assert raw_hash(b'{"a": 1}') != raw_hash(b'{"a": 2}')
    assert raw_hash(b'{"a": 0.1000000000000000000001}') != raw_hash(b'{"a": 0.1}')
    assert raw_hash(b'{"a": "\\ud800"}') != raw_hash(b'{"a": "\\ud801"}')


# Responses of the API: which hold elements, and which are no answer and are requested again


@pytest.mark.parametrize("body", [b"", b" \r\n", b"[]", b" [ ] ", b"\xef\xbb\xbf[]"])
def test_an_empty_answer_holds_no_element(body: bytes) -> None:
    assert read_elements(body, TREKKPLIKTIG) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>Logg inn " + SKYLDNER.encode(), "markup"),
        (b'{"kode":"KB-001"}', "a JSON object"),
        (b"null", "something else"),
        (encoded([PLAIN, OTHER])[:-1], "a JSON array"),
        (encoded([PLAIN, OTHER])[:-200], "a JSON array"),
        (encoded([PLAIN]) + b"]", "a JSON array"),
        (b'[{"trekkid": "\\ud800"', "a JSON array"),
        (b"[" * 100_000, "a JSON array"),
        (b"\xff\xfe[", "something else"),
    ],
)
def test_a_body_that_is_no_array_or_cut_off_is_described_without_its_content(body: bytes, told: str) -> None:
    with pytest.raises(RetryableError) as caught:
        read_elements(body, TREKKPLIKTIG, "text/HTML; charset=utf-8")
    assert f"text/html, {len(body)} bytes, begins as {told}" in str(caught.value)
    assert SKYLDNER not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b'[{"partIdentifikator":"1","aapentKravMedGjenstaaendeBeloep":[]}]', b"[1,2]", b"[{}]"]
)
def test_objects_of_another_api_are_recognised(body: bytes) -> None:
    with pytest.raises(RetryableError, match="another API's objects"):
        read_elements(body, TREKKPLIKTIG)


def test_one_object_with_a_sekvensnummer_is_enough_to_believe_a_page() -> None:
    first, second = read_elements(b'[{"partIdentifikator":"1"},{"sekvensnummer":"x"}]', TREKKPLIKTIG)
    assert isinstance(first, Rejected)
    assert isinstance(second, Rejected)


def test_a_single_answer_is_one_object() -> None:
    assert isinstance(read_trekkpaalegg(encoded(PLAIN), TREKKPLIKTIG), Trekkpaalegg)
    assert isinstance(read_trekkpaalegg(encoded(changed(opprettet="x")), TREKKPLIKTIG), Rejected)
    for body in (encoded([PLAIN]), b"", b"<html>", encoded(PLAIN)[:-1], b'{"kode":"KB-001"}'):
        with pytest.raises(RetryableError, match="no trekkpålegg"):
            read_trekkpaalegg(body, TREKKPLIKTIG)
