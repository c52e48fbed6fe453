"""Wait for a condition until a deadline; a clock that tests set; progress that nobody sees.

A deadline is for conditions that never hold. On a busy machine everything takes longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


WAIT_SECONDS_MAX = 30.0
PATIENCE = 4.0
"""By this factor every wait is longer than its caller says, who counts the seconds of an idle machine."""

_PAUSE_SECONDS = 0.002
_PAUSE_SECONDS_MAX = 0.05


def until(
    condition: Callable[[], object],
    seconds_max: float = WAIT_SECONDS_MAX,
    what: str = "what was waited for",
    *,
    pause_seconds: float | None = None,
    print_state: Callable[[], None] = lambda: None,
) -> None:
    """Return when the condition holds. Raises `TimeoutError` with `what` after the deadline.

    Unless `pause_seconds` is given, the pauses grow with the time waited, from 2 to 50 ms: asking all the time would
    slow down what is waited for.

    `print_state` prints the state then, which is too long for the error: a summary of many tests has a line for each.
    """
    seconds_max *= PATIENCE
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        if waited > seconds_max:
            print_state()
            raise TimeoutError(f"not within {seconds_max:g} s: {what}")
        time.sleep(pause_seconds or min(max(_PAUSE_SECONDS, waited / 10), _PAUSE_SECONDS_MAX))


def for_a_while(condition: Callable[[], object], seconds: float = 0.15) -> None:
    """Check that the condition holds all this time, for what must not happen. Raises `AssertionError`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError("it did not stay so")
        time.sleep(_PAUSE_SECONDS)


class TurnedClock:
    """Call it for the seconds, as `time.monotonic`; set or add to `seconds` to turn it."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """What it shows."""
        return self.seconds


class Unseen:
    """Progress that nobody looks at."""

    def expect(self, messages: int) -> None:
        """So many are to come."""

    def advance(self, messages: int) -> None:
        """So many have come."""
