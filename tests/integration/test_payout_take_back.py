"""`trekkpaalegg-consumer take-back` on both databases: as if the payout had never been, kept on record, or refused."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from consumers.cli.main import run_command
from consumers.ledger import tables
from consumers.ledger.opening import open_engine
from tests.kit.payroll_desk import PayrollDesk, example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERSON = example("10001", 1)["skyldner"]
LINE = f"{PERSON},30000"
REASON = "the file of July"


@pytest.fixture
def desk(ledger_url: str) -> Iterator[PayrollDesk]:
    with PayrollDesk(ledger_url) as desk:
        desk.receive(example("10002", 1))
        yield desk


class Office:
    """Pays and takes back by the commands."""

    def __init__(self, url: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
        self.url = url
        self.gross = folder / "gross.csv"
        self.capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = run_command([*arguments, "--ledger", self.url])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def pay(self, day: str, line: str = LINE, *options: str) -> dict[str, Any]:
        self.gross.write_text(f"skyldner,brutto\n{line}\n", encoding="utf-8")
        code, out, err = self.run("payout", "--date", day, "--gross", str(self.gross), "--json", *options)
        assert code == 0, err
        return json.loads(out)

    def beloep(self, day: str, line: str = LINE, *options: str) -> str:
        (only,) = self.pay(day, line, *options)["trekk"]
        return only["beloep"]

    def take_back(self, day: str, *options: str) -> tuple[int, str]:
        code, out, err = self.run("take-back", "--date", day, "--reason", REASON, "--yes", *options)
        assert out == ""
        assert PERSON not in err
        return code, err

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with open_engine(self.url).connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@pytest.fixture
def office(desk: PayrollDesk, tmp_path: Path, capsys: pytest.CaptureFixture) -> Office:
    assert desk is not None
    return Office(desk.url, tmp_path, capsys)


def test_what_is_taken_back_is_given_again_by_the_same_file_and_the_month_has_it_once(office: Office) -> None:
    first = office.pay("2025-08-15")
    assert office.take_back("2025-08-15")[0] == 0
    assert office.rows(tables.postering) == []
    assert office.beloep("2025-08-20", f"{PERSON},2000") == "2000.00", "as if it had never been"
    assert office.take_back("2025-08-20")[0] == 0
    assert office.pay("2025-08-15") == first
    assert office.beloep("2025-08-29") == "0.00", "the month's 5000 kr are taken once"


def test_what_is_taken_back_is_kept_on_record_with_its_reason_each_time(office: Office) -> None:
    for _ in range(2):
        office.pay("2025-08-15")
        (recorded,) = office.rows(tables.postering)
        code, told = office.take_back("2025-08-15")
        assert code == 0
        assert "the payout of 2025-08-15: 1 orders of " in told
        assert "5000 kr, 1 files of payments" in told
    kept = office.rows(tables.postering_taken_back)
    assert [each["taken_back_reason"] for each in kept] == [REASON, REASON]
    assert len({each["taken_back"] for each in kept}) == 2
    last = max(kept, key=lambda each: each["taken_back"])
    assert {name: last[name] for name in recorded} == recorded
    assert office.rows(tables.utbetaling) == []


def test_an_order_that_has_changed_is_taken_as_it_is_now(office: Office, desk: PayrollDesk) -> None:
    assert office.beloep("2025-08-15") == "5000.00"
    changed = example("10002", 1)
    periods = [each | {"trekkbeloep": {"trekkbeloep": 4000}} for each in changed["trekkstoerrelseForPeriode"]]
    desk.receive(changed | {"trekkversjon": 2, "sekvensnummer": 999, "trekkstoerrelseForPeriode": periods})
    assert office.beloep("2025-08-15") == "5000.00", "what is recorded stands"
    assert office.take_back("2025-08-15")[0] == 0
    assert office.beloep("2025-08-15") == "4000.00"


def test_one_that_a_later_payout_builds_on_is_refused_until_that_is_taken_back(office: Office) -> None:
    assert office.beloep("2025-08-15", f"{PERSON},3000") == "3000.00"
    assert office.beloep("2025-08-15", LINE, "--payout", "extra") == "2000.00"
    before = office.rows(tables.postering)
    code, told = office.take_back("2025-08-15")
    assert code == 1
    assert 'later payouts depend on it: the payout of 2025-08-15 named "extra"; take back the last first' in told
    assert office.rows(tables.postering) == before
    assert office.take_back("2025-08-15", "--payout", "extra")[0] == 0
    assert office.take_back("2025-08-15")[0] == 0


def test_one_of_a_later_month_builds_on_it_too_as_its_payee_was_compared(office: Office) -> None:
    office.pay("2025-08-15")
    office.pay("2025-09-15")
    code, told = office.take_back("2025-08-15")
    assert (code, "depend on it: the payout of 2025-09-15;" in told) == (1, True)


def test_one_that_is_not_recorded_is_an_error_and_wrong_options_are_told_at_once(office: Office) -> None:
    office.pay("2025-08-15")
    assert office.take_back("2025-08-16")[0] == 1
    code, told = office.take_back("2025-08-15", "--payout", "extra")
    assert (code, "is not recorded in this ledger: check --date and --payout" in told) == (1, True)
    code, _, told = office.run("take-back", "--date", "2025-02-30")
    assert code == 2
    assert "--date: there is no such day" in told
    assert "--reason: missing" in told


@pytest.mark.parametrize(("answer", "expected"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_it_asks_whether_money_was_sent(
    office: Office, monkeypatch: pytest.MonkeyPatch, answer: str, expected: int
) -> None:
    office.pay("2025-08-15")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    code, _, told = office.run("take-back", "--date", "2025-08-15", "--reason", REASON)
    assert code == expected
    assert "sent to a bank or reported in an a-melding" in told
    assert len(office.rows(tables.postering)) == (0 if expected == 0 else 1)


def test_a_file_of_nobody_with_an_order_is_forgotten_too(office: Office, desk: PayrollDesk) -> None:
    """An order that comes after a payout is not drawn into it; after a take-back it is."""
    other = example("10001", 1)
    assert office.pay("2025-08-15", "01810112345,30000")["trekk"] == []
    desk.receive(other | {"trekkid": "20001", "skyldner": "01810112345"})
    assert office.pay("2025-08-15", "01810112345,30000")["trekk"] == []
    assert office.take_back("2025-08-15")[0] == 0
    assert len(office.pay("2025-08-15", "01810112345,30000")["trekk"]) == 1
