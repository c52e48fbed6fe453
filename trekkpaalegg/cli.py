"""What command-line programs share: exit codes, error messages, output, signals, options, and commands loaded late.

Importing SQLAlchemy, Kafka's client and HTTP libraries takes Python a second or more. So a command imports only what
it uses, and one whose packages are not installed says which extra brings them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from enum import IntEnum
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, Exit, TyperException
from typer.main import get_command

from trekkpaalegg.errors import FatalError, FencedError, SettingsError, StoppedError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

DISTRIBUTION = "trekkpaalegg-stream"
"""The name that pip knows this project by."""

STOP_SECONDS_MAX = 9.0
"""How long interrupted work may take to end. A commit that still hangs then is left to the next fence."""

_WAIT_SECONDS = 0.5
_FAULTS_MAX = 50
_TABLE_WIDTH = 200
_COLLECTED_AFTER = (200_000, 20, 50)

EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", help="Read settings from this file too; the environment wins.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    FENCED = 3
    STOPPED = 4


def ending_of(error: BaseException) -> tuple[ExitCode, list[str]]:
    """The exit code of a command that raised this error, and what to say on stderr, a line each."""
    code, lines = ExitCode.FAILED, [str(error)]
    match error:
        case SettingsError():
            code, lines = ExitCode.WRONG_USAGE, error.faults
        case TyperException():
            code, lines = ExitCode.WRONG_USAGE, [f"{error.format_message()} See --help."]
        case FencedError():
            code = ExitCode.FENCED
        case TrekkpaaleggError():
            faults = getattr(error, "faults", lines)
            more = len(faults) - _FAULTS_MAX
            lines = faults if more <= 0 else [*faults[:_FAULTS_MAX], f"and {more} more faults"]
        case Exit():
            code, lines = ExitCode(error.exit_code), []
        case SystemExit():
            code, lines = ExitCode(error.code if isinstance(error.code, int) else 1), []
        case Abort():
            lines = ["not confirmed; nothing was changed"]
        case KeyboardInterrupt() | StoppedError():
            code, lines = ExitCode.STOPPED, ["stopped by a signal before it was done"]
        case _:
            lines = [f"unexpected {type(error).__name__}{_raised_in(error)}; please report it"]
    return code, [" ".join(line.split()) for line in lines]


def _raised_in(error: BaseException) -> str:
    """Where it was raised. Its text is left out, because it may quote an event."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _print_version(context: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        sys.stdout.write(f"{context.find_root().info_name} {metadata.version(DISTRIBUTION)}\n")
        raise Exit


