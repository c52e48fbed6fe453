"""Payment files for the bank: ISO 20022 credit transfer initiation (pain.001), as banks in Norway accept it. Pure.

Sources: ISO 20022 pain.001.001.09 and .03; Bits and BSK, "Implementation guide pain.001": accounts as BBAN, the KID as
structured creditor reference (SCOR), domestic payments in NOK.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from consumers.payout.payment import Betalingsoppdrag, Payment

_NAME_LENGTH_MAX = 70
_ACCOUNT = re.compile(r"[0-9]{11}")
_KIDNUMMER = re.compile(r"[0-9]{1,24}[0-9-]")
_ORGANISATION = re.compile(r"[0-9]{9}")


class Pain001Version(StrEnum):
    """The version of the message; banks are moving from 03 to 09."""

    V03 = "03"
    V09 = "09"


class Payer(msgspec.Struct, frozen=True):
    """The payer and its account. `bic` of the payer's bank: empty if the bank does not need it.

    `organisasjonsnummer`: if empty, that of the payout's employer is used.
    """

    name: str
    kontonummer: str
    bic: str
    organisasjonsnummer: str


def payable(payments: Iterable[Payment]) -> tuple[list[Payment], list[str]]:
    """The payments that the message can contain, and a warning for each of the others."""
    good, varsler = [], []
    for each in payments:
        fitting = (
            _ACCOUNT.fullmatch(each.payee.kontonummer)
            and _KIDNUMMER.fullmatch(each.payee.kidnummer)
            and _ORGANISATION.fullmatch(each.payee.betalingsmottaker)
        )
        if fitting:
            good.append(each)
        else:
            varsler.append(
                f"{each.trekkid}: its account, KID or payee is not of the form that pain.001 requires: not in that"
                " file; pay it by hand"
            )
    return good, varsler


def pain001_of(oppdrag: Betalingsoppdrag, payments: Sequence[Payment], payer: Payer, version: Pain001Version) -> bytes:
    """The XML document. Equal payments give equal bytes, so that a bank recognises a duplicate."""
    payer = (
        payer if payer.organisasjonsnummer else msgspec.structs.replace(payer, organisasjonsnummer=oppdrag.trekkpliktig)
    )
    total = f"{sum(each.beloep for each in payments):.2f}"
    document = ET.Element("Document", xmlns=f"urn:iso:std:iso:20022:tech:xsd:pain.001.001.{version}")
    initiation = _add(document, "CstmrCdtTrfInitn")
    header = _add(initiation, "GrpHdr")
    _add(header, "MsgId", oppdrag.message_id)
    _add(header, "CreDtTm", oppdrag.created)
    _add(header, "NbOfTxs", str(len(payments)))
    _add(header, "CtrlSum", total)
    _add_party(header, "InitgPty", payer.name, payer.organisasjonsnummer)
    in_order = sorted(payments, key=lambda each: (each.forfallsdato, each.trekkid))
    for number, (due, same) in enumerate(groupby(in_order, key=lambda each: each.forfallsdato), start=1):
        _add_batch(initiation, f"{oppdrag.message_id}-{number}", due, list(same), (payer, version))
    ET.indent(document, "  ")
    text: bytes = ET.tostring(document, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"


def _add_batch(
    initiation: ET.Element, batch_id: str, due: date, payments: list[Payment], sender: tuple[Payer, Pain001Version]
) -> None:
    payer, version = sender
    batch = _add(initiation, "PmtInf")
    _add(batch, "PmtInfId", batch_id)
    _add(batch, "PmtMtd", "TRF")
    _add(batch, "NbOfTxs", str(len(payments)))
    _add(batch, "CtrlSum", f"{sum(each.beloep for each in payments):.2f}")
    execution = _add(batch, "ReqdExctnDt", "" if version is Pain001Version.V09 else due.isoformat())
    if version is Pain001Version.V09:
        _add(execution, "Dt", due.isoformat())
    _add_party(batch, "Dbtr", payer.name, payer.organisasjonsnummer)
    _add_account(batch, "DbtrAcct", payer.kontonummer, "NOK")
    bank = _add(_add(batch, "DbtrAgt"), "FinInstnId")
    if payer.bic:
        _add(bank, "BICFI" if version is Pain001Version.V09 else "BIC", payer.bic)
    else:
        _add(_add(bank, "Othr"), "Id", "NOTPROVIDED")
    for each in payments:
        _add_payment(batch, each)


def _add_payment(batch: ET.Element, payment: Payment) -> None:
    transfer = _add(batch, "CdtTrfTxInf")
    _add(_add(transfer, "PmtId"), "EndToEndId", payment.end_to_end_id)
    amount = _add(_add(transfer, "Amt"), "InstdAmt", f"{payment.beloep:.2f}")
    amount.set("Ccy", "NOK")
    # The event does not contain the payee's name, only its organisation number.
    payee = payment.payee.betalingsmottaker
    _add_party(transfer, "Cdtr", f"Betalingsmottaker {payee}", payee)
    _add_account(transfer, "CdtrAcct", payment.payee.kontonummer)
    reference = _add(_add(_add(transfer, "RmtInf"), "Strd"), "CdtrRefInf")
    _add(_add(_add(reference, "Tp"), "CdOrPrtry"), "Cd", "SCOR")
    _add(reference, "Ref", payment.payee.kidnummer)


def _add_party(parent: ET.Element, role: str, name: str, organisation: str) -> None:
    party = _add(parent, role)
    _add(party, "Nm", name[:_NAME_LENGTH_MAX])
    if organisation:
        other = _add(_add(_add(party, "Id"), "OrgId"), "Othr")
        _add(other, "Id", organisation)
        _add(_add(other, "SchmeNm"), "Cd", "COID")


def _add_account(parent: ET.Element, role: str, kontonummer: str, currency: str = "") -> None:
    account = _add(parent, role)
    other = _add(_add(account, "Id"), "Othr")
    _add(other, "Id", kontonummer)
    _add(_add(other, "SchmeNm"), "Cd", "BBAN")
    if currency:
        _add(account, "Ccy", currency)


def _add(parent: ET.Element, name: str, text: str = "") -> ET.Element:
    element = ET.SubElement(parent, name)
    element.text = text or None
    return element
