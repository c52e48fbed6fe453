"""Wait for a condition until a deadline; a clock that tests set; progress that nobody sees.

A deadline is for what never comes. On a machine that is busy with other things all that comes takes longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


WAIT_SECONDS_MAX = 30.0
PATIENCE = 4.0
"""So much longer than told is waited: told are the seconds of a machine that has nothing else to do."""

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
    """Return when the condition holds. Raises `TimeoutError` with `what` when it does not come to.

    Unless `pause_seconds` is given, the pauses grow with the time waited, from 2 to 50 ms: asking all the time would
    slow down what is waited for.

    How things stand then is long, and printed: a summary of many tests has room for a line of each.
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
    """See that the condition holds all this time: what must not happen has had time to. Raises `AssertionError`."""
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
