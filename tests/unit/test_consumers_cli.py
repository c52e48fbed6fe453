"""`trekkpaalegg-consumer`: help, options, settings and exit codes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from typer.exceptions import Abort, Exit, TyperException

from consumers.cli import PROGRAM
from consumers.cli.main import run_command
from consumers.settings.model import KNOWN_NAMES, PRODUCER_SETTINGS, SETTING_NAMES, load_settings
from consumers.verify.source import load_source_access
from producer.settings.model import SECRET_FILE_NAMES
from producer.settings.model import SETTING_NAMES as PRODUCERS_NAMES
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, StoppedError, UndecodableError

if TYPE_CHECKING:
    from pathlib import Path


# `trekkpaalegg-consumer`: help, settings and exit codes
GOOD = {"KAFKA_BROKERS": "127.0.0.1:9092"}


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")):
            monkeypatch.delenv(name)


def faults(environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(env_file, environ)
    return raised.value.faults


def test_consumers_know_every_name_that_the_producer_knows() -> None:
    """One file of settings serves both."""
    assert PRODUCERS_NAMES.keys() | SECRET_FILE_NAMES == KNOWN_NAMES
    assert not PRODUCER_SETTINGS & SETTING_NAMES.keys()


@pytest.mark.parametrize("words", [[], ["tail"]], ids=" ".join)
def test_help_shows_an_example(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run_command([*words, "--help"]) is ExitCode.DONE
    assert f"Example: {PROGRAM} tail" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [[], ["nonsense"], ["tail", "--nonsense"], ["tail", "--max", "0"], ["tail", "x"]])
def test_wrong_usage_is_reported_in_a_line_and_ends_with_2(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run_command(words) is ExitCode.WRONG_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_wrong_options_and_settings_are_reported_all_at_once_and_without_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_TOPIK_PREFIX", "x")
    monkeypatch.setenv("KAFKA_CA_PATH", "nowhere.pem")
    assert run_command(["tail", "--trekkpliktig", "123456789", "--trekkpliktig", "12928312345"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{PROGRAM}: --trekkpliktig: number 2 is not an organisation number of nine digits",
        f"{PROGRAM}: TREKKPAALEGG_TOPIK_PREFIX: no such setting; did you mean TREKKPAALEGG_TOPIC_PREFIX?",
        f"{PROGRAM}: KAFKA_CA_PATH: there is no such file",
        f"{PROGRAM}: KAFKA_BROKERS: missing; give host:port, several separated by commas",
    ]


def test_every_faulty_setting_is_reported(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("group.id=x\nno equals\na=1\na=2\n", encoding="utf-8")
    told = faults(
        {
            "KAFKA_BROKERS": "http://x/y",
            "KAFKA_SCHEMA_REGISTRY": "https://user:secret@host",
            "KAFKA_SCHEMA_REGISTRY_USER": "user",
            "KAFKA_CERTIFICATE_PATH": str(tmp_path / "own"),
            "KAFKA_PROPERTIES_FILE": str(tmp_path / "own"),
            "TREKKPAALEGG_TOPIC_PREFIX": "a b",
        }
    )
    assert [fault.split(": ")[0].split(" /")[0] for fault in told] == [
        "TREKKPAALEGG_TOPIC_PREFIX",
        "KAFKA_BROKERS",
        "KAFKA_SCHEMA_REGISTRY",
        "KAFKA_PROPERTIES_FILE",
        "KAFKA_PROPERTIES_FILE",
        "KAFKA_PROPERTIES_FILE",
        "KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH",
        "KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD",
    ]
    assert "secret" not in "".join(told)


def test_settings_of_the_producer_are_ignored() -> None:
    assert load_settings(None, {**GOOD, "TREKKPAALEGG_MAKS_ANTALL": "many"}).topic_prefix == "trekkpaalegg"


def test_service_links_of_kubernetes_are_no_settings() -> None:
    links = {"TREKKPAALEGG_APP_SERVICE_HOST": "10.0.0.1", "TREKKPAALEGG_APP_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert load_settings(None, GOOD | links)
    assert faults(GOOD | {"TREKKPAALEGG_APP_PORT": "80"})


def test_environment_wins_over_the_file_given_which_wins_over_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KAFKA_BROKERS=a:1\nTREKKPAALEGG_TOPIC_PREFIX=beside\n", encoding="utf-8")
    given = tmp_path / "given.env"
    given.write_text("TREKKPAALEGG_TOPIC_PREFIX=given\nKAFKA_SCHEMA_REGISTRY='http://r'\n", encoding="utf-8")
    settings = load_settings(given, {"KAFKA_SCHEMA_REGISTRY": "http://environment"})
    assert (settings.kafka_brokers, settings.topic_prefix) == ("a:1", "given")
    assert settings.kafka_schema_registry == "http://environment"
    assert faults(GOOD, tmp_path / "missing.env") == [
        f"{tmp_path / 'missing.env'}: cannot be read (FileNotFoundError); give a readable UTF-8 file"
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(["a", "b"]), 2),
        (TyperException("usage"), 2),
        (FatalError("a"), 1),
        (RetryableError("a"), 1),
        (UndecodableError("a"), 1),
        (Exit(2), 2),
        (KeyboardInterrupt(), 4),
        (StoppedError(), 4),
        (Abort(), 1),
        (ValueError("12928312345"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    ended, lines = ending_of(error)
    assert ended == code
    assert "12928312345" not in "".join(lines)


# `trekkpaalegg-consumer verify`: options and settings that contradict each other are reported before anything is read


def test_help_of_verify_shows_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run_command(["verify", "--help"]) is ExitCode.DONE
    assert f"Example: {PROGRAM} verify" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "options",
    [["--topics-only", "--api"], ["--topics-only", "--ledger", "sqlite:///x"], ["--every-version"], ["--nonsense"]],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_wrong_usage(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    assert run_command(["verify", *options]) is ExitCode.WRONG_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_of_the_source_that_are_missing_are_reported_all_at_once_with_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_TREKKPLIKTIGE", "314150260,12928312345")
    assert run_command(["verify", "--api"]) is ExitCode.WRONG_USAGE
    told = capsys.readouterr().err
    assert [line.split(": ")[1] for line in told.splitlines()] == [
        "KAFKA_BROKERS",
        "TREKKPAALEGG_TREKKPLIKTIGE",
        "TREKKPAALEGG_API_URL",
        "MASKINPORTEN_CLIENT_ID",
        "MASKINPORTEN_CLIENT_JWK",
        "MASKINPORTEN_WELL_KNOWN_URL",
    ]
    assert "12928312345" not in told


def test_the_file_of_employers_is_read_as_the_producer_reads_it(tmp_path: Path) -> None:
    (tmp_path / "employers").write_text("# ours\n314150260\n310000003,ref  # the second\n\nx\n", encoding="utf-8")
    environ = {"TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(tmp_path / "employers")}
    with pytest.raises(SettingsError) as raised:
        load_source_access(None, environ)
    faults = [fault for fault in raised.value.faults if "TREKKPLIKTIGE" in fault]
    place = f"TREKKPAALEGG_TREKKPLIKTIGE_FILE {tmp_path / 'employers'}: line 5"
    assert faults == [f"{place}: not an organisation number of 9 digits"]


# `payout`: all faulty options are reported at once, without what may be a national id
PERSON = "01810112345"


@pytest.fixture(autouse=True)
def gross(tmp_path: Path) -> Path:
    path = tmp_path / "gross.csv"
    path.write_text(f"skyldner,brutto\n{PERSON},-100\n{PERSON[:10]},1\n", encoding="utf-8")
    return path


def told(capsys: pytest.CaptureFixture, *options: str) -> tuple[int, list[str]]:
    code = run_command(["payout", *options])
    lines = capsys.readouterr().err.splitlines()
    assert PERSON not in "".join(lines)
    return code, [line.removeprefix(f"{PROGRAM}: ") for line in lines]


def test_what_is_missing_is_reported_at_once(capsys: pytest.CaptureFixture) -> None:
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


def test_every_faulty_option_is_reported(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
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


def test_a_wrong_setting_is_reported_beside_a_wrong_option(
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
def test_a_wrong_ledger_is_reported_without_its_password(
    capsys: pytest.CaptureFixture, gross: Path, url: str, code: int, word: str
) -> None:
    good = gross.with_name("good.csv")
    good.write_text(f"skyldner,brutto\n{PERSON},100\n", encoding="utf-8")
    found, lines = told(capsys, "--date", "2026-02-20", "--gross", str(good), "--ledger", url)
    assert found == code
    assert len(lines) == 1
    assert word in lines[0]
    assert "hush" not in lines[0]


def test_faults_of_the_file_are_reported_a_line_each(capsys: pytest.CaptureFixture) -> None:
    code, lines = told(capsys, "--date", "2026-02-20", "--gross", "gross.csv", "--ledger", "sqlite:///x.db")
    assert code == 1
    assert lines == [
        "gross.csv: line 2, column brutto: is negative; pay cannot be",
        "gross.csv: line 3, column skyldner: must be 11 digits; a leading 0 may have been lost in a spreadsheet",
    ]


def test_help_of_payout_shows_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run_command(["payout", "--help"]) == 0
    assert f"Example: {PROGRAM} payout --ledger" in " ".join(capsys.readouterr().out.split())
