"""The bar that commands show on a terminal while employers are read."""

from __future__ import annotations

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
