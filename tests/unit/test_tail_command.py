"""`trekkpaalegg-consumer`: help, settings and exit codes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from typer.exceptions import Abort, Exit, TyperException

from consumers.cli import PROGRAM
from consumers.cli.main import run_command
from consumers.settings.model import KNOWN_NAMES, PRODUCER_SETTINGS, SETTING_NAMES, load_settings
from producer.settings.model import SECRET_FILE_NAMES
from producer.settings.model import SETTING_NAMES as PRODUCERS_NAMES
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, StoppedError, UndecodableError

if TYPE_CHECKING:
    from pathlib import Path

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
def test_wrong_usage_is_told_in_a_line_and_ends_with_2(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run_command(words) is ExitCode.WRONG_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_wrong_options_and_settings_are_told_all_at_once_and_without_values(
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


def test_every_faulty_setting_is_told(tmp_path: Path) -> None:
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


def test_settings_of_the_producer_are_let_through_unread() -> None:
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