def _program_options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of a whole program. `version` is handled by its callback."""


def make_program(name: str, *, about: str, example: str, commands: type[TyperGroup] | None = None) -> typer.Typer:
    """A program without commands yet, with `--version` and shell completion. `example` ends its help."""
    program = typer.Typer(
        name=name,
        cls=commands or TyperGroup,
        help=about,
        epilog=f"Example: {name} {example}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    program.callback()(_program_options)
    return program


def run_command(program: typer.Typer, arguments: Sequence[str] | None = None) -> ExitCode:
    """Run one command line (without the program's name). Errors end here, as a message on stderr and an exit code."""
    name = program.info.name
    try:
        ended = program(args=arguments, prog_name=name, standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - nothing above handles it
        code, lines = ending_of(error)
        if isinstance(error, Exception) and not isinstance(error, TrekkpaaleggError | TyperException | Exit | Abort):
            _log_unexpected(error)
        for line in lines:
            sys.stderr.write(f"{name}: {line}\n")
        sys.stderr.flush()
        return code
    return ExitCode(ended) if isinstance(ended, int) else ExitCode.DONE


def _log_unexpected(error: Exception) -> None:
    """Log the traceback if logs are configured, which masks national ids in it."""
    if logging.getLogger().handlers:
        logging.getLogger(__name__).error("unexpected error", exc_info=error)


def main(program: typer.Typer) -> NoReturn:
    """Run the program and exit. SIGTERM and Ctrl-C raise `StoppedError` in the main thread."""
    # Ctrl-C too: typer would give KeyboardInterrupt an exit code of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_stopped)
    # A terminal that cannot show æøå must not end the program.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a replaced stream may lack it
    code = run_command(program)
    # The command is done: a signal that comes now must not change its exit code.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    os._exit(code)  # Python would complain about the closed pipe once more


def _raise_stopped(*_: object) -> None:
    raise StoppedError


def confirm(question: str, *, yes: bool) -> None:
    """Go on if the answer is yes, or `yes` was given. Raises typer's `Abort` otherwise."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


class Output:
    """Prints results to stdout, and notes, after the program's name, to stderr.

    With `as_json` a command prints one JSON document to stdout and nothing else.
    """

    def __init__(self, program: str, *, as_json: bool = False) -> None:
        self.program = program
        self.as_json = as_json

    def write(self, text: str) -> None:
        """Print text as it is, at once."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Print a line."""
        self.write(f"{text}\n")

    def json(self, document: object) -> None:
        """Print a JSON document."""
        self.line(json.dumps(document, ensure_ascii=False, indent=2))

    def table(self, table: Table) -> None:
        """Print a table, as wide as the terminal."""
        from rich.console import Console

        Console(highlight=False, width=None if sys.stdout.isatty() else _TABLE_WIDTH).print(table)

    def note(self, text: str) -> None:
        """Print a line that is not part of the result."""
        sys.stderr.write(f"{self.program}: {text}\n")
        sys.stderr.flush()


def terminal_width() -> int | None:
    """Columns of the terminal, or of the variable COLUMNS; None if lines may be of any length."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr, with these columns after the count. It shows nothing if stderr is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def stopped_by_signals(
    on_signal: Callable[[int], None] | None = None, *, second_interrupts: bool = False
) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that work under way can end in order.

    `on_signal` is called with each signal. With `second_interrupts` a second signal does what it did before.
    """
    stopping = threading.Event()
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(number: int, _frame: object) -> None:
        if on_signal is not None:
            on_signal(number)
        stopping.set()
        if second_interrupts:
            restore()

    for number in former:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()


def run_interruptible(work: Callable[[], None], stopping: threading.Event) -> None:
    """Run `work` in a thread of its own, and raise what it raises.

    Python handles signals in the main thread only, between two calls, and a call into librdkafka may last for as long
    as Kafka does not answer. If a signal's handler raises here, `stopping` is set, and what it raised is raised when
    the work has ended, or after `STOP_SECONDS_MAX`.
    """
    errors: list[BaseException] = []
    ended = threading.Event()

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=body, name="work", daemon=True).start()
        while not ended.wait(_WAIT_SECONDS):
            continue
    except BaseException:
        stopping.set()
        ended.wait(STOP_SECONDS_MAX)
        raise
    if errors:
        raise errors[0]


def freeze_imported_modules() -> None:
    """Leave all modules and their contents out of garbage collection: they stay in memory to the end.

    Searching them at each full collection took a tenth of a back-fill's time.
    """
    gc.freeze()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Search for reference cycles rarely, and never among imported modules.

    A batch of events consists of some hundred thousand objects, none of them in a cycle. Searching them at Python's
    default pace took a quarter of the time of applying them, and a third of that of a payout or a proof.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class CommandModule(NamedTuple):
    """Where a command is defined: a module whose function `register` adds it to a `typer.Typer`."""

    name: str
    extra: str | None = None
    """The optional dependencies that it needs."""


def lazy_group(modules: Mapping[str, CommandModule]) -> type[TyperGroup]:
    """A class for `typer.Typer(cls=…)` that imports the module of a command, by the command's name, when it is used."""

    class LazyGroup(TyperGroup):
        def __init__(self, **given: Any) -> None:  # noqa: ANN401 - typer's own
            super().__init__(**given)
            # The names alone, for the list of commands and for suggestions.
            self.commands.update({name: TyperCommand(name) for name in modules})

        def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override] # noqa: ARG002 - typer keeps its class of contexts to itself
            return _load(cmd_name, modules[cmd_name]) if cmd_name in modules else None

    return LazyGroup


def extra_hint(command: str, missing: str, extra: str) -> str:
    """What to say when the package `missing` is not installed."""
    return f"`{command}` needs {missing}, which is not installed: run pip install '{DISTRIBUTION}[{extra}]'"


def _load(name: str, module: CommandModule) -> TyperCommand | TyperGroup:
    program = typer.Typer()
    # With a callback typer makes a group, even of one command.
    program.callback()(lambda: None)
    try:
        import_module(module.name).register(program)
    except ModuleNotFoundError as error:
        if module.extra is None:
            raise
        _register_hint(program, name, extra_hint(name, error.name or "a package", module.extra))
    group = get_command(program)
    assert isinstance(group, TyperGroup)  # noqa: S101 - see the callback
    return group.commands[name]  # type: ignore[return-value] # typer makes no others


def _register_hint(program: typer.Typer, name: str, hint: str) -> None:
    """In place of a command that cannot be imported, one that says why, in the program's help too."""

    def explain() -> NoReturn:
        raise FatalError(hint)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    program.command(name=name, help=f"Not installed: {hint}.", context_settings=anything)(explain)
