"""Text for people in, the terminal out."""

from __future__ import annotations

import os
import shutil
import sys

PROGRAM = "trekkpaalegg-consumer"


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
