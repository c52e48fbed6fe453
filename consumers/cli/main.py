"""The command line of the consumers: commands, options and exit codes."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from consumers.cli import payout, replay, retry, run, tail, take_back, verify, webhook
from consumers.cli.exit_codes import ExitCode, ending_of
from consumers.cli.output import PROGRAM, note
from trekkpaalegg.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

GARBAGE_OBJECTS_MAX = 100_000
"""How many new objects may gather before garbage is looked for; a batch has half as many."""

app = typer.Typer(
    name=PROGRAM,
    help="Reads the events of the trekkpålegg stream and applies them to payroll ledgers.",
    epilog=f"Example: {PROGRAM} tail --from-beginning --until-end",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _program() -> None:
    """Keep a command of its own each, also while there is only one."""


for command in (run, retry, replay, payout, take_back, tail, verify, webhook):
    command.register(app)


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


def collect_garbage_rarely() -> None:
    """Look for cycles once in many batches, and never in what was imported.

    What a batch is made of has none and goes with the batch; walking it time and again was a fifth of the work.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS_MAX)


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _stop)
    collect_garbage_rarely()
    # A terminal that cannot show æøå must not end the program.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a replaced stream may lack it
    code = run_command()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    os._exit(code)  # Python would complain about the closed pipe once more
