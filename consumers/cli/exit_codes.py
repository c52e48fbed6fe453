"""Errors in, exit codes and words out: 0 done, 1 failed, 2 wrong usage or settings, 3 fenced, 4 stopped too early."""

from __future__ import annotations

import traceback
from enum import IntEnum
from pathlib import Path

from typer.exceptions import Abort, Exit, TyperException

from consumers.errors import InputError
from trekkpaalegg.errors import FencedError, SettingsError, StoppedError, TrekkpaaleggError

_FAULTS_MAX = 50


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    FENCED = 3
    STOPPED = 4


def ending_of(error: BaseException) -> tuple[ExitCode, list[str]]:
    """The exit code, and what to say, a line each. Pure."""
    code, lines = ExitCode.FAILED, [str(error)]
    match error:
        case SettingsError():
            code, lines = ExitCode.WRONG_USAGE, error.faults
        case TyperException():
            code, lines = ExitCode.WRONG_USAGE, [f"{error.format_message()} See --help."]
        case InputError():
            lines = _first(error.faults)
        case FencedError():
            code = ExitCode.FENCED
        case TrekkpaaleggError():
            pass
        case Exit():
            code, lines = ExitCode(error.exit_code), []
        case Abort() | KeyboardInterrupt() | StoppedError():
            code, lines = ExitCode.STOPPED, ["stopped by a signal before it was done"]
        case _:
            lines = [f"unexpected {type(error).__name__}{_place_of(error)}; please report it"]
    return code, lines


def _first(faults: list[str]) -> list[str]:
    """So many as can be read."""
    left = len(faults) - _FAULTS_MAX
    return faults if left <= 0 else [*faults[:_FAULTS_MAX], f"and {left} faults more"]


def _place_of(error: BaseException) -> str:
    """Where it was raised. Not its text, which may quote what was read."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
