"""`take-back`: a recorded payout in, the ledger without it out, after a person has said that no money was sent."""

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
from consumers.payout.performing import check_taking_back, summary_of
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
    name: Annotated[str, typer.Option("--payout", help="Its name, where it has one.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record; no national id.")] = "",
    yes: Yes = False,
    env_file: EnvFile = None,
) -> int:
    """Take a recorded payout back, before money is sent. It counts no more, and `payout` gives it anew."""
    faults = date_faults(day)
    if not reason.strip():
        faults.append("--reason: missing; say why it is taken back")
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
    """Look, ask, and look again: what is taken back is what was shown."""
    engine = open_engine(url)
    with payroll_transaction(engine, read_only=True) as transaction:
        shown = transaction.recorded(day, name)
    check_taking_back(shown, day, name)
    note(summary_of(shown, day, name))
    if not sure:
        typer.confirm("Has no file of it gone to a bank or to the a-melding? Take it back", abort=True, err=True)
    with payroll_transaction(engine) as transaction:
        found = transaction.recorded(day, name)
        check_taking_back(found, day, name)
        if found != shown:
            raise FatalError("the payout has changed meanwhile: run the command again, and look anew")
        transaction.take_back(day, name, reason, datetime.now(UTC))
    note("taken back, and kept in postering_taken_back; remove its files, and run `payout` anew")
