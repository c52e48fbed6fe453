"""Print the story in 80 columns, with colours on a terminal and plain elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.rule import Rule
from rich.text import Text

from sandbox.demo.words import seconds_text, shown_lines, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH = 80
_INDENT = "  "


class ClaimError(Exception):
    """Something that the story claims does not hold; the message says what, on one line."""


class Narrator:
    """Prints the story. `monotonic` gives seconds."""

    def __init__(self, console: Console | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(width=WIDTH, highlight=False, soft_wrap=True)
        self._monotonic = monotonic
        self._begun = monotonic()
        self._steps = 0

    @property
    def elapsed_seconds(self) -> float:
        """Since this narrator was made."""
        return self._monotonic() - self._begun

    def title(self, title: str, text: str) -> None:
        """The heading of the whole."""
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), characters="━", style="cyan"))
        self._paragraph(text)

    def step(self, title: str) -> None:
        """Begin the next chapter, with the elapsed time at its right."""
        self._steps += 1
        self._console.print()
        heading, clock = f"{self._steps}  {title}", seconds_text(self.elapsed_seconds)
        gap = " " * max(WIDTH - len(heading) - len(clock), 1)
        self._console.print(Text.assemble((heading, "bold cyan"), gap, (clock, "dim")))

    def say(self, text: str) -> None:
        """A paragraph."""
        self._paragraph(text)

    def command(self, line: str) -> None:
        """A command that is run."""
        self._console.print()
        self._console.print(Text(" \\\n".join(wrapped(line, WIDTH - 2, first="$ ", rest="    ")), style="bold"))

    def output(self, text: str, *, lines_max: int = 24) -> None:
        """What a command printed, as it printed it, but for what is too wide or too much."""
        for line in shown_lines(text, WIDTH, lines_max):
            self._console.print(Text(line, style="bright_black"))

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values, in two columns."""
        column = max(len(name) for name, _ in rows) + 2
        for name, value in rows:
            first = f"{_INDENT}{name:{column}}"
            for line in wrapped(value, WIDTH, first=first):
                self._console.print(Text.assemble((line[: len(first)], "dim"), line[len(first) :]))

    def claim(self, text: str, *, holds: bool, otherwise: str = "") -> None:
        """Print the claim if it holds, otherwise raise `ClaimError`; `otherwise` says what was found instead."""
        if not holds:
            raise ClaimError(f"not so: {text}" + (f" ({otherwise})" if otherwise else ""))
        self._marked("✓", text, "green")

    def event(self, text: str) -> None:
        """Something that is done to the programs from outside."""
        self._marked("⚡", text, "bold red")

    def end(self, text: str) -> None:
        """The last line."""
        self._console.print()
        self._console.print(Text(text, style="bold green"))

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A spinner, on a terminal, while something is waited for."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield

    @contextlib.contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar, on a terminal; call what it gives with how much is done."""
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=30), MofNCompleteColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(text, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _paragraph(self, text: str) -> None:
        for line in wrapped(text, WIDTH, first=_INDENT):
            self._console.print(Text(line))

    def _marked(self, mark: str, text: str, style: str) -> None:
        first = f"{_INDENT}{mark} "
        for line in wrapped(text, WIDTH, first=first):
            self._console.print(Text.assemble((line[: len(first)], style), line[len(first) :]))
