"""What commands share: printing, signals that stop them, and the pace of the garbage collector."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


PROGRAM = "trekkpaalegg-consumer"

_COLLECTED_AFTER = (200_000, 20, 50)


def width() -> int | None:
    """Columns of the terminal, or as the variable COLUMNS says; None where lines may be of any length."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def write(text: str) -> None:
    """To stdout, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """A line to stderr, which begins with the program's name."""
    sys.stderr.write(f"{PROGRAM}: {text}\n")
    sys.stderr.flush()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set: what is under way is finished, and nothing is interrupted in the middle."""
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
