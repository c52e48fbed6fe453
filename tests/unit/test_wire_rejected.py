"""Elements as the API sends them: which are rejected and why, and what a rejection says about them."""

from __future__ import annotations

from typing import Any

import pytest

from producer.domain.trekkpaalegg import Rejected, RejectionReason
from tests.unit.wire_elements import (
    BETALINGSINFORMASJON,
    MISSING,
    PERIODE,
    PLAIN,
    SKYLDNER,
    TREKKPLIKTIG,
    changed,
    encoded,
    read,
    with_number,
    with_periode,
)

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
def test_what_is_no_number_is_no_amount(number: str) -> None:
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
