"""Commands and options in, exit codes out: 0 done, 1 failed, 2 wrong usage or settings, 4 stopped too early."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import traceback
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import Abort, Exit, TyperException

from consumers.errors import ConsumerError, SettingsError
from consumers.settings import load_settings
from consumers.tail import LineScreen, Selection, TailOptions, Tally
from consumers.tail import tail as follow_topic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

PROGRAM = "trekkpaalegg-consumer"
_ORGANISASJONSNUMMER = re.compile(r"[0-9]{9}")


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    STOPPED = 4


class Trekkstatus(Enum):
    """What `--status` takes: the statuses of the event."""

    AKTIV = "aktiv"
    AVSLUTTET = "avsluttet"
    UKJENT = "ukjent"


class StoppedError(BaseException):
    """A signal to end came while a command was at work."""


app = typer.Typer(
    name=PROGRAM,
    help="Reads the events of the trekkpålegg stream.",
    epilog=f"Example: {PROGRAM} tail --from-beginning --until-end",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _program() -> None:
    """Keep `tail` a command of its own while it is the only one."""


@app.command(epilog=f"Example: {PROGRAM} tail --from-beginning --trekkpliktig 314159265 --status aktiv")
def tail(  # noqa: PLR0913 - one parameter for each option
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this employer's; may be given again.")] = None,
    trekkid: Annotated[list[str] | None, typer.Option(help="Only this order's; may be given again.")] = None,
    status: Annotated[list[Trekkstatus] | None, typer.Option(help="Only of this status; may be given again.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="All that is kept, not only new.")] = False,
    events_max: Annotated[int | None, typer.Option("--max", min=1, help="End after so many.", metavar="N")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="End where the topic ended at the start.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Read settings from this file too; the environment wins.", show_default=False),
    ] = None,
) -> int:
    """Show events as they come, one line each, with national ids masked. Ctrl-C ends it."""
    faults = _option_faults(trekkpliktig or [])
    try:
        settings = load_settings(env_file, os.environ)
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from error
    if faults:
        raise SettingsError(faults)
    selection = Selection(
        frozenset(trekkpliktig or []), frozenset(trekkid or []), frozenset(each.value for each in status or [])
    )
    options = TailOptions(selection, from_beginning, events_max, until_end)
    screen = LineScreen(_print, _note, as_json=as_json, width=_width())
    tally = Tally()
    try:
        follow_topic(settings, options, screen, tally)
    except (KeyboardInterrupt, StoppedError):
        # To look until told to stop is all that was asked for, unless an end was asked for that did not come.
        _note(str(tally))
        if options.has_goal:
            raise StoppedError from None
        return ExitCode.DONE
    except BrokenPipeError:
        return ExitCode.DONE  # whoever reads has seen enough
    _note(str(tally))
    return ExitCode.DONE


def _option_faults(trekkpliktig: list[str]) -> list[str]:
    """What is wrong with the options, never with their values in it: a national id may have been given by mistake."""
    wrong = [number for number, each in enumerate(trekkpliktig, start=1) if not _ORGANISASJONSNUMMER.fullmatch(each)]
    return [f"--trekkpliktig: number {number} is not an organisation number of nine digits" for number in wrong]


def _width() -> int | None:
    """Columns of the terminal, or as the variable COLUMNS says; None where lines may be of any length."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {text}\n")
    sys.stderr.flush()


def run_command(arguments: Sequence[str] | None = None) -> ExitCode:
    """Run one command line (without the program's name). Every error ends here, as words and a code."""
    try:
        ended = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  the last border
        code, lines = ending_of(error)
        for line in lines:
            _note(" ".join(line.split()))
        return code
    return ExitCode(ended) if isinstance(ended, int) else ExitCode.DONE


def ending_of(error: BaseException) -> tuple[ExitCode, list[str]]:
    """The exit code, and what to say, a line each. Pure."""
    code, lines = ExitCode.FAILED, [str(error)]
    match error:
        case SettingsError():
            code, lines = ExitCode.WRONG_USAGE, error.faults
        case TyperException():
            code, lines = ExitCode.WRONG_USAGE, [f"{error.format_message()} See --help."]
        case ConsumerError():
            pass
        case Exit():
            code, lines = ExitCode(error.exit_code), []
        case Abort() | KeyboardInterrupt() | StoppedError():
            code, lines = ExitCode.STOPPED, ["stopped by a signal before it was done"]
        case _:
            lines = [f"unexpected {type(error).__name__}{_place_of(error)}; please report it"]
    return code, lines


def _place_of(error: BaseException) -> str:
    """Where it was raised. Not its text, which may quote what was read."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise StoppedError


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _stop)
    # A terminal that cannot show æøå must not end the program.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a replaced stream may lack it
    code = run_command()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    os._exit(code)  # Python would complain about the closed pipe once more
