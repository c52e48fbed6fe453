"""`payout`: options are judged all at once, and nothing of them that may be a national id is shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from consumers.cli import PROGRAM
from consumers.cli.main import run_command

if TYPE_CHECKING:
    from pathlib import Path

PERSON = "01810112345"


@pytest.fixture(autouse=True)
def gross(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith(("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gross.csv"
    path.write_text(f"skyldner,brutto\n{PERSON},-100\n{PERSON[:10]},1\n", encoding="utf-8")
    return path


def told(capsys: pytest.CaptureFixture, *options: str) -> tuple[int, list[str]]:
    code = run_command(["payout", *options])
    lines = capsys.readouterr().err.splitlines()
    assert PERSON not in "".join(lines)
    return code, [line.removeprefix(f"{PROGRAM}: ") for line in lines]


def test_what_is_missing_is_told_at_once(capsys: pytest.CaptureFixture) -> None:
    code, lines = told(capsys)
    assert code == 2
    assert [line.partition(": ")[0] for line in lines] == ["--date", "--gross", "--ledger"]


@pytest.mark.parametrize("day", ["24.12.2026", "20261224", "2026-12-4", "24/12/2026", "2026-W52-4", "2026-02-30"])
def test_a_date_of_another_form_is_refused_with_the_right_one(capsys: pytest.CaptureFixture, day: str) -> None:
    code, lines = told(capsys, "--date", day, "--gross", "gross.csv", "--ledger", "sqlite:///x.db")
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("--date: ")
    assert "YYYY-MM-DD" in lines[0]


def test_every_faulty_option_is_told(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    code, lines = told(
        capsys,
        *("--ledger", "sqlite:///x.db", "--date", "2026-02-20", "--gross", "nowhere.csv", "--dry-run"),
        *("--trekkpliktig", PERSON, "--pain001", "out.xml", "--payments-csv", "out.xml", "--amelding", "no/where.csv"),
        *("--debtor-account", "1234.56.78903", "--debtor-bic", "dnb", "--debtor-organisation", "1"),
    )
    assert code == 2
    assert [line.partition(":")[0] for line in lines] == [
        *("--gross", "--trekkpliktig", "--payments-csv", "--pain001", "--pain001", "--amelding", "--amelding"),
        *("--debtor-name", "--debtor-account", "--debtor-bic", "--debtor-organisation"),
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "gross.csv"]


def test_a_wrong_setting_is_told_beside_a_wrong_option(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_LEGDER", "x")
    code, lines = told(capsys, "--date", "x", "--gross", "gross.csv")
    assert code == 2
    assert len(lines) == 2
    assert "did you mean TREKKPAALEGG_LEDGER" in lines[1]


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        ("mysql://root:hush@localhost/x", 2, "there is no ledger on mysql"),
        ("postgresql://root:hush@[bad/x", 2, "must be postgresql://"),
        ("hush", 2, "must be postgresql://"),
        ("sqlite:///missing.db", 1, "there is no such file"),
        ("sqlite:///gross.csv", 1, "no SQLite database"),
    ],
)
def test_a_wrong_ledger_is_told_without_its_password(
    capsys: pytest.CaptureFixture, gross: Path, url: str, code: int, word: str
) -> None:
    good = gross.with_name("good.csv")
    good.write_text(f"skyldner,brutto\n{PERSON},100\n", encoding="utf-8")
    found, lines = told(capsys, "--date", "2026-02-20", "--gross", str(good), "--ledger", url)
    assert found == code
    assert len(lines) == 1
    assert word in lines[0]
    assert "hush" not in lines[0]


def test_faults_of_the_file_are_told_a_line_each(capsys: pytest.CaptureFixture) -> None:
    code, lines = told(capsys, "--date", "2026-02-20", "--gross", "gross.csv", "--ledger", "sqlite:///x.db")
    assert code == 1
    assert lines == [
        "gross.csv: line 2, column brutto: is negative; pay cannot be",
        "gross.csv: line 3, column skyldner: must be 11 digits; a leading 0 may have been lost in a spreadsheet",
    ]


def test_help_shows_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run_command(["payout", "--help"]) == 0
    assert f"Example: {PROGRAM} payout --ledger" in " ".join(capsys.readouterr().out.split())
