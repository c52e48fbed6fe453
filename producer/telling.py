"""A lane's schedule, state and pulling in; its standing figures, told every few seconds, out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producer.figures import figures_of

if TYPE_CHECKING:
    from producer.domain.state import LaneState
    from producer.observe.port import Observer
    from producer.pulling import Pulling
    from producer.schedule import Schedule

FIGURES_INTERVAL_SECONDS = 5.0
FIGURES_SHARE_MAX = 0.005


class Telling:
    """Tells one lane's figures. Used by the lane's thread only."""

    def __init__(self, lane: int, observer: Observer) -> None:
        self._lane = lane
        self._observer = observer
        self._due = 0.0

    def turn(self, schedule: Schedule, state: LaneState, pulling: Pulling) -> None:
        """Tell them, if it is time."""
        now = time.monotonic()
        if now < self._due:
            return
        self._observer.figures(self._lane, figures_of(schedule, state, now, pulling.oldest_seconds(now)))
        # With a hundred thousand employers in a lane they take a tenth of a second, in which nothing else is done.
        self._due = now + max(FIGURES_INTERVAL_SECONDS, (time.monotonic() - now) / FIGURES_SHARE_MAX)
