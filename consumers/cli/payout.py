"""`payout`: what to withhold, pay and report on one payout date."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from consumers.bootstrap import ledger_url
from consumers.cli import PROGRAM, LedgerUrl, note, write
from consumers.ledger.opening import open_engine
from consumers.payout.deduction import Rounding, Rules
from consumers.payout.execution import PayoutRequest, execute_payout
from consumers.payout.files import OutputFiles
from consumers.payout.gross_file import read_pay
from consumers.payout.pain001 import Pain001Version, Payer
from consumers.payout.payment import due_date
from consumers.payout.report import Report, json_of, print_tables
from consumers.settings.model import load_settings
from trekkpaalegg.cli import EnvFile, ExitCode, rare_garbage_collection, terminal_width
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.identifiers import is_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.payout.deduction import Pay


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BIC = re.compile(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_NAME_LENGTH_MAX = 70


class PayoutOptions(msgspec.Struct, frozen=True):
    """The options of the command line. `payer`: name, account, BIC, organisation number."""

    date: str | None
    gross: Path | None
    name: str
    trekkpliktig: frozenset[str]
    rounding: Rounding
    follow_ended: bool
    christmas_eve: bool
    accepted: frozenset[str]
    dry_run: bool
    payments_csv: Path | None
    pain001: Path | None
    pain001_version: Pain001Version
    amelding: Path | None
    payer: tuple[str | None, str | None, str | None, str | None]


def option_faults(options: PayoutOptions) -> list[str]:
    """Every fault of the options. No text quotes a value, which may be a national id given by mistake."""
    faults = date_faults(options.date)
    if options.gross is None:
        faults.append("--gross: missing; give a CSV file with the columns skyldner,brutto")
    elif not options.gross.is_file():
        faults.append("--gross: there is no such file")
    wrong = [each for each in options.trekkpliktig if not is_digits(each, 9)]
    if wrong:
        faults.append("--trekkpliktig: must be an organisation number of nine digits")
    faults += _file_faults(options)
    faults += _payer_faults(options)
    return faults


def request_of(options: PayoutOptions) -> PayoutRequest:
    """The request that valid options describe."""
    assert options.date is not None  # noqa: S101 - checked by option_faults
    assert options.gross is not None  # noqa: S101 - as above
    day = date.fromisoformat(options.date)
    name, account, bic, organisation = options.payer
    return PayoutRequest(
        utbetalingsdato=day,
        name=options.name.strip(),
        gross=options.gross,
        forfallsdato=due_date(day, christmas_eve=options.christmas_eve),
        rules=Rules(options.rounding, options.follow_ended),
        trekkpliktig=options.trekkpliktig,
        accepted=options.accepted,
        dry_run=options.dry_run,
        files=OutputFiles(options.payments_csv, options.pain001, options.amelding, options.pain001_version),
        payer=Payer(name, account, bic or "", organisation or "") if name and account else None,
    )


def date_faults(text: str | None) -> list[str]:
    """The faults of `--date`."""
    form = "give it as YYYY-MM-DD, such as 2026-12-24"
    if text is None:
        return [f"--date: missing; {form}"]
    if not _DATE.fullmatch(text):
        return [f"--date: is not a date; {form}"]
    try:
        date.fromisoformat(text)
    except ValueError:
        return [f"--date: there is no such day; {form}"]
    return []


def _file_faults(options: PayoutOptions) -> list[str]:
    outputs = {
        "--payments-csv": options.payments_csv,
        "--pain001": options.pain001,
        "--amelding": options.amelding,
    }
    faults = []
    seen = {options.gross.resolve()} if options.gross is not None else set()
    for name, path in outputs.items():
        if path is None:
            continue
        if options.dry_run:
            faults.append(f"{name}: not with --dry-run, which writes no file, since one could be sent by mistake")
        if path.is_dir():
            faults.append(f"{name}: is a folder; give a file")
        elif not path.parent.is_dir():
            faults.append(f"{name}: its folder does not exist; create it first")
        if path.resolve() in seen:
            faults.append(f"{name}: is given for another file too; give each its own")
        seen.add(path.resolve())
    return faults


def _payer_faults(options: PayoutOptions) -> list[str]:
    name, account, bic, organisation = options.payer
    faults = []
    if options.pain001 is not None and not name:
        faults.append("--debtor-name: missing; --pain001 names who pays")
    if options.pain001 is not None and not account:
        faults.append("--debtor-account: missing; --pain001 names the account that is paid from")
    if options.pain001 is None and any(options.payer):
        faults.append("--pain001: missing; the --debtor options are for that file only")
    if name is not None and len(name) > _NAME_LENGTH_MAX:
        faults.append(f"--debtor-name: must be at most {_NAME_LENGTH_MAX} letters")
    if account and not is_digits(account, 11):
        faults.append("--debtor-account: must be eleven digits, without points or spaces")
    if bic and not _BIC.fullmatch(bic):
        faults.append("--debtor-bic: must be eight or eleven capital letters and digits, such as DNBANOKK")
    if organisation and not is_digits(organisation, 9):
        faults.append("--debtor-organisation: must be an organisation number of nine digits")
    return faults


_EXAMPLE = "payout --ledger sqlite:///ledger.db --date 2026-02-20 --gross gross.csv --payments-csv payments.csv"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} {_EXAMPLE}")(payout)


def payout(  # noqa: PLR0913 - one parameter for each option
    *,
    ledger: LedgerUrl = None,
    date: Annotated[str | None, typer.Option(help="Date of the payout.", metavar="YYYY-MM-DD")] = None,
    gross: Annotated[Path | None, typer.Option(help="CSV: skyldner,brutto and optionally allerede_trukket.")] = None,
    name: Annotated[str, typer.Option("--payout", help="Name that distinguishes payouts of one date.")] = "",
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this employer; may be repeated.")] = None,
    rounding: Annotated[Rounding, typer.Option(help="How amounts are rounded to whole kroner.")] = Rounding.DOWN,
    follow_ended: Annotated[
        bool, typer.Option("--follow-ended-periods", help="Withhold for ended orders too, until their periods end.")
    ] = False,
    christmas_eve: Annotated[bool, typer.Option("--christmas-eve-open", help="Let 24 December be a due date.")] = False,
    accept_payee: Annotated[
        list[str] | None, typer.Option(help="Approve the changed payee of this order.", metavar="TREKKID")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing and write no file.")] = False,
    payments_csv: Annotated[Path | None, typer.Option(help="Write the payments to this CSV file.")] = None,
    pain001: Annotated[Path | None, typer.Option(help="Write the payments to this file (ISO 20022).")] = None,
    pain001_version: Annotated[Pain001Version, typer.Option(help="Version of pain.001.001.")] = Pain001Version.V09,
    amelding: Annotated[Path | None, typer.Option(help="Write the lines of the a-melding to this CSV file.")] = None,
    payer_name: Annotated[str | None, typer.Option("--debtor-name", help="Name of the payer, for --pain001.")] = None,
    payer_account: Annotated[
        str | None, typer.Option("--debtor-account", help="Account of the payer, for --pain001.")
    ] = None,
    payer_bic: Annotated[str | None, typer.Option("--debtor-bic", help="BIC of the payer's bank.")] = None,
    payer_organisation: Annotated[
        str | None, typer.Option("--debtor-organisation", help="Organisation number; default: the employer's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with national ids.")] = False,
    env_file: EnvFile = None,
) -> int:
    """Compute what to withhold at a payout, and what to pay. The payout is recorded, and a second run repeats it."""
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
    with _spinner(), rare_garbage_collection():
        pays = read_pay(request.gross)
        report, written = execute_payout(open_engine(url, read_only=request.dry_run), request, pays)
    _show(report, pays, request, as_json=as_json)
    for path in written:
        note(f"written: {path}")


def _show(report: Report, pays: list[Pay], request: PayoutRequest, *, as_json: bool) -> None:
    if as_json:
        write(json_of(report))
    else:
        print_tables(report, {pay.skyldner: pay.line for pay in pays}, sys.stdout, terminal_width())
        sys.stdout.flush()
    if request.dry_run:
        note("dry run: nothing is recorded")


@contextmanager
def _spinner() -> Iterator[None]:
    """A spinner on stderr while the payout is computed, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status("reading pay and orders, recording"):
        yield
