"""Warnings about unusual content of a trekkpålegg. They are counted, and never a reason to reject. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from producer.domain.trekkpaalegg import Trekkstatus
from trekkpaalegg.identifiers import (
    is_valid_foedselsnummer,
    is_valid_kidnummer,
    is_valid_kontonummer,
    is_valid_organisasjonsnummer,
)

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Trekkpaalegg, TrekkstoerrelseForPeriode

SKYLDNER: Final = "skyldner_check_digits"
TREKKPLIKTIG: Final = "trekkpliktig_check_digit"
BETALINGSMOTTAKER: Final = "betalingsmottaker_check_digit"
KIDNUMMER: Final = "kidnummer_check_digit"
KONTONUMMER: Final = "kontonummer_check_digit"
PERIODE_OVERLAP: Final = "trekkstoerrelse_for_periode_overlap"
TREKKSTATUS_UKJENT: Final = "trekkstatus_ukjent"
UKJENTE_FELTER: Final = "ukjente_felter"
WARNINGS: Final = (
    SKYLDNER,
    TREKKPLIKTIG,
    BETALINGSMOTTAKER,
    KIDNUMMER,
    KONTONUMMER,
    PERIODE_OVERLAP,
    TREKKSTATUS_UKJENT,
    UKJENTE_FELTER,
)
"""Every name that `warnings_of` can return, for the labels of metrics."""


def warnings_of(trekkpaalegg: Trekkpaalegg) -> tuple[str, ...]:
    """The warnings, of `WARNINGS`, that apply to it; usually none.

    Rules: source/README.md, "Validity of numbers". Official examples and test data break them, so nothing is rejected.
    """
    betalingsinformasjon = trekkpaalegg.betalingsinformasjon
    periods = trekkpaalegg.trekkstoerrelse_for_periode
    found: list[str] = []
    if not is_valid_foedselsnummer(trekkpaalegg.skyldner):
        found.append(SKYLDNER)
    if not is_valid_organisasjonsnummer(trekkpaalegg.trekkpliktig):
        found.append(TREKKPLIKTIG)
    if not is_valid_organisasjonsnummer(betalingsinformasjon.betalingsmottaker):
        found.append(BETALINGSMOTTAKER)
    if not is_valid_kidnummer(betalingsinformasjon.kidnummer):
        found.append(KIDNUMMER)
    if not is_valid_kontonummer(betalingsinformasjon.kontonummer):
        found.append(KONTONUMMER)
    if len(periods) > 1 and _overlap(periods):
        found.append(PERIODE_OVERLAP)
    if trekkpaalegg.trekkstatus is Trekkstatus.UKJENT:
        found.append(TREKKSTATUS_UKJENT)
    if trekkpaalegg.ukjente_felter or betalingsinformasjon.ukjente_felter or any(p.ukjente_felter for p in periods):
        found.append(UKJENTE_FELTER)
    return tuple(found)


def _overlap(periods: tuple[TrekkstoerrelseForPeriode, ...]) -> bool:
    in_order = sorted(periods, key=lambda periode: periode.startdato)
    return any(
        earlier.sluttdato is None or later.startdato <= earlier.sluttdato for earlier, later in pairwise(in_order)
    )
