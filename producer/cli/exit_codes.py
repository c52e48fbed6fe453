"""What a command raised in, its exit code and the words for stderr out. Pure."""

from __future__ import annotations

from enum import IntEnum

from typer.exceptions import Abort, Exit, TyperException

from producer.errors import FencedError
from trekkpaalegg.errors import SettingsError, StoppedError, TrekkpaaleggError


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    FENCED = 3
    STOPPED = 4


def ending_of(error: BaseException) -> tuple[ExitCode | None, list[str]]:
    """The exit code, and what to say, a line each; no code for an error that nobody foresaw."""
    code: ExitCode | None
    match error:
        case SettingsError():
            code, lines = ExitCode.WRONG_USAGE, error.faults
        case TyperException():
            code, lines = ExitCode.WRONG_USAGE, [f"{error.format_message()} See --help."]
        case FencedError():
            code, lines = ExitCode.FENCED, [str(error)]
        case TrekkpaaleggError():
            code, lines = ExitCode.FAILED, [str(error)]
        case Exit():
            code, lines = ExitCode(error.exit_code), []
        case SystemExit():
            code, lines = ExitCode(error.code if isinstance(error.code, int) else 1), []
        case Abort():
            code, lines = ExitCode.FAILED, ["not confirmed; nothing was changed"]
        case KeyboardInterrupt() | StoppedError():
            code, lines = ExitCode.STOPPED, ["stopped by a signal before it was done"]
        case _:
            code, lines = None, [f"unexpected {type(error).__name__}; the log entry above tells where"]
    return code, [" ".join(line.split()) for line in lines]
