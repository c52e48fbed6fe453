"""A clock for tests: it stands until it is turned."""

from __future__ import annotations


class TurnedClock:
    """Call it for the seconds, as `time.monotonic`; set or add to `seconds` to turn it."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """What it shows."""
        return self.seconds
