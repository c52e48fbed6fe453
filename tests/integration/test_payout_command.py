"""`trekkpaalegg-consumer payout` on both databases: recorded once, repeatable at any time, and summed up."""

from __future__ import annotations

import json
import uuid
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from consumers.cli.main import run_command
from sandbox.skatteetaten.generate import synthetic_kidnummer, synthetic_kontonummer, synthetic_organisasjonsnummer
from tests.kit.payroll_desk import PayrollDesk, example
from tests.kit.processes import ConsumerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERSON = example("10001", 1)["skyldner"]
OTHER = "01810112345"


@pytest.fixture
def desk(ledger_url: str) -> Iterator[PayrollDesk]:
    with PayrollDesk(ledger_url) as desk:
        yield desk


class Office:
    """Runs the command and reads what it printed."""

    def __init__(self, url: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
        self.url = url
        self.folder = folder
        self.capsys = capsys

    def pay(self, day: str, *lines: str, options: tuple[str, ...] = (), header: str = "skyldner,brutto") -> str:
        path = self.folder / f"gross-{uuid.uuid4().hex}.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        arguments = ["payout", "--ledger", self.url, "--date", day, "--gross", str(path), *options]
        self.capsys.readouterr()
        code = run_command(arguments)
        captured = self.capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    def told(self, day: str, *lines: str, options: tuple[str, ...] = (), **more: str) -> dict[str, Any]:
        return json.loads(self.pay(day, *lines, options=("--json", *options), **more))


@pytest.fixture
def office(ledger_url: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> Office:
    return Office(ledger_url, tmp_path, capsys)


def beloep(told: dict[str, Any]) -> dict[str, str]:
    return {each["trekkid"]: each["beloep"] for each in told["trekk"]}


def test_the_document_is_as_the_contract_says(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10001", 1), example("10002", 1, sekvensnummer=60))
    told = office.told("2025-08-20", f"{PERSON},31234.56")
    paid = example("10001", 1)["betalingsinformasjon"]
    assert told["trekk"] == [
        {
            "trekkid": "10001",
            "trekkversjon": 1,
            "skyldner": PERSON,
            "beloep": "5309.00",
            "grunnlag": "17 % of 31234.56 kr is 5309.8752 kr, rounded down",
        },
        {
            "trekkid": "10002",
            "trekkversjon": 1,
            "skyldner": PERSON,
            "beloep": "5000.00",
            "grunnlag": "5000 kr a month",
        },
    ]
    assert told["betalinger"] == [
        {"trekkid": trekkid, **paid, "beloep": beloep, "forfallsdato": "2025-08-21"}
        for trekkid, beloep in (("10001", "5309.00"), ("10002", "5000.00"))
    ]
    assert told["amelding"] == {
        "linjer": [{"skyldner": PERSON, "type": "utleggstrekkSamordnet", "beloep": "10309", "dato": "2025-08-20"}],
        "sum": "10309",
    }
    assert all(isinstance(each, str) for each in told["varsler"])


def test_a_second_run_prints_the_same_and_changes_nothing(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10002", 1), example("10004", 2), example("10005", 1, trekkstatus="ukjent"))
    line = f"{PERSON},4000.50"
    first = office.pay("2025-08-20", line, options=("--json",))
    assert office.pay("2025-08-20", line, options=("--json",)) == first
    assert office.pay("2025-08-20", line) == office.pay("2025-08-20", line)
    assert beloep(json.loads(first)) == {"10002": "4000.00", "10004": "0.00", "10005": "0.00"}


def test_an_amount_is_taken_once_a_calendar_month_over_its_payouts(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10002", 1))
    assert beloep(office.told("2025-08-15", f"{PERSON},3000")) == {"10002": "3000.00"}
    assert beloep(office.told("2025-08-29", f"{PERSON},30000")) == {"10002": "2000.00"}
    assert beloep(office.told("2025-08-31", f"{PERSON},30000")) == {"10002": "0.00"}
    assert beloep(office.told("2025-09-01", f"{PERSON},30000")) == {"10002": "5000.00"}
    assert beloep(office.told("2025-08-15", f"{PERSON},3000")) == {"10002": "3000.00"}, "recorded stands"


def test_percent_of_the_month_does_not_count_for_an_amount(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10005", 2))
    follow = ("--follow-ended-periods",)
    assert beloep(office.told("2025-08-05", f"{PERSON},20000", options=follow)) == {"10005": "4600.00"}
    assert beloep(office.told("2025-08-20", f"{PERSON},20000", options=follow)) == {"10005": "4400.00"}


@pytest.mark.parametrize(
    ("day", "expected"), [("2025-05-10", "9200.00"), ("2025-08-09", "9200.00"), ("2025-08-10", "6800.00")]
)
def test_first_and_last_day_belong_to_the_period(desk: PayrollDesk, office: Office, day: str, expected: str) -> None:
    desk.receive(example("10003", 1), example("10003", 2))
    assert beloep(office.told(day, f"{PERSON},40000")) == {"10003": expected}


def test_what_others_withheld_this_month_is_counted(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10002", 1))
    header = "skyldner,brutto,allerede_trukket"
    assert beloep(office.told("2025-08-20", f"{PERSON},30000,1200.50", header=header)) == {"10002": "3799.00"}


def test_recorded_figures_stand_when_order_and_pay_change(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10003", 1))
    first = office.told("2025-08-20", f"{PERSON},40000")
    assert beloep(first) == {"10003": "9200.00"}
    desk.receive(example("10003", 2), example("10002", 1))
    again = office.told("2025-08-20", f"{PERSON},40000")
    assert {name: again[name] for name in ("trekk", "betalinger", "amelding")} == {
        name: first[name] for name in ("trekk", "betalinger", "amelding")
    }
    assert [varsel for varsel in again["varsler"] if "would give" in varsel] == [
        (
            "10003: recorded at this payout: 9200 kr by trekkversjon 1; today trekkversjon 2 would give 6800 kr;"
            " the record is kept"
        ),
        "10002: came after this payout was recorded, and is not part of it; it would give 5000 kr",
    ]
    other_pay = office.told("2025-08-20", f"{PERSON},50000")
    assert other_pay["trekk"] == first["trekk"]
    assert any("another gross pay" in varsel for varsel in other_pay["varsler"])


def test_an_order_that_came_after_the_payout_is_not_drawn_into_it(desk: PayrollDesk, office: Office) -> None:
    """Also where the person had no order at all when the payout was run."""
    assert office.told("2025-08-20", f"{PERSON},40000")["trekk"] == []
    desk.receive(example("10001", 1))
    again = office.told("2025-08-20", f"{PERSON},40000")
    assert again["trekk"] == []
    assert any("10001: came after" in varsel for varsel in again["varsler"])
    assert beloep(office.told("2025-08-20", f"{PERSON},40000", options=("--payout", "extra"))) == {"10001": "6800.00"}


def test_a_further_file_of_the_same_payout_adds_its_persons(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10001", 1), example("10002", 1, skyldner=OTHER))
    assert beloep(office.told("2025-08-20", f"{PERSON},10000")) == {"10001": "1700.00"}
    assert beloep(office.told("2025-08-20", f"{OTHER},10000")) == {"10002": "5000.00"}
    both = office.told("2025-08-20", f"{PERSON},10000", f"{OTHER},10000")
    assert beloep(both) == {"10001": "1700.00", "10002": "5000.00"}


def test_a_dry_run_records_nothing(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10002", 1))
    dry = office.told("2025-08-20", f"{PERSON},3000", options=("--dry-run",))
    assert beloep(dry) == {"10002": "3000.00"}
    assert beloep(office.told("2025-08-20", f"{PERSON},30000")) == {"10002": "5000.00"}


def test_a_changed_account_is_an_alarm_and_paid_when_accepted(
    desk: PayrollDesk, office: Office, tmp_path: Path
) -> None:
    random = Random(4)
    paid = {
        "betalingsmottaker": synthetic_organisasjonsnummer(random),
        "kidnummer": synthetic_kidnummer(17),
        "kontonummer": synthetic_kontonummer(random),
    }
    changed = paid | {"kontonummer": synthetic_kontonummer(random)}
    desk.receive(example("10006", 1, betalingsinformasjon=paid), example("10001", 1, betalingsinformasjon=paid))
    assert len(office.told("2025-08-29", f"{PERSON},30000")["betalinger"]) == 2
    desk.receive(example("10006", 2, betalingsinformasjon=changed))
    file = tmp_path / "payments.csv"
    line, options = f"{PERSON},30000", ("--payments-csv", str(file))
    held = office.told("2025-09-10", line, options=options)
    assert beloep(held) == {"10001": "5100.00", "10006": "8000.00"}
    assert [each["trekkid"] for each in held["betalinger"]] == ["10001"]
    assert any("10006: ALARM: another kontonummer" in varsel for varsel in held["varsler"])
    assert "10006" not in file.read_text(encoding="utf-8")
    before = file.read_bytes()
    assert office.told("2025-09-10", line, options=options) == held
    accepted = office.told("2025-09-10", line, options=(*options, "--accept-payee", "10006"))
    assert [each["kontonummer"] for each in accepted["betalinger"]] == [paid["kontonummer"], changed["kontonummer"]]
    assert file.read_bytes() == before, "the first file of payments never changes"
    assert "10006" in (tmp_path / "payments-2.csv").read_text(encoding="utf-8")
    assert office.told("2025-09-10", line, options=options) == accepted
    assert len(office.told("2025-10-10", line)["betalinger"]) == 2, "accepted once, it is the known payee"


def test_two_at_once_withhold_once(desk: PayrollDesk, ledger_url: str, tmp_path: Path, office: Office) -> None:
    """Two payouts of one month, started together: one sees what the other took."""
    desk.receive(example("10002", 1))
    gross = tmp_path / "gross.csv"
    gross.write_text(f"skyldner,brutto\n{PERSON},30000\n", encoding="utf-8")
    payouts = [
        ConsumerProcess(
            ("payout", "--ledger", ledger_url, "--date", day, "--gross", str(gross)), {}, tmp_path / f"{number}.log"
        )
        for number, day in enumerate(("2025-08-20", "2025-08-20", "2025-08-21"))
    ]
    assert [each.wait(120) for each in payouts] == [0, 0, 0]
    told = [beloep(office.told(day, f"{PERSON},30000")) for day in ("2025-08-20", "2025-08-21")]
    assert sorted(each["10002"] for each in told) == ["0.00", "5000.00"]


def test_several_employers_are_kept_apart(desk: PayrollDesk, office: Office, tmp_path: Path) -> None:
    employer = synthetic_organisasjonsnummer(Random(9))
    desk.receive(example("10001", 1), example("10002", 1, trekkpliktig=employer))
    gross = tmp_path / "gross.csv"
    gross.write_text(f"skyldner,brutto\n{PERSON},30000\n", encoding="utf-8")
    arguments = ["payout", "--ledger", office.url, "--date", "2025-08-20", "--gross", str(gross)]
    assert run_command(arguments) == 2
    assert "--trekkpliktig: missing; the persons of line 2" in office.capsys.readouterr().err
    assert beloep(office.told("2025-08-20", f"{PERSON},30000", options=("--trekkpliktig", employer))) == {
        "10002": "5000.00"
    }
    own = example("10001", 1)["trekkpliktig"]
    assert beloep(office.told("2025-08-20", f"{PERSON},30000", options=("--trekkpliktig", own))) == {"10001": "5100.00"}


def test_people_read_a_table_without_national_ids(desk: PayrollDesk, office: Office) -> None:
    desk.receive(example("10001", 1), example("10002", 1, skyldner=OTHER))
    text = office.pay("2025-08-20", f"{PERSON},30000")
    assert "10001" in text
    assert "5100" in text
    assert "***********" in text
    assert "10002: active, but the person is not in the file" in text
    assert PERSON not in text
    assert OTHER not in text


def test_what_could_not_be_written_is_recorded_and_written_by_the_next_run(
    desk: PayrollDesk, office: Office, tmp_path: Path
) -> None:
    desk.receive(example("10002", 1))
    gross = tmp_path / "gross.csv"
    gross.write_text(f"skyldner,brutto\n{PERSON},30000\n", encoding="utf-8")
    folder = tmp_path / "out"
    folder.mkdir()
    place = folder / ("x" * 250)  # its own name fits, that of the temporary file beside it does not
    arguments = ["payout", "--ledger", office.url, "--date", "2025-08-20", "--gross", str(gross), "--amelding"]
    assert run_command([*arguments, str(place)]) == 1
    assert "the payout is recorded" in office.capsys.readouterr().err
    assert list(folder.iterdir()) == []
    desk.receive(example("10002", 1) | {"trekkversjon": 2, "sekvensnummer": 99, "trekkstoerrelseForPeriode": []})
    assert run_command([*arguments, str(folder / "amelding.csv")]) == 0
    assert f"{PERSON},utleggstrekkSamordnet,5000,2025-08-20" in (folder / "amelding.csv").read_text(encoding="utf-8")


def test_files_of_a_second_run_are_the_same_bytes(desk: PayrollDesk, office: Office, tmp_path: Path) -> None:
    desk.receive(example("10002", 1), example("10001", 1))
    paths = {name: tmp_path / name for name in ("payments-csv", "pain001", "amelding")}
    options = ["--debtor-name", "Arbeidsgiver", "--debtor-account", "12345678903"]
    for name, path in paths.items():
        options += [f"--{name}", str(path)]
    office.pay("2025-08-20", f"{PERSON},30000", options=tuple(options))
    first = {name: path.read_bytes() for name, path in paths.items()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths.values())
    assert PERSON.encode() not in first["pain001"] + first["payments-csv"]
    office.pay("2025-08-20", f"{PERSON},30000", options=tuple(options))
    assert {name: path.read_bytes() for name, path in paths.items()} == first
