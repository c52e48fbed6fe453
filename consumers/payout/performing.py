"""Performing a payout: settle, record, write the files, report; and taking one back.

Taken back is a whole payout, before money was sent. What others have recorded of its orders since goes by it: how much
of the month's amount was left, and whom the last payment went to. So the last one is taken back first.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.payroll import payroll_transaction
from consumers.payout.amelding import amelding_of
from consumers.payout.deduction import ZERO, Payout, Rules, plain
from consumers.payout.files import OutputFiles, write_files
from consumers.payout.gross_file import digest_of
from consumers.payout.pain001 import Payer
from consumers.payout.payment import betalingsoppdrag_of, payments_of
from consumers.payout.report import Report
from consumers.payout.settlement import Settlement, settle
from trekkpaalegg.errors import FatalError, SettingsError
from trekkpaalegg.identifiers import is_valid_kontonummer

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from consumers.ledger.payroll import Recorded
    from consumers.payout.deduction import Pay


_NAMED_MAX = 5


def payout_words(day: date, name: str) -> str:
    """Which payout, for people."""
    return f"the payout of {day}" + (f' named "{name}"' if name else "")


def check_taking_back(recorded: Recorded, day: date, name: str) -> None:
    """Raise `FatalError` where nothing is recorded, or where a later payout builds on what is."""
    payout = payout_words(day, name)
    if not recorded.postings and not recorded.file_count:
        raise FatalError(f"{payout} is not recorded in this ledger: check --date and --payout")
    if recorded.later:
        named = [payout_words(*each) for each in recorded.later[:_NAMED_MAX]]
        if len(recorded.later) > _NAMED_MAX:
            named.append("others")
        raise FatalError(f"{payout} cannot be taken back: {', '.join(named)} build on it; take back the last one first")


def summary_of(recorded: Recorded, day: date, name: str) -> str:
    """What is to be taken back, in a line without national ids."""
    postings = recorded.postings
    files = {(each.trekkpliktig, each.betalingsoppdrag) for each in postings if each.betalingsoppdrag}
    employers = sorted({each.trekkpliktig for each in postings})
    total = sum((each.beloep for each in postings), ZERO)
    return (
        f"{payout_words(day, name)}: {len(postings)} orders of {', '.join(employers) or 'nobody'}, "
        f"{plain(total)} kr, {len(files)} files of payments"
    )


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
