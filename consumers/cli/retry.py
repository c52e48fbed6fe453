"""`retry`: decode and apply the messages again that could not be decoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from consumers.apply.worker import retry_undecodable_of
from consumers.bootstrap import decoding, ledger_url
from consumers.cli import PROGRAM, LedgerUrl, note, write
from consumers.ledger.opening import open_ledger
from consumers.settings.model import load_settings
from trekkpaalegg.cli import EnvFile, ExitCode

if TYPE_CHECKING:
    import typer

_SHOWN_MAX = 20


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} retry --ledger postgresql://payroll@localhost/payroll")(retry)


def retry(
    *,
    ledger: LedgerUrl = None,
    env_file: EnvFile = None,
) -> int:
    """Decode undecodable messages again, and apply those that now can be. Exit code 1 if some remain."""
    settings = load_settings(env_file, os.environ)
    url = ledger_url(ledger, settings)
    with decoding(settings) as decoder:
        opened = open_ledger(url)
        try:
            outcome = retry_undecodable_of(opened, decoder)
        finally:
            opened.close()
    for message in outcome.remaining[:_SHOWN_MAX]:
        place = message.coordinates
        note(f"{place.topic}/{place.partition}/{place.offset}: {message.reason}")
    if len(outcome.remaining) > _SHOWN_MAX:
        note(f"… and {len(outcome.remaining) - _SHOWN_MAX} more")
    write(f"{outcome.applied} applied, {len(outcome.remaining)} remain\n")
    return ExitCode.FAILED if outcome.remaining else ExitCode.DONE
