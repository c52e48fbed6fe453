"""A payout's postings in, the lines and the sum that the a-melding asks for out. Pure."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.ledger.payroll import Postering

TREKKTYPE = "utleggstrekkSamordnet"
"""Skatteetaten's word for deductions by coordinated orders, which all of these are."""


class AmeldingLine(msgspec.Struct, frozen=True, gc=False):
    """What one person had withheld at one payout, whole kroner."""

    skyldner: Foedselsnummer
    beloep: Decimal
    dato: date


class Amelding(msgspec.Struct, frozen=True):
    """One line a person, and what is to be paid in all. Source: Skatteetaten, "Utleggstrekk i a-meldingen"."""

    lines: tuple[AmeldingLine, ...]
    total: Decimal


def amelding_of(postings: Iterable[Postering]) -> Amelding:
    """In the order of the postings. Persons of whom nothing is withheld have no line."""
    by_person: dict[tuple[Foedselsnummer, date], Decimal] = {}
    for each in postings:
        if each.beloep:
            key = (each.skyldner, each.utbetalingsdato)
            by_person[key] = by_person.get(key, Decimal(0)) + each.beloep
    lines = tuple(AmeldingLine(skyldner, beloep, dato) for (skyldner, dato), beloep in by_person.items())
    return Amelding(lines, sum(by_person.values(), Decimal(0)))
