"""`trekkpaalegg-consumer verify`: options and settings that do not go together are told before anything is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from consumers.cli import PROGRAM
from consumers.cli.main import run_command
from consumers.verify.source import load_source_access
from trekkpaalegg.cli import ExitCode
from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")):
            monkeypatch.delenv(name)


def test_help_shows_an_example(capsys: pytest.CaptureFixture) -> None:
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


def test_settings_of_the_source_that_are_missing_are_told_all_at_once_with_the_others(
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
