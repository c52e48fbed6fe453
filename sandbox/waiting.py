"""A condition in, a return when it holds out: waiting with a deadline, for tests of what threads and servers do.

A deadline is for what never comes. On a machine that is busy with other things all that comes takes longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS_MAX = 10.0
PATIENCE = 4.0
"""So much longer than told is waited: told are the seconds of a machine that has nothing else to do."""

_PAUSE_SECONDS = 0.002


def until(condition: Callable[[], object], seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Return when the condition holds. Raises `TimeoutError` when it does not come to."""
    seconds_max *= PATIENCE
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come so far in {seconds_max} s")
        time.sleep(_PAUSE_SECONDS)


def for_a_while(condition: Callable[[], object], seconds: float = 0.15) -> None:
    """See that the condition holds all this time: what must not happen has had time to. Raises `AssertionError`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError("it did not stay so")
        time.sleep(_PAUSE_SECONDS)
