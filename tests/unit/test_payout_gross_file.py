"""The file of gross pay: what is accepted, and every fault by line and column, without its text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from consumers.errors import InputError
from consumers.payout.gross_file import digest_of, parse_pay, read_pay
from trekkpaalegg.cli import ExitCode, ending_of

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = "01810112345", "02810112345"


def faults(content: str | bytes) -> list[str]:
    with pytest.raises(InputError) as raised:
        parse_pay(content.encode() if isinstance(content, str) else content)
    assert ONE not in str(raised.value)
    return raised.value.faults


def test_persons_come_in_the_order_of_the_file() -> None:
    pays = parse_pay(f"skyldner,brutto,allerede_trukket\n{TWO},31250.5,\n{ONE},0,1200.25\n".encode())
    assert [(pay.skyldner.reveal(), pay.brutto, pay.allerede_trukket, pay.line) for pay in pays] == [
        (TWO, Decimal("31250.5"), Decimal(0), 2),
        (ONE, Decimal(0), Decimal("1200.25"), 3),
    ]


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeffskyldner,brutto\n{ONE},100\n",
        f"skyldner,brutto\r\n{ONE},100\r\n\r\n",
        f'"skyldner","brutto"\n"{ONE}","100"',
        f"brutto,skyldner\n100,{ONE}\n",
        f"skyldner , brutto\n {ONE} , 100.00 \n,\n",
    ],
    ids=["byte order mark", "CRLF and blank line", "quoted, no last newline", "other order", "spaces and empty row"],
)
def test_harmless_differences_are_accepted(content: str) -> None:
    (pay,) = parse_pay(content.encode())
    assert (pay.skyldner.reveal(), pay.brutto) == (ONE, 100)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (f'{ONE},"31250,50"', "line 2, column brutto: has a comma; write decimals with a point"),
        (f"{ONE},31250,50", "line 2: has 3 values for 2 columns; is an amount written with a comma?"),
        (f"{ONE}", "line 2: has 1 values for 2 columns"),
        (f"{ONE},-100", "line 2, column brutto: is negative; pay cannot be"),
        (f"{ONE},100.005", "line 2, column brutto: has more than two decimals"),
        (f"{ONE},", "line 2, column brutto: is empty; write 0 where there is no pay"),
        (f"{ONE},1e5", "line 2, column brutto: is not an amount such as 31250.50"),
        (f"{ONE},NaN", "line 2, column brutto: is not an amount such as 31250.50"),
        (f"{ONE},31 250", "line 2, column brutto: is not an amount such as 31250.50"),
        (f"{ONE},1234567890123", "line 2, column brutto: is not an amount such as 31250.50"),
        (f"100,{ONE}", "line 2, column skyldner: must be 11 digits"),
        (f"{ONE[1:]},100", "line 2, column skyldner: must be 11 digits; a leading 0 may have been lost"),
        (f"{ONE[:6]} {ONE[6:]},100", "line 2, column skyldner: must be 11 digits"),
        (f'"{ONE},100', "is not CSV"),
    ],
)
def test_a_faulty_line_is_reported_by_line_and_column(row: str, fault: str) -> None:
    (told,) = faults(f"skyldner,brutto\n{row}\n")
    assert fault in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ("skyldner,brutto\n", ["holds no person"]),
        (f"skyldner;brutto\n{ONE};100\n", ["line 1: columns must be separated by commas"]),
        (f"{ONE},100\n", ["column skyldner is missing", "column brutto is missing", "column 1 has", "column 2 has"]),
        (f"skyldner,brutto,brutto\n{ONE},1,1\n", ["the column brutto is there twice"]),
        (f"skyldner,brutto,allerede_truket\n{ONE},1,1\n", ["line 1: column 3 has a name that is not known"]),
        (f"skyldner,brutto\n{ONE},100\nÅse,100\n".encode("latin-1"), ["line 3: is not UTF-8"]),
        (f"skyldner,brutto\n{ONE},100\n".encode("utf-16"), ["is not UTF-8"]),
        (f"skyldner,brutto\n{ONE},100\n".encode("utf-16-le"), ["NUL bytes"]),
        (f"skyldner,brutto\n{ONE},1\n{TWO},1\n{ONE},2\n", ["line 4, column skyldner: the same person as line 2"]),
    ],
)
def test_a_faulty_file_says_why(content: str | bytes, told: list[str]) -> None:
    found = faults(content)
    assert len(found) == len(told)
    assert all(words in fault for words, fault in zip(told, found, strict=True))


def test_all_faults_are_reported_at_once_a_line_each() -> None:
    rows = "\n".join(f"{ONE},-1" for _ in range(60))
    with pytest.raises(InputError) as raised:
        parse_pay(f"skyldner,brutto\n{rows}\n".encode())
    code, lines = ending_of(raised.value)
    assert code is ExitCode.FAILED
    assert lines[0].startswith("line 2, column brutto")
    assert lines[-1] == "and 10 more faults"
    assert len(lines) == 51


def test_the_file_is_named_with_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "pay.csv"
    path.write_text(f"skyldner,brutto\n{ONE},-1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"pay\.csv: line 2, column brutto"):
        read_pay(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_pay(tmp_path)


def test_the_digest_is_of_persons_pay_and_employers_not_of_form() -> None:
    first = parse_pay(f"skyldner,brutto\n{ONE},100\n{TWO},5\n".encode())
    second = parse_pay(f"brutto,skyldner\n5.0,{TWO}\n100.00,{ONE}\n".encode())
    other = parse_pay(f"skyldner,brutto\n{ONE},100\n{TWO},6\n".encode())
    assert digest_of(first, ()) == digest_of(second, ())
    assert len({digest_of(first, ()), digest_of(other, ()), digest_of(first, {"310000003"})}) == 3
