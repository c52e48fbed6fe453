"""The list of employers to read for (trekkpliktige), from a setting or from a file: its form and its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trekkpaalegg.errors import SettingsError
from trekkpaalegg.identifiers import ORGANISASJONSNUMMER_DIGITS, is_digits, is_valid_organisasjonsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FAULTS_SHOWN_MAX = 50


class Trekkpliktig(msgspec.Struct, frozen=True, gc=False):
    """An employer or benefit payer. `external_ref`, if given, goes into the Maskinporten grant."""

    organisasjonsnummer: str
    external_ref: str | None = None


class TrekkpliktigeRead(msgspec.Struct, frozen=True):
    """The employers in the order given, and what is unusual about them without being wrong."""

    trekkpliktige: tuple[Trekkpliktig, ...]
    warnings: tuple[str, ...] = ()

    def require_single(self, authentication: str) -> None:
        """Raise `SettingsError` if this way of authentication reads for one employer only and there are more."""
        if authentication == "egen" and len(self.trekkpliktige) > 1:
            given = f"{len(self.trekkpliktige)} trekkpliktige are given"
            raise SettingsError([f"TREKKPAALEGG_AUTHENTICATION: egen reads for one organisation, its own; {given}"])


def parse_trekkpliktige_file(text: str, source: str) -> TrekkpliktigeRead:
    """Read one employer a line: nine digits, and an optional `,externalRef`. `#` begins a comment.

    Raises `SettingsError` with every faulty line, and for an empty list. No message quotes a line: it may be a national
    id in the wrong place.
    """
    places = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        organisasjonsnummer, _, external_ref = (part.strip() for part in line.partition("#")[0].partition(","))
        if organisasjonsnummer or external_ref:
            places.append((f"{source}: line {number}", Trekkpliktig(organisasjonsnummer, external_ref or None)))
    return _checked(places, source)


def parse_trekkpliktige(text: str, source: str) -> TrekkpliktigeRead:
    """Read organisation numbers separated by commas. Raises as `parse_trekkpliktige_file`."""
    parts = text.split(",")
    places = [(f"{source}: entry {number}", Trekkpliktig(part.strip())) for number, part in enumerate(parts, start=1)]
    return _checked(places, source)


def read_trekkpliktige(path: Path) -> TrekkpliktigeRead:
    """Read a file as `parse_trekkpliktige_file` does. Raises `SettingsError` also if it cannot be read."""
    source = f"TREKKPAALEGG_TREKKPLIKTIGE_FILE {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{source}: cannot be read ({type(error).__name__})"]) from error
    return parse_trekkpliktige_file(text, source)


def _checked(places: Iterable[tuple[str, Trekkpliktig]], source: str) -> TrekkpliktigeRead:
    faults: list[str] = []
    warnings: list[str] = []
    seen: dict[str, Trekkpliktig] = {}
    for place, trekkpliktig in places:
        number = trekkpliktig.organisasjonsnummer
        if not is_digits(number, ORGANISASJONSNUMMER_DIGITS):
            faults.append(f"{place}: not an organisation number of {ORGANISASJONSNUMMER_DIGITS} digits")
        elif number in seen:
            faults.append(f"{place}: {number} is given twice")
        else:
            seen[number] = trekkpliktig
            if not is_valid_organisasjonsnummer(number):
                warnings.append(f"{place}: the check digit of {number} is wrong; it is read all the same")
    if not seen and not faults:
        faults.append(f"{source}: no organisation number in it")
    if faults:
        more = len(faults) - _FAULTS_SHOWN_MAX
        raise SettingsError(faults[:_FAULTS_SHOWN_MAX] + ([f"{source}: and {more} more faults"] if more > 0 else []))
    return TrekkpliktigeRead(tuple(seen.values()), tuple(warnings))
