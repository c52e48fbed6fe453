"""A request and the persons' pay in; the payout settled, recorded and written to files, and a report out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumers.errors import SettingsError
from consumers.ledger.postering import payroll_transaction
from consumers.payout.amelding import amelding_of
from consumers.payout.check_digits import is_valid_kontonummer
from consumers.payout.deduction import Payout, Rules
from consumers.payout.files import OutputFiles, write_files
from consumers.payout.gross_file import digest_of
from consumers.payout.pain001 import Payer
from consumers.payout.payment import betalingsoppdrag_of, payments_of
from consumers.payout.report import Report
from consumers.payout.settlement import Settlement, settle

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from consumers.payout.deduction import Pay


class Request(msgspec.Struct, frozen=True):
    """One payout to work through, and what to write of it."""

    utbetalingsdato: date
    name: str
    gross: Path
    forfallsdato: date
    rules: Rules
    trekkpliktig: frozenset[str]
    accepted: frozenset[str]
    dry_run: bool
    files: OutputFiles
    payer: Payer | None


def perform(engine: Engine, request: Request, pays: list[Pay]) -> tuple[Report, list[Path]]:
    """The report, and the files written. Nothing is written before the payout stands in the ledger.

    Steps: 1. read, settle and record in one transaction; 2. files; 3. the report. Raises as its parts.
    """
    settlement = _record(engine, request, pays)
    amelding = amelding_of(settlement.lines)
    written: list[Path] = []
    said: list[str] = []
    if request.files.paths():
        every = betalingsoppdrag_of(settlement.in_files)
        written, said = write_files(request.files, every, amelding, request.payer)
    varsler = [*settlement.varsler, *said]
    if request.payer is not None and not is_valid_kontonummer(request.payer.kontonummer):
        varsler.append("--debtor-account: fails its check digit: a typing error?")
    report = Report(request.utbetalingsdato, settlement.lines, payments_of(settlement.lines), amelding, varsler)
    return report, written


def _record(engine: Engine, request: Request, pays: list[Pay]) -> Settlement:
    digest = digest_of(pays, request.trekkpliktig)
    with payroll_transaction(engine, read_only=request.dry_run) as transaction:
        view = transaction.read(request.utbetalingsdato, request.name, request.trekkpliktig, digest)
        # Only now: what is recorded later must carry a later time.
        now = datetime.now(UTC)
        payout = Payout(
            request.utbetalingsdato,
            request.name,
            request.forfallsdato,
            request.rules,
            request.trekkpliktig,
            request.accepted,
            now,
        )
        settlement = settle(payout, pays, view)
        if request.files.pain001 is not None and len({each.trekkpliktig for each in settlement.in_files}) > 1:
            raise SettingsError(["--trekkpliktig: missing; one file of --pain001 pays from one employer's account"])
        if not request.dry_run:
            transaction.write(settlement.new, settlement.released)
            if not view.is_known_file:
                transaction.note_file(request.utbetalingsdato, request.name, digest, now)
    return settlement
