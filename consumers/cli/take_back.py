"""`take-back`: reverse a recorded payout, after a person has confirmed that no money was sent."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from consumers.bootstrap import ledger_url
from consumers.cli import PROGRAM, LedgerUrl, note
from consumers.cli.payout import date_faults
from consumers.ledger.opening import open_engine
from consumers.ledger.payroll import payroll_transaction
from consumers.payout.execution import require_reversible, summary_of
from consumers.settings.model import load_settings
from trekkpaalegg.cli import EnvFile, ExitCode, Yes
from trekkpaalegg.errors import FatalError, SettingsError

_EXAMPLE = 'take-back --ledger sqlite:///ledger.db --date 2026-02-20 --reason "file of the month before"'


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(name="take-back", epilog=f"Example: {PROGRAM} {_EXAMPLE}")(take_back)


def take_back(
    *,
    ledger: LedgerUrl = None,
    day: Annotated[str | None, typer.Option("--date", help="Date of the payout.", metavar="YYYY-MM-DD")] = None,
    name: Annotated[str, typer.Option("--payout", help="Name of the payout, if it has one.")] = "",
    reason: Annotated[str, typer.Option(help="The reason, for the record; without national ids.")] = "",
    yes: Yes = False,
    env_file: EnvFile = None,
) -> int:
    """Reverse a recorded payout before money is sent. It no longer counts, and `payout` computes it again."""
    faults = date_faults(day)
    if not reason.strip():
        faults.append("--reason: missing; say why the payout is taken back")
    try:
        settings = load_settings(env_file, os.environ, needs_kafka=False)
        url = ledger_url(ledger, settings)
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from error
    if faults or day is None:
        raise SettingsError(faults)
    _take_back(url, date.fromisoformat(day), name.strip(), reason.strip(), sure=yes)
    return ExitCode.DONE


def _take_back(url: str, day: date, name: str, reason: str, *, sure: bool) -> None:
    """Show the payout, ask, and check that it has not changed: only what was shown is taken back."""
    engine = open_engine(url)
    with payroll_transaction(engine, read_only=True) as transaction:
        shown = transaction.recorded(day, name)
    require_reversible(shown, day, name)
    note(summary_of(shown, day, name))
    if not sure:
        typer.confirm(
            "Was no file of it sent to a bank or reported in an a-melding? Take it back", abort=True, err=True
        )
    with payroll_transaction(engine) as transaction:
        found = transaction.recorded(day, name)
        require_reversible(found, day, name)
        if found != shown:
            raise FatalError("the payout has changed meanwhile: run the command again")
        transaction.take_back(day, name, reason, datetime.now(UTC))
    note("taken back, and kept in postering_taken_back; remove its files, and run `payout` again")
