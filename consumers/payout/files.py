"""Files for the bank and the a-melding. Each is written completely or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumers.payout.pain001 import Pain001Version, Payer, pain001_of, payable
from consumers.payout.report import TREKKTYPE
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumers.payout.payment import Betalingsoppdrag
    from consumers.payout.report import Amelding


class OutputFiles(msgspec.Struct, frozen=True):
    """The files to write; None: not requested."""

    payments_csv: Path | None = None
    pain001: Path | None = None
    amelding: Path | None = None
    pain001_version: Pain001Version = Pain001Version.V09

    def paths(self) -> list[Path]:
        """The requested files."""
        return [path for path in (self.payments_csv, self.pain001, self.amelding) if path is not None]


def write_files(
    files: OutputFiles, every: Sequence[Betalingsoppdrag], amelding: Amelding, payer: Payer | None
) -> tuple[list[Path], list[str]]:
    """Write the files; returns their paths, and warnings about payments that a file cannot contain.

    A payout whose payments were released in several steps has several payment files: the names of the second and
    later ones end in their number. Send each once. Raises `FatalError`.
    """
    contents: list[tuple[Path, bytes]] = []
    varsler: list[str] = []
    for oppdrag in every:
        if files.payments_csv is not None:
            contents.append((_numbered(files.payments_csv, oppdrag, every), payments_csv(oppdrag)))
        if files.pain001 is not None and payer is not None:
            fitting, said = payable(oppdrag.payments)
            varsler += said
            if fitting:
                xml = pain001_of(oppdrag, fitting, payer, files.pain001_version)
                contents.append((_numbered(files.pain001, oppdrag, every), xml))
    if files.amelding is not None:
        contents.append((files.amelding, amelding_csv(amelding)))
    for path, content in contents:
        _write_atomically(path, content)
    return [path for path, _ in contents], varsler


def payments_csv(oppdrag: Betalingsoppdrag) -> bytes:
    """CSV with one line for each payment."""
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
    """CSV with one line for each person, then the sum. Contains national ids."""
    header = ("skyldner", "type", "beloep", "dato")
    rows = [(each.skyldner.reveal(), TREKKTYPE, f"{each.beloep:.0f}", each.dato.isoformat()) for each in amelding.lines]
    return _csv([header, *rows, ("sum", TREKKTYPE, f"{amelding.total:.0f}", "")])


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _numbered(path: Path, oppdrag: Betalingsoppdrag, every: Sequence[Betalingsoppdrag]) -> Path:
    """The path itself for the first file; others get the employer, if there are several, and their number."""
    place = every.index(oppdrag)
    if place == 0:
        return path
    several = len({each.trekkpliktig for each in every}) > 1
    employer = f"-{oppdrag.trekkpliktig}" if several else ""
    return path.with_name(f"{path.stem}{employer}-{oppdrag.number}{path.suffix}")


def _write_atomically(path: Path, content: bytes) -> None:
    """Replace the file atomically, readable by its owner only. A crash leaves the old file, or none."""
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
            f"{path}: cannot be written ({type(error).__name__}); the payout is recorded: free disk space or give"
            " another path, and run the same command again"
        ) from error
