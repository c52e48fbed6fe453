"""A settled payout in, files for bank and a-melding out, each written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumers.payout.amelding import TREKKTYPE
from consumers.payout.pain001 import Pain001Version, Payer, pain001_of, payable
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumers.payout.amelding import Amelding
    from consumers.payout.payment import Betalingsoppdrag


class OutputFiles(msgspec.Struct, frozen=True):
    """Where to write what; None: not asked for."""

    payments_csv: Path | None = None
    pain001: Path | None = None
    amelding: Path | None = None
    pain001_version: Pain001Version = Pain001Version.V09

    def paths(self) -> list[Path]:
        """All that are asked for."""
        return [path for path in (self.payments_csv, self.pain001, self.amelding) if path is not None]


def write_files(
    files: OutputFiles, every: Sequence[Betalingsoppdrag], amelding: Amelding, payer: Payer | None
) -> tuple[list[Path], list[str]]:
    """The paths written, and a word to a person for what could not be said in them.

    A payout whose payments were released in several steps gives several files of payments: the second and later ones
    carry their number in their name. Each is to be sent once. Raises `FatalError`.
    """
    contents: list[tuple[Path, bytes]] = []
    varsler: list[str] = []
    for oppdrag in every:
        if files.payments_csv is not None:
            contents.append((_numbered(files.payments_csv, oppdrag, every), payments_csv(oppdrag)))
        if files.pain001 is not None and payer is not None:
            good, said = payable(oppdrag.payments)
            varsler += said
            if good:
                xml = pain001_of(oppdrag, good, payer, files.pain001_version)
                contents.append((_numbered(files.pain001, oppdrag, every), xml))
    if files.amelding is not None:
        contents.append((files.amelding, amelding_csv(amelding)))
    for path, content in contents:
        _write_whole(path, content)
    return [path for path, _ in contents], varsler


def payments_csv(oppdrag: Betalingsoppdrag) -> bytes:
    """One line for each payment."""
    header = ("trekkid", "kidnummer", "kontonummer", "betalingsmottaker", "beloep", "forfallsdato", "betalingsoppdrag")
    rows = [
        (
            *(each.trekkid, each.payee.kidnummer, each.payee.kontonummer, each.payee.betalingsmottaker),
            *(f"{each.beloep:.2f}", each.forfallsdato.isoformat(), oppdrag.message_id),
        )
        for each in oppdrag.payments
    ]
    return _csv([header, *rows])


def amelding_csv(amelding: Amelding) -> bytes:
    """One line for each person, and last the sum. Holds national ids."""
    header = ("skyldner", "type", "beloep", "dato")
    rows = [(each.skyldner.reveal(), TREKKTYPE, f"{each.beloep:.0f}", each.dato.isoformat()) for each in amelding.lines]
    return _csv([header, *rows, ("sum", TREKKTYPE, f"{amelding.total:.0f}", "")])


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _numbered(path: Path, oppdrag: Betalingsoppdrag, every: Sequence[Betalingsoppdrag]) -> Path:
    """The path itself for the first file; for others with employer, where there are several, and number."""
    place = every.index(oppdrag)
    if place == 0:
        return path
    several = len({each.trekkpliktig for each in every}) > 1
    employer = f"-{oppdrag.trekkpliktig}" if several else ""
    return path.with_name(f"{path.stem}{employer}-{oppdrag.number}{path.suffix}")


def _write_whole(path: Path, content: bytes) -> None:
    """Readable by the owner alone. A crash leaves the former file, or none."""
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise FatalError(
            f"{path}: cannot be written ({type(error).__name__}); the payout is recorded: make room or give another"
            " place, and run the same again"
        ) from error
