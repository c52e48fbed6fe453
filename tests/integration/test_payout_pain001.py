"""The message to the bank, held against the schemas of ISO 20022."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from random import Random

import msgspec
import pytest
import xmlschema

from consumers.ledger.payroll import Payee, Postering
from consumers.payout.pain001 import Pain001Version, Payer, pain001_of
from consumers.payout.payment import betalingsoppdrag_of
from sandbox.skatteetaten.generate import synthetic_kidnummer, synthetic_kontonummer, synthetic_organisasjonsnummer
from trekkpaalegg.identifiers import Foedselsnummer

RANDOM = Random(5)
PAYER = Payer("Å & Sønner <AS>", synthetic_kontonummer(RANDOM), "DNBANOKK", "")


def posting(trekkid: str, due: date = date(2026, 2, 23)) -> Postering:
    return Postering(
        utbetalingsdato=date(2026, 2, 20),
        utbetaling="",
        trekkid=trekkid,
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
        forfallsdato=due,
        betalingsoppdrag=1,
        recorded=datetime(2026, 2, 18, 9, 30, tzinfo=UTC),
    )


def document(version: Pain001Version, payer: Payer = PAYER) -> str:
    (oppdrag,) = betalingsoppdrag_of([posting("10001"), posting("a" * 400), posting("10003", date(2026, 2, 24))])
    return pain001_of(oppdrag, oppdrag.payments, payer, version).decode()


@pytest.fixture(scope="module")
def schemas() -> dict[Pain001Version, xmlschema.XMLSchema]:
    folder = files("sepaxml").joinpath("schemas")
    return {
        version: xmlschema.XMLSchema(folder.joinpath(f"pain.001.001.{version}.xsd").read_text(encoding="utf-8"))
        for version in Pain001Version
    }


@pytest.mark.parametrize("version", list(Pain001Version))
@pytest.mark.parametrize("bic", ["DNBANOKK", ""])
def test_the_message_is_valid(schemas: dict, version: Pain001Version, bic: str) -> None:
    payer = msgspec.structs.replace(PAYER, bic=bic)
    schemas[version].validate(document(version, payer))


def test_the_schema_would_refuse_what_is_no_message(schemas: dict) -> None:
    assert not schemas[Pain001Version.V09].is_valid(document(Pain001Version.V09).replace("MsgId", "MessageId"))
