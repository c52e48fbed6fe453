"""Executes a payout: decides, records, writes the files, reports. Also checks whether one may be taken back.

A payout is taken back as a whole, before money was sent. Later payouts of its orders depend on it: on how much of the
month's amount it left, and on the payee of its payments. So payouts are taken back in reverse order.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.payroll import payroll_transaction
from consumers.payout.decision import PayoutDecision, decide_payout
from consumers.payout.deduction import ZERO, Payout, Rules, plain
from consumers.payout.files import OutputFiles, write_files
from consumers.payout.gross_file import digest_of
from consumers.payout.pain001 import Payer
from consumers.payout.payment import betalingsoppdrag_of, payments_of
from consumers.payout.report import Report, amelding_of
from trekkpaalegg.errors import FatalError, SettingsError
from trekkpaalegg.identifiers import is_valid_kontonummer

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from consumers.ledger.payroll import Recorded
    from consumers.payout.deduction import Pay


_NAMED_MAX = 5


def payout_title(day: date, name: str) -> str:
    """The payout's date and name, for people."""
    return f"the payout of {day}" + (f' named "{name}"' if name else "")


def require_reversible(recorded: Recorded, day: date, name: str) -> None:
    """Raise `FatalError` if the payout is not recorded, or if a later payout depends on it."""
    payout = payout_title(day, name)
    if not recorded.postings and not recorded.file_count:
        raise FatalError(f"{payout} is not recorded in this ledger: check --date and --payout")
    if recorded.later:
        named = [payout_title(*each) for each in recorded.later[:_NAMED_MAX]]
        if len(recorded.later) > _NAMED_MAX:
            named.append("others")
        raise FatalError(
            f"{payout} cannot be taken back: later payouts depend on it: {', '.join(named)}; take back the last first"
        )


def summary_of(recorded: Recorded, day: date, name: str) -> str:
    """One line about a recorded payout, without national ids."""
    postings = recorded.postings
    files = {(each.trekkpliktig, each.betalingsoppdrag) for each in postings if each.betalingsoppdrag}
    employers = sorted({each.trekkpliktig for each in postings})
    total = sum((each.beloep for each in postings), ZERO)
    return (
        f"{payout_title(day, name)}: {len(postings)} orders of {', '.join(employers) or 'nobody'}, "
        f"{plain(total)} kr, {len(files)} files of payments"
    )


class PayoutRequest(msgspec.Struct, frozen=True):
    """The payout to execute, and the files to write."""

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


def execute_payout(engine: Engine, request: PayoutRequest, pays: list[Pay]) -> tuple[Report, list[Path]]:
    """The report, and the files written. No file is written before the payout is recorded in the ledger.

    Steps: 1. read, decide and record in one transaction; 2. write the files; 3. make the report.
    """
    decision = _record(engine, request, pays)
    amelding = amelding_of(decision.lines)
    written: list[Path] = []
    said: list[str] = []
    if request.files.paths():
        every = betalingsoppdrag_of(decision.in_files)
        written, said = write_files(request.files, every, amelding, request.payer)
    varsler = [*decision.varsler, *said]
    if request.payer is not None and not is_valid_kontonummer(request.payer.kontonummer):
        varsler.append("--debtor-account: fails its check digit: a typing error?")
    report = Report(request.utbetalingsdato, decision.lines, payments_of(decision.lines), amelding, varsler)
    return report, written


def _record(engine: Engine, request: PayoutRequest, pays: list[Pay]) -> PayoutDecision:
    digest = digest_of(pays, request.trekkpliktig)
    with payroll_transaction(engine, read_only=request.dry_run) as transaction:
        view = transaction.read(request.utbetalingsdato, request.name, request.trekkpliktig, digest)
        # Not before the transaction has begun: what is recorded later must carry a later time.
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
        decision = decide_payout(payout, pays, view)
        if request.files.pain001 is not None and len({each.trekkpliktig for each in decision.in_files}) > 1:
            raise SettingsError(["--trekkpliktig: missing; one file of --pain001 pays from one employer's account"])
        if not request.dry_run:
            transaction.write(decision.new, decision.released)
            if not view.is_known_file:
                transaction.record_file(request.utbetalingsdato, request.name, digest, now)
    return decision
