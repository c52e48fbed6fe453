"""What commands print: text, JSON, remarks and progress, until a signal stops them."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table


class Output:
    """Where a command prints. With `as_json` it prints one JSON document and nothing else on stdout."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def json(self, document: object) -> None:
        """Print the document of a command that was asked for JSON."""
        self._out.print(json.dumps(document, ensure_ascii=False, indent=2), markup=False)

    def table(self, table: Table) -> None:
        """Print a table."""
        Console(highlight=False, width=None if self._out.is_terminal else 200).print(table)

    def line(self, text: str) -> None:
        """Print a line of the result."""
        self._out.print(text, markup=False)

    def note(self, text: str) -> None:
        """Print a remark that is no part of the result."""
        self._err.print(text, markup=False)


class _VersionsColumn(ProgressColumn):
    """How many versions were published, and how many a second."""

    def render(self, task: Task) -> Text:
        versions = int(task.fields["versions"])
        rate = versions / task.elapsed if task.elapsed else 0.0
        return Text(f"{versions} versions, {rate:.0f}/s")


def progress_bar() -> Progress:
    """A bar of employers; its task has a field `versions`. Silent where standard error is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _VersionsColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
        transient=True,
    )


STOP_SECONDS_MAX = 9.0
"""After a signal; then a commit that hangs is left to the next fence."""

_WAIT_SECONDS = 0.5


def run_interruptible(work: Callable[[], None], stopping: threading.Event) -> None:
    """Run `work` and raise what it raises.

    Python takes signals in the main thread alone, between two calls, and a call into librdkafka may last for as long
    as Kafka is silent. What a signal's handler raises here sets `stopping`, and is raised when the work has ended, or
    after `STOP_SECONDS_MAX`.
    """
    errors: list[BaseException] = []
    ended = threading.Event()

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, which raises it
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
