"""Names and an operation in, what each came to out: so many at a time, with a bar, and one's trouble is its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from producer.errors import ProducerError, RetryableError, SuspendedError
from producer.retry import call_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNANSWERED_IN_A_ROW_MAX = 25
"""So many passing failures with no success between them, and the other side is taken to be down: no one else is tried.
"""

Result = TypeVar("Result")


class Failed(msgspec.Struct, frozen=True):
    """It could not be done for this one."""

    error: ProducerError


class Many:
    """Runs operations for many trekkpliktige. Passing failures are tried again a few times, in seconds."""

    def __init__(self, at_once: int, stopping: threading.Event) -> None:
        self._at_once = at_once
        self._stopping = stopping
        self._lock = threading.Lock()
        self._unanswered = 0

    @property
    def is_stopping(self) -> bool:
        """Whether a signal to end has come."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, no longer than until a signal to end."""
        self._stopping.wait(seconds)

    def each(self, what: str, names: Sequence[str], operation: Callable[[str], Result]) -> dict[str, Result | Failed]:
        """The result or failure of each name, in their order. Raises what strikes all, `FatalError` for one."""
        self._unanswered = 0
        with _progress() as progress, ThreadPoolExecutor(self._at_once, thread_name_prefix="many") as pool:
            task = progress.add_task(what, total=len(names))

            def run(name: str) -> Result | Failed:
                try:
                    return self._one(name, operation)
                finally:
                    progress.advance(task)

            try:
                return dict(zip(names, pool.map(run, names), strict=True))
            except BaseException:
                self._stopping.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, name: str, operation: Callable[[str], Result]) -> Result | Failed:
        with self._lock:
            is_down = self._unanswered >= UNANSWERED_IN_A_ROW_MAX
        if is_down or self.is_stopping:
            return Failed(RetryableError("not tried: those before it got no answer"))
        try:
            result = call_retries(self._stopping)(operation, name)
        except SuspendedError as error:
            self._count(answered=True)
            return Failed(error)
        except RetryableError as error:
            self._count(answered=False)
            return Failed(error)
        self._count(answered=True)
        return result

    def _count(self, *, answered: bool) -> None:
        with self._lock:
            self._unanswered = 0 if answered else self._unanswered + 1


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
        transient=True,
    )
