"""The command line of the consumers: commands, options and exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from consumers.cli.exit_codes import ExitCode, ending_of
from consumers.cli.output import PROGRAM, note
from trekkpaalegg.cli import CommandModule, lazy_group
from trekkpaalegg.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

COMMANDS = {
    "run": CommandModule(f"{__package__}.run"),
    "retry": CommandModule(f"{__package__}.retry"),
    "replay": CommandModule(f"{__package__}.replay"),
    "payout": CommandModule(f"{__package__}.payout", extra="payout"),
    "take-back": CommandModule(f"{__package__}.take_back", extra="payout"),
    "tail": CommandModule(f"{__package__}.tail"),
    "verify": CommandModule(f"{__package__}.verify"),
    "webhook": CommandModule(f"{__package__}.webhook", extra="webhook"),
}

app = typer.Typer(
    name=PROGRAM,
    cls=lazy_group(COMMANDS),
    help="Reads the events of the trekkpålegg stream and applies them to payroll ledgers.",
    epilog=f"Example: {PROGRAM} tail --from-beginning --until-end",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _program() -> None:
    """With a callback, typer makes a program of several commands."""


def run_command(arguments: Sequence[str] | None = None) -> ExitCode:
    """Run one command line (without the program's name). Every error ends here, as words and a code."""
    try:
        ended = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  the last border
        code, lines = ending_of(error)
        for line in lines:
            note(" ".join(line.split()))
        return code
    return ExitCode(ended) if isinstance(ended, int) else ExitCode.DONE


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
