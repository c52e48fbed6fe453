"""A setting or a file in, the employers to read for out; a file is read again when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.domain.identifiers import ORGANISASJONSNUMMER_DIGITS, is_valid_organisasjonsnummer
from producer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from producer.settings import Settings

_FAULTS_SHOWN_MAX = 50


class Trekkpliktig(msgspec.Struct, frozen=True, gc=False):
    """One employer or benefit payer. `external_ref` goes into the Maskinporten grant when given."""

    organisasjonsnummer: str
    external_ref: str | None = None


class TrekkpliktigeRead(msgspec.Struct, frozen=True):
    """The employers read, in the order given, and what is odd about them without being wrong."""

    trekkpliktige: tuple[Trekkpliktig, ...]
    warnings: tuple[str, ...] = ()


def parse_trekkpliktige_file(text: str, source: str) -> TrekkpliktigeRead:
    """Read one employer a line: nine digits, and an optional `,externalRef`. `#` begins a comment.

    Raises `SettingsError` with every faulty line, and when there is none at all: an empty list is never an answer.
    No message holds what stood on the line, which may be a national id in the wrong place.
    """
    places = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        organisasjonsnummer, _, external_ref = (part.strip() for part in line.partition("#")[0].partition(","))
        if organisasjonsnummer or external_ref:
            places.append((f"{source}: line {number}", Trekkpliktig(organisasjonsnummer, external_ref or None)))
    return _checked(places, source)


def parse_trekkpliktige(text: str, source: str) -> TrekkpliktigeRead:
    """Read the comma-separated form. Raises `SettingsError` as `parse_trekkpliktige_file`."""
    parts = text.split(",")
    places = [(f"{source}: entry {number}", Trekkpliktig(part.strip())) for number, part in enumerate(parts, start=1)]
    return _checked(places, source)


def read_trekkpliktige(path: Path) -> TrekkpliktigeRead:
    """As `parse_trekkpliktige_file`, of a file. Raises `SettingsError` also when it cannot be read."""
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
        if not (len(number) == ORGANISASJONSNUMMER_DIGITS and number.isascii() and number.isdigit()):
            faults.append(f"{place}: not an organisation number of {ORGANISASJONSNUMMER_DIGITS} digits")
        elif number in seen:
            faults.append(f"{place}: {number} is given twice")
        else:
            seen[number] = trekkpliktig
            if not is_valid_organisasjonsnummer(number):
                warnings.append(f"{place}: the check digit of {number} does not hold; read all the same")
    if not seen and not faults:
        faults.append(f"{source}: no organisation number in it")
    if faults:
        more = len(faults) - _FAULTS_SHOWN_MAX
        raise SettingsError(faults[:_FAULTS_SHOWN_MAX] + ([f"{source}: and {more} more faults"] if more > 0 else []))
    return TrekkpliktigeRead(tuple(seen.values()), tuple(warnings))


class TrekkpliktigeList:
    """The employers to read for now. `current` looks whether the file has changed and reads it again if so.

    What is odd about the first reading stands in the settings' own warnings. A new file that cannot be read, is
    faulty or empty leaves the former list standing and gives `warn` one message each time it changes: losing all
    employers by a slip of an editor must not look like having none.
    """

    def __init__(self, settings: Settings, warn: Callable[[str], None]) -> None:
        self._path = settings.trekkpliktige_file
        self._single = settings.authentication == "egen"
        self._warn = warn
        self._seen = self._stamp()
        if self._path is None:
            self._trekkpliktige = tuple(map(Trekkpliktig, settings.trekkpliktige))
        else:
            self._trekkpliktige = self._read(self._path).trekkpliktige

    def current(self) -> tuple[Trekkpliktig, ...]:
        """The employers, in the order given; the same object as long as nothing has changed."""
        stamp = self._stamp()
        if self._path is not None and stamp != self._seen:
            try:
                read = self._read(self._path)
            except SettingsError as error:
                self._warn(f"{error.faults[0]}; the former list of {len(self._trekkpliktige)} stays in use")
            else:
                self._trekkpliktige = read.trekkpliktige
                for warning in read.warnings:
                    self._warn(warning)
            # Stamped before the read: a change during it is seen by the next call.
            self._seen = stamp
        return self._trekkpliktige

    def _read(self, path: Path) -> TrekkpliktigeRead:
        read = read_trekkpliktige(path)
        require_single(read, single=self._single)
        return read

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None


def require_single(read: TrekkpliktigeRead, *, single: bool) -> None:
    """Raise `SettingsError` when only one employer may be given and there are more."""
    if single and len(read.trekkpliktige) > 1:
        count = len(read.trekkpliktige)
        raise SettingsError(
            [f"TREKKPAALEGG_AUTHENTICATION: egen reads for one organisation, its own; {count} trekkpliktige are given"]
        )
