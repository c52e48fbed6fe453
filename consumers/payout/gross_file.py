"""Reading the CSV file of gross pay. All faults are reported at once, by line and column.

No fault quotes the file: a national id may be in any column by mistake.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from decimal import Decimal
from typing import TYPE_CHECKING

from consumers.errors import InputError
from consumers.payout.deduction import ZERO, Pay
from trekkpaalegg.identifiers import Foedselsnummer, is_digits

if TYPE_CHECKING:
    import _csv
    from collections.abc import Collection, Iterable
    from pathlib import Path

COLUMNS = ("skyldner", "brutto", "allerede_trukket")
REQUIRED = ("skyldner", "brutto")
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_DIGITS = 11
_FORM = "the first line must be skyldner,brutto or skyldner,brutto,allerede_trukket"


def read_pay(path: Path) -> list[Pay]:
    """The persons of the file, in its order. Raises `InputError` with every fault."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError([f"{path}: cannot be read ({type(error).__name__}); give a readable file"]) from error
    try:
        return parse_pay(content)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error


def parse_pay(content: bytes) -> list[Pay]:
    """As `read_pay`, from the content of the file. Pure."""
    text = _text_of(content)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    faults: list[str] = []
    pays: list[Pay] = []
    try:
        header = [name.strip() for name in next(rows)]
        faults += _header_faults(header)
        if not faults:
            pays = _pays_of(header, rows, faults)
    except csv.Error as error:
        faults.append(f"line {rows.line_num}: is not CSV ({_csv_fault(error)})")
    if not faults and not pays:
        faults.append("holds no person; give a line for each")
    if faults:
        raise InputError(faults)
    return pays


def digest_of(pays: Iterable[Pay], trekkpliktig: Collection[str]) -> str:
    """A digest that is equal for the same pay of the same persons and employers, in any order."""
    lines = sorted(f"{pay.skyldner.reveal()},{pay.brutto:.2f},{pay.allerede_trukket:.2f}" for pay in pays)
    return hashlib.sha256("\n".join([",".join(sorted(trekkpliktig)), *lines]).encode()).hexdigest()


def _text_of(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        # Not chained: the error holds the file's bytes.
        raise InputError([f"line {line}: is not UTF-8; save the file as UTF-8"]) from None
    if "\x00" in text:
        raise InputError(["is not UTF-8 text (it holds NUL bytes; UTF-16?); save the file as UTF-8"])
    if not text.strip():
        raise InputError([f"is empty; {_FORM}"])
    return text


def _pays_of(header: list[str], rows: _csv.Reader, faults: list[str]) -> list[Pay]:
    pays = []
    first_line: dict[str, int] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        pay = _pay_of(header, row, rows.line_num, faults)
        if pay is None:
            continue
        if first_line.setdefault(pay.skyldner, pay.line) == pay.line:
            pays.append(pay)
        else:
            faults.append(
                f"line {pay.line}, column skyldner: the same person as line {first_line[pay.skyldner]};"
                " give each person one line with the pay in all"
            )
    return pays


def _header_faults(header: list[str]) -> list[str]:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        return [f"line 1: columns must be separated by commas; {_FORM}"]
    faults = [f"line 1: the column {name} is missing; {_FORM}" for name in REQUIRED if name not in header]
    faults += [f"line 1: the column {name} is there twice" for name in COLUMNS if header.count(name) > 1]
    unknown = [number for number, name in enumerate(header, start=1) if name not in COLUMNS]
    faults += [f"line 1: column {number} has a name that is not known; {_FORM}" for number in unknown]
    return faults


def _pay_of(header: list[str], row: list[str], line: int, faults: list[str]) -> Pay | None:
    if len(row) != len(header):
        hint = "; is an amount written with a comma?" if len(row) > len(header) else ""
        faults.append(f"line {line}: has {len(row)} values for {len(header)} columns{hint}")
        return None
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    before = len(faults)
    skyldner = cells["skyldner"]
    if not is_digits(skyldner, _DIGITS):
        hint = "; a leading 0 may have been lost in a spreadsheet" if is_digits(skyldner, _DIGITS - 1) else ""
        faults.append(f"line {line}, column skyldner: must be {_DIGITS} digits{hint}")
    brutto = _amount(cells["brutto"], line, "brutto", faults)
    trukket = ZERO
    if cells.get("allerede_trukket"):
        trukket = _amount(cells["allerede_trukket"], line, "allerede_trukket", faults)
    return Pay(Foedselsnummer(skyldner), brutto, trukket, line) if len(faults) == before else None


def _amount(text: str, line: int, column: str, faults: list[str]) -> Decimal:
    if _AMOUNT.fullmatch(text):
        return Decimal(text)
    if not text:
        fault = "is empty; write 0 where there is no pay"
    elif "," in text:
        fault = "has a comma; write decimals with a point, and thousands without a sign between"
    elif re.fullmatch(r"[-\u2212]\s*[0-9.]+", text):
        fault = "is negative; pay cannot be"
    elif re.fullmatch(r"[0-9]+\.[0-9]{3,}", text):
        fault = "has more than two decimals"
    else:
        fault = "is not an amount such as 31250.50"
    faults.append(f"line {line}, column {column}: {fault}")
    return ZERO


def _csv_fault(error: csv.Error) -> str:
    return "a quotation mark that is not closed, or text after it" if "expected" in str(error) else "see its quotation"
