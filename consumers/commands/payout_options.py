"""The options of `payout` in, every fault of theirs or a typed request out."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import msgspec

from consumers.payout.check_digits import is_digits
from consumers.payout.deduction import Rounding, Rules
from consumers.payout.files import OutputFiles
from consumers.payout.pain001 import Pain001Version, Payer
from consumers.payout.payment import due_date
from consumers.payout.performing import Request

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BIC = re.compile(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_NAME_LENGTH_MAX = 70


class PayoutOptions(msgspec.Struct, frozen=True):
    """As they were given. `payer`: name, account, BIC, organisation number."""

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
    """What is wrong with them, without a value that may be a national id given by mistake."""
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


def request_of(options: PayoutOptions) -> Request:
    """What to do, of options without a fault."""
    assert options.date is not None  # noqa: S101 - option_faults saw to it
    assert options.gross is not None  # noqa: S101 - as above
    day = date.fromisoformat(options.date)
    name, account, bic, organisation = options.payer
    return Request(
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
    """What is wrong with `--date`."""
    form = "give it as YYYY-MM-DD, such as 2026-12-24"
    if text is None:
        return [f"--date: missing; {form}"]
    if not _DATE.fullmatch(text):
        return [f"--date: is of another form; {form}"]
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
            faults.append(f"{name}: not with --dry-run, which writes no file: one could be sent by mistake")
        if path.is_dir():
            faults.append(f"{name}: is a folder; give a file")
        elif not path.parent.is_dir():
            faults.append(f"{name}: its folder is not there; make it first")
        if path.resolve() in seen:
            faults.append(f"{name}: is given as another file too; give each its own")
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
        faults.append("--pain001: missing; the --debtor options are for that file alone")
    if name is not None and len(name) > _NAME_LENGTH_MAX:
        faults.append(f"--debtor-name: must be at most {_NAME_LENGTH_MAX} letters")
    if account and not is_digits(account, 11):
        faults.append("--debtor-account: must be eleven digits, without points or spaces")
    if bic and not _BIC.fullmatch(bic):
        faults.append("--debtor-bic: must be eight or eleven capital letters and digits, such as DNBANOKK")
    if organisation and not is_digits(organisation, 9):
        faults.append("--debtor-organisation: must be an organisation number of nine digits")
    return faults
