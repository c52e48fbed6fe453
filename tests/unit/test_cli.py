"""The command line: help with examples, exit codes, error messages, and work that signals interrupt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from importlib import metadata
from typing import TYPE_CHECKING

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, Exit, TyperException

from consumers.cli.main import app as consumers_app
from producer.cli import PROGRAM
from producer.cli.main import app, run_command
from producer.cli.topics import parse_retention
from producer.errors import AbortedError, LaneFencedError, SuspendedError
from sandbox.cli.main import app as sandbox_app
from trekkpaalegg import cli
from trekkpaalegg.cli import ExitCode, ending_of, run_interruptible
from trekkpaalegg.errors import FatalError, SettingsError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.core import TyperCommand


# The command line: help with examples, exit codes, and errors in words


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")):
            monkeypatch.delenv(name)


def command_lines(command: TyperCommand | TyperGroup | None = None, *before: str) -> Iterator[list[str]]:
    """Every command and group of commands."""
    command = command or typer.main.get_command(app)
    yield list(before)
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from command_lines(command.get_command(context, name), *before, name)


@pytest.mark.parametrize("words", list(command_lines()), ids=" ".join)
def test_every_help_shows_an_example_that_starts_with_the_command(
    words: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run_command([*words, "--help"]) is ExitCode.DONE
    shown = " ".join(re.sub(r"[│╭╰─╮╯]", " ", capsys.readouterr().out).split())
    assert f"Example: {' '.join([PROGRAM, *words])}" in shown


@pytest.mark.parametrize(
    "words",
    [[], ["topics"], ["nonsense"], ["doctor", "--nonsense"], ["topics", "apply", "--partitions", "0"]],
    ids=" ".join,
)
def test_wrong_usage_is_reported_in_a_line_and_ends_with_2(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run_command(words) is ExitCode.WRONG_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_bad_setting_is_reported_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_MAKS_ANTALL", "many")
    monkeypatch.setenv("TREKKPAALEGG_TOPIK_PREFIX", "x")
    assert run_command(["topics", "apply"]) is ExitCode.WRONG_USAGE
    assert capsys.readouterr().err.splitlines() == [
        f"{PROGRAM}: TREKKPAALEGG_TOPIK_PREFIX: no such setting; did you mean TREKKPAALEGG_TOPIC_PREFIX?",
        f"{PROGRAM}: TREKKPAALEGG_MAKS_ANTALL: must be a whole number",
        f"{PROGRAM}: KAFKA_BROKERS: missing; give host:port, several separated by commas",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(["a", "b"]), 2),
        (TyperException("usage"), 2),
        (LaneFencedError("fenced"), 3),
        (FatalError("no"), 1),
        (SuspendedError("no"), 1),
        (AbortedError("no"), 1),
        (Abort(), 1),
        (KeyboardInterrupt(), 4),
        (StoppedError(), 4),
        (Exit(3), 3),
        (SystemExit(2), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes_are_those_of_the_contract(error: BaseException, code: int) -> None:
    assert ending_of(error)[0] == code


def test_an_unforeseen_error_is_reported_by_its_kind_alone() -> None:
    assert ending_of(ValueError("01810112345")) == (ExitCode.FAILED, ["unexpected ValueError; please report it"])


def test_an_error_is_reported_on_one_line() -> None:
    assert ending_of(FatalError("a\nb"))[1] == ["a b"]


@pytest.mark.parametrize("program", [app, consumers_app, sandbox_app], ids=["producer", "consumers", "sandbox"])
def test_each_program_prints_its_version(program: typer.Typer, capsys: pytest.CaptureFixture) -> None:
    assert cli.run_command(program, ["--version"]) is ExitCode.DONE
    assert capsys.readouterr().out == f"{program.info.name} {metadata.version('trekkpaalegg-stream')}\n"


@pytest.mark.parametrize(
    ("program", "begun", "command"),
    [(app, "pos", "position"), (consumers_app, "tak", "take-back"), (sandbox_app, "ap", "api")],
    ids=["producer", "consumers", "sandbox"],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_program_completes_its_commands_in_a_shell(
    program: typer.Typer,
    begun: str,
    command: str,
    shell: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for name, value in completing(str(program.info.name), begun, shell).items():
        monkeypatch.setenv(name, value)
    assert cli.run_command(program, []) is ExitCode.DONE
    assert command in capsys.readouterr().out


def test_a_program_starts_as_a_module() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "consumers", "--version"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"trekkpaalegg-consumer {metadata.version('trekkpaalegg-stream')}\n"


def completing(program: str, begun: str, shell: str) -> dict[str, str]:
    """The variables by which a shell asks for the commands that begin so."""
    return {
        f"_{program.replace('-', '_').upper()}_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": f"{program} {begun}",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": f"{program} {begun}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def test_retention_is_for_ever_or_days() -> None:
    assert parse_retention("forever") == -1
    assert parse_retention("2d") == 172_800_000
    for text in ("", "0d", "-1d", "2", "d", "2w", "999999d", "\u0662d"):
        with pytest.raises(SettingsError, match="--history-retention"):
            parse_retention(text)


# Work in a thread of its own: the caller gets its end and its errors, and a signal does not wait for it
WAIT_SECONDS_MAX = 60.0


@pytest.fixture
def handler() -> Iterator[None]:
    """SIGUSR1 raises `StoppedError` in the main thread, as SIGTERM does in a command."""

    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGUSR1, stop)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_work_that_ends_returns():
    done = []
    run_interruptible(lambda: done.append(threading.current_thread()), threading.Event())
    assert done != [threading.main_thread()]


def test_error_of_the_work_is_raised_as_it_is():
    error = LaneFencedError("taken")

    def work():
        raise error

    with pytest.raises(LaneFencedError) as raised:
        run_interruptible(work, threading.Event())
    assert raised.value is error


@pytest.mark.usefixtures("handler")
def test_signal_asks_the_work_to_stop_and_is_raised_when_it_has():
    stopping, ended = threading.Event(), threading.Event()

    def work():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        if stopping.wait(WAIT_SECONDS_MAX):
            ended.set()

    with pytest.raises(StoppedError):
        run_interruptible(work, stopping)
    assert ended.is_set()
