"""Due dates, files of payments, the message to the bank and the a-melding."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from xml.etree import ElementTree as ET

import msgspec
import pytest

from consumers.ledger.payroll import Payee, Postering
from consumers.payout.files import amelding_csv, payments_csv
from consumers.payout.pain001 import Pain001Version, Payer, pain001_of, payable
from consumers.payout.payment import (
    betalingsoppdrag_of,
    check_digit_varsler,
    christmas_eve_between,
    due_date,
    payments_of,
)
from consumers.payout.report import amelding_of
from sandbox.skatteetaten.generate import synthetic_kidnummer, synthetic_kontonummer, synthetic_organisasjonsnummer
from trekkpaalegg.identifiers import (
    Foedselsnummer,
)

RANDOM = Random(5)
PAYER = Payer("Å & Sønner <AS>", synthetic_kontonummer(RANDOM), "DNBANOKK", "")
POSTING = Postering(
    utbetalingsdato=date(2026, 2, 20),
    utbetaling="",
    trekkid="10001",
    trekkversjon=1,
    trekkpliktig="310000003",
    skyldner=Foedselsnummer("01810112345"),
    brutto=Decimal(30000),
    beloep=Decimal(5100),
    trekkbeloep=None,
    trekkprosent=Decimal(17),
    allerede_trukket=Decimal(0),
    grunnlag="17 % of 30000 kr",
    varsler=(),
    payee=Payee(synthetic_organisasjonsnummer(RANDOM), synthetic_kidnummer(17), synthetic_kontonummer(RANDOM)),
    forfallsdato=date(2026, 2, 23),
    betalingsoppdrag=1,
    recorded=datetime(2026, 2, 18, 9, 30, tzinfo=UTC),
)


def posting(trekkid: str, **changes: object) -> Postering:
    return msgspec.structs.replace(POSTING, trekkid=trekkid, **changes)


@pytest.mark.parametrize(
    ("payout", "due"),
    [
        ("2026-02-19", "2026-02-20"),  # Thursday: Friday
        ("2026-02-20", "2026-02-23"),  # Friday: Monday
        ("2026-04-01", "2026-04-07"),  # before Easter: Tuesday after it
        ("2026-04-30", "2026-05-04"),  # 1 May is a Friday
        ("2026-05-13", "2026-05-15"),  # Ascension Day
        ("2027-05-14", "2027-05-18"),  # 17 May is Whit Monday
        ("2026-12-22", "2026-12-23"),
        ("2026-12-23", "2026-12-28"),  # 24 December is no day of settlement
        ("2026-12-30", "2026-12-31"),  # 31 December is one
        ("2026-12-31", "2027-01-04"),
    ],
)
def test_payments_are_due_on_the_next_banking_day(payout: str, due: str) -> None:
    assert due_date(date.fromisoformat(payout)) == date.fromisoformat(due)


def test_christmas_eve_counts_when_asked_and_is_reported_when_not() -> None:
    payout = date(2026, 12, 23)
    assert due_date(payout, christmas_eve=True) == date(2026, 12, 24)
    assert christmas_eve_between(payout, due_date(payout))
    assert not christmas_eve_between(payout, date(2026, 12, 24))
    assert not christmas_eve_between(date(2028, 12, 22), due_date(date(2028, 12, 22))), "a Sunday counts for nobody"


def document(postings: list[Postering], version: Pain001Version, payer: Payer = PAYER) -> bytes:
    (oppdrag,) = betalingsoppdrag_of(postings)
    return pain001_of(oppdrag, oppdrag.payments, payer, version)


def test_the_message_has_account_kid_payee_amount_and_day() -> None:
    root = ET.fromstring(document([POSTING], Pain001Version.V09))  # noqa: S314 - our own text
    texts = {element.tag.rpartition("}")[2]: element.text for element in root.iter()}
    assert texts["InstdAmt"] == texts["CtrlSum"] == "5100.00"
    assert texts["Dt"] == "2026-02-23"
    assert texts["Ref"] == POSTING.payee.kidnummer
    assert texts["BICFI"] == "DNBANOKK"
    ids = [element.text for element in root.iter() if element.tag.endswith("}Id") and element.text]
    ids = [each for each in ids if each.strip()]
    assert ids == [
        *("310000003", "310000003", PAYER.kontonummer),
        *(POSTING.payee.betalingsmottaker, POSTING.payee.kontonummer),
    ]


def test_a_message_repeats_itself_and_another_payout_has_another_id() -> None:
    once = document([POSTING, posting("10002")], Pain001Version.V09)
    assert document([posting("10002"), POSTING], Pain001Version.V09) == once
    others = [
        posting("10001", beloep=Decimal(5101)),
        posting("10001", utbetaling="bonus"),
        posting("10001", utbetalingsdato=date(2026, 3, 20)),
        posting("10001", betalingsoppdrag=2),
    ]
    every = [betalingsoppdrag_of([each])[0].message_id for each in [POSTING, *others]]
    assert len(set(every)) == 5
    assert all(len(each) <= 35 for each in every)


def test_what_the_message_cannot_hold_is_left_out_and_reported() -> None:
    odd = msgspec.structs.replace(POSTING.payee, kontonummer="")
    payments = payments_of([POSTING, posting("10002", payee=odd)])
    good, varsler = payable(payments)
    assert [each.trekkid for each in good] == ["10001"]
    assert varsler[0].startswith("10002: its account, KID or payee")


def test_held_back_payments_are_in_no_file_but_in_the_amelding() -> None:
    held = posting("10002", betalingsoppdrag=None)
    assert [each.trekkid for each in payments_of([POSTING, held])] == ["10001"]
    assert [len(each.payments) for each in betalingsoppdrag_of([POSTING, held])] == [1]
    assert amelding_of([POSTING, held]).total == 10200


def test_the_amelding_has_a_line_a_person_and_the_sum() -> None:
    other = Foedselsnummer("02810112345")
    amelding = amelding_of([POSTING, posting("10002"), posting("10003", skyldner=other, beloep=Decimal(0))])
    assert [(line.skyldner.reveal(), line.beloep) for line in amelding.lines] == [("01810112345", 10200)]
    assert amelding_csv(amelding).decode().splitlines() == [
        "skyldner,type,beloep,dato",
        "01810112345,utleggstrekkSamordnet,10200,2026-02-20",
        "sum,utleggstrekkSamordnet,10200,",
    ]


def test_the_list_of_payments_has_a_line_for_each_order() -> None:
    (oppdrag,) = betalingsoppdrag_of([POSTING])
    payee = POSTING.payee
    assert payments_csv(oppdrag).decode().splitlines() == [
        "trekkid,kidnummer,kontonummer,betalingsmottaker,beloep,forfallsdato,betalingsoppdrag",
        f"10001,{payee.kidnummer},{payee.kontonummer},{payee.betalingsmottaker},5100.00,2026-02-23,{oppdrag.message_id}",
    ]


def test_failing_check_digits_are_reported_once_for_each_number() -> None:
    wrong = Payee("123456789", POSTING.payee.kidnummer, "12345678901")
    varsler = check_digit_varsler([POSTING, posting("10002", payee=wrong), posting("10003", payee=wrong)])
    assert varsler == [
        "10002: its kontonummer fails the check digits; 2 orders have it",
        "10002: its betalingsmottaker fails the check digits; 2 orders have it",
    ]
