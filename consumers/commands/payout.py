"""`payout`: a date, a file of gross pay and a ledger in; what to withhold, pay and report out, once it is recorded."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from consumers.bootstrap import ledger_url
from consumers.commands.output import PROGRAM, note, width, write
from consumers.commands.payout_options import PayoutOptions, option_faults, request_of
from consumers.errors import SettingsError
from consumers.exit_codes import ExitCode
from consumers.ledger.opening import open_engine
from consumers.payout.deduction import Rounding
from consumers.payout.gross_file import read_pay
from consumers.payout.pain001 import Pain001Version
from consumers.payout.performing import Request, perform
from consumers.payout.report import Report, json_of, print_tables
from consumers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.payout.deduction import Pay

_EXAMPLE = "payout --ledger sqlite:///ledger.db --date 2026-02-20 --gross gross.csv --payments-csv payments.csv"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} {_EXAMPLE}")(payout)


def payout(  # noqa: PLR0913 - one parameter for each option
    *,
    ledger: Annotated[
        str | None, typer.Option(help="postgresql://… or sqlite:///…; else TREKKPAALEGG_LEDGER.", metavar="URL")
    ] = None,
    date: Annotated[str | None, typer.Option(help="Date of the payout.", metavar="YYYY-MM-DD")] = None,
    gross: Annotated[Path | None, typer.Option(help="CSV: skyldner,brutto and perhaps allerede_trukket.")] = None,
    name: Annotated[str, typer.Option("--payout", help="Tells several payouts of one date apart.")] = "",
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this employer's; may be given again.")] = None,
    rounding: Annotated[Rounding, typer.Option(help="How whole kroner are made.")] = Rounding.DOWN,
    follow_ended: Annotated[
        bool, typer.Option("--follow-ended-periods", help="Withhold for avsluttet too, until its periods end.")
    ] = False,
    christmas_eve: Annotated[bool, typer.Option("--christmas-eve-open", help="Let 24 December be a due date.")] = False,
    accept_payee: Annotated[
        list[str] | None, typer.Option(help="Pay this order to its changed payee.", metavar="TREKKID")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing, write no file.")] = False,
    payments_csv: Annotated[Path | None, typer.Option(help="Write the payments here.")] = None,
    pain001: Annotated[Path | None, typer.Option(help="Write the payments here, for the bank (ISO 20022).")] = None,
    pain001_version: Annotated[Pain001Version, typer.Option(help="Which pain.001.001.")] = Pain001Version.V09,
    amelding: Annotated[Path | None, typer.Option(help="Write the lines of the a-melding here (CSV).")] = None,
    payer_name: Annotated[str | None, typer.Option("--debtor-name", help="Who pays; for --pain001.")] = None,
    payer_account: Annotated[
        str | None, typer.Option("--debtor-account", help="Account it is paid from; for --pain001.")
    ] = None,
    payer_bic: Annotated[str | None, typer.Option("--debtor-bic", help="BIC of that account's bank.")] = None,
    payer_organisation: Annotated[
        str | None, typer.Option("--debtor-organisation", help="Organisation number; else the employer's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with national ids.")] = False,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Read settings from this file too; the environment wins.", show_default=False),
    ] = None,
) -> int:
    """Tell what to withhold from whom at a payout, and what to pay. It is recorded first; a second run repeats it."""
    options = PayoutOptions(
        date=date,
        gross=gross,
        name=name,
        trekkpliktig=frozenset(trekkpliktig or []),
        rounding=rounding,
        follow_ended=follow_ended,
        christmas_eve=christmas_eve,
        accepted=frozenset(accept_payee or []),
        dry_run=dry_run,
        payments_csv=payments_csv,
        pain001=pain001,
        pain001_version=pain001_version,
        amelding=amelding,
        payer=(payer_name, payer_account, payer_bic, payer_organisation),
    )
    _run(options, ledger, env_file, as_json=as_json)
    return ExitCode.DONE


def _run(options: PayoutOptions, ledger: str | None, env_file: Path | None, *, as_json: bool) -> None:
    faults = option_faults(options)
    try:
        settings = load_settings(env_file, os.environ, needs_kafka=False)
        url = ledger_url(ledger, settings)
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from error
    if faults:
        raise SettingsError(faults)
    request = request_of(options)
    with _patience(), _no_garbage_collection():
        pays = read_pay(request.gross)
        report, written = perform(open_engine(url, read_only=request.dry_run), request, pays)
    _show(report, pays, request, as_json=as_json)
    for path in written:
        note(f"written: {path}")


def _show(report: Report, pays: list[Pay], request: Request, *, as_json: bool) -> None:
    if as_json:
        write(json_of(report))
    else:
        print_tables(report, {pay.skyldner: pay.line for pay in pays}, sys.stdout, width())
        sys.stdout.flush()
    if request.dry_run:
        note("dry run: nothing is recorded")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Looking for cycles among a million objects that have none takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _patience() -> Iterator[None]:
    """Something that moves on a terminal's stderr while the work goes on."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status("reading pay and orders, recording"):
        yield
