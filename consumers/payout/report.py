"""What is reported of a payout: the a-melding, the JSON document of the contract, and a table for people. Pure."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.ledger.payroll import Postering
from consumers.payout.deduction import ZERO, plain
from consumers.payout.payment import Payment
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sized
    from typing import TextIO

_ROWS_MAX = 200
_VARSLER_MAX = 50
_WIDTH_MIN = 40
_WIDTH_DEFAULT = 140


TREKKTYPE = "utleggstrekkSamordnet"
"""Skatteetaten's type for deductions by coordinated orders, which all of these are."""


class AmeldingLine(msgspec.Struct, frozen=True, gc=False):
    """What was withheld from one person at one payout, in whole kroner."""

    skyldner: Foedselsnummer
    beloep: Decimal
    dato: date


class Amelding(msgspec.Struct, frozen=True):
    """One line for each person, and the sum. Source: Skatteetaten, "Utleggstrekk i a-meldingen"."""

    lines: tuple[AmeldingLine, ...]
    total: Decimal


def amelding_of(postings: Iterable[Postering]) -> Amelding:
    """The lines in the order of the postings. Persons from whom nothing is withheld have no line."""
    by_person: dict[tuple[Foedselsnummer, date], Decimal] = {}
    for each in postings:
        if each.beloep:
            key = (each.skyldner, each.utbetalingsdato)
            by_person[key] = by_person.get(key, Decimal(0)) + each.beloep
    lines = tuple(AmeldingLine(skyldner, beloep, dato) for (skyldner, dato), beloep in by_person.items())
    return Amelding(lines, sum(by_person.values(), Decimal(0)))


class Report(msgspec.Struct, frozen=True):
    """Everything that is shown of a payout."""

    utbetalingsdato: date
    lines: list[Postering]
    payments: list[Payment]
    amelding: Amelding
    varsler: list[str]


def document_of(report: Report) -> dict[str, Any]:
    """The document that `--json` prints. Amounts are decimal strings in kroner; it contains national ids."""
    return {
        "trekk": [
            {
                "trekkid": each.trekkid,
                "trekkversjon": each.trekkversjon,
                "skyldner": each.skyldner.reveal(),
                "beloep": f"{each.beloep:.2f}",
                "grunnlag": each.grunnlag,
            }
            for each in report.lines
        ],
        "betalinger": [
            {
                "trekkid": each.trekkid,
                "kidnummer": each.payee.kidnummer,
                "kontonummer": each.payee.kontonummer,
                "betalingsmottaker": each.payee.betalingsmottaker,
                "beloep": f"{each.beloep:.2f}",
                "forfallsdato": each.forfallsdato.isoformat(),
            }
            for each in report.payments
        ],
        "amelding": {
            "linjer": [
                {
                    "skyldner": each.skyldner.reveal(),
                    "type": TREKKTYPE,
                    "beloep": f"{each.beloep:.0f}",
                    "dato": each.dato.isoformat(),
                }
                for each in report.amelding.lines
            ],
            "sum": f"{report.amelding.total:.0f}",
        },
        "varsler": report.varsler,
    }


def json_of(report: Report) -> str:
    """The document as text, one value a line, so that two runs can be compared."""
    return msgspec.json.format(msgspec.json.encode(document_of(report)), indent=2).decode() + "\n"


def print_tables(report: Report, lines: Mapping[Foedselsnummer, int], file: TextIO, width: int | None) -> None:
    """Print tables for people. `lines`: each person's line in the gross pay file, shown instead of the national id."""
    console = Console(file=file, width=max(width or _WIDTH_DEFAULT, _WIDTH_MIN), highlight=False)
    table = Table(title=f"Trekk at the payout of {report.utbetalingsdato}", title_justify="left")
    for name in ("line", "person", "trekkid", "version"):
        table.add_column(name, no_wrap=name != "trekkid")
    table.add_column("kr", justify="right", no_wrap=True)
    table.add_column("why")
    for each in report.lines[:_ROWS_MAX]:
        line = lines.get(each.skyldner)
        table.add_row(
            *("" if line is None else str(line), f"{each.skyldner}", escape(each.trekkid), str(each.trekkversjon)),
            *(plain(each.beloep), escape(each.grunnlag)),
        )
    console.print(table)
    if len(report.lines) > _ROWS_MAX:
        console.print(f"and {len(report.lines) - _ROWS_MAX} lines more; --json and the files have all")
    total = sum((each.beloep for each in report.payments), ZERO)
    console.print(f"{_count(report.payments, 'payment')} of {plain(total)} kr in all{_due(report.payments)}")
    console.print(
        f"a-melding, {TREKKTYPE}: {_count(report.amelding.lines, 'person')}, {plain(report.amelding.total)} kr in all"
    )
    if report.varsler:
        console.print(f"\n{len(report.varsler)} to check:")
    for varsel in report.varsler[:_VARSLER_MAX]:
        console.print(f"- {escape(varsel)}", soft_wrap=True)
    if len(report.varsler) > _VARSLER_MAX:
        console.print(f"- and {len(report.varsler) - _VARSLER_MAX} more; --json has all")


def _count(every: Sized, noun: str) -> str:
    return f"{len(every)} {noun}" + ("" if len(every) == 1 else "s")


def _due(payments: list[Payment]) -> str:
    days = sorted({each.forfallsdato for each in payments})
    return f", due {' and '.join(str(day) for day in days)}" if days else ""
