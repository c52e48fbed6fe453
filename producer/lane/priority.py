"""Priority of urgent changes over back-fills, shared by a process's lanes: how much of a back-fill is done at once.

What is notified waits behind its lane's transaction and calls, and all lanes share one interpreter and the broker. So
while there are urgent readings, transactions hold little of a back-fill, one lane at a time has such a transaction, and
few of its pages are fetched at a time.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BULK_MAX = 2_500
BULK_WHEN_URGENT_MAX = 250
"""How many orders that are not urgent a lane decides on, or hands over, at once, and how many while others are."""

LANES_WHEN_URGENT_MAX = 1
TURN_WAIT_SECONDS = 0.01
"""After so long a lane that had no turn for a back-fill tries again."""

MISSED_SECONDS_MAX = 1.0
"""After so long without a turn a lane needs none."""

BULK_CALLS_WHEN_URGENT_MAX = 1
URGENT_RECENTLY_SECONDS = 10.0
"""How long after an urgent reading more are expected."""


class TransactionPriority:
    """See the module. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._urgent_at = float("-inf")
        self._turns = threading.BoundedSemaphore(LANES_WHEN_URGENT_MAX)

    def urgent_began(self) -> None:
        """An urgent reading begins."""
        self._urgent_at = self._clock()

    @property
    def bulk_max(self) -> int:
        """How many orders that are not urgent a transaction may hold."""
        return BULK_WHEN_URGENT_MAX if self._is_urgent_recently() else BULK_MAX

    @contextmanager
    def turn(self, missed_since: float | None) -> Iterator[bool]:
        """Whether the next transaction of a lane may hold any of a back-fill. It must end within the context.

        `missed_since` is when the lane first had no turn since its last one, by the clock; None if it had.
        """
        is_owed = missed_since is not None and self._clock() - missed_since >= MISSED_SECONDS_MAX
        if is_owed or not self._is_urgent_recently():
            yield True
            return
        has_turn = self._turns.acquire(blocking=False)
        try:
            yield has_turn
        finally:
            if has_turn:
                self._turns.release()

    def bulk_calls_max(self) -> int:
        """How many bulk calls may be in progress at once."""
        return BULK_CALLS_WHEN_URGENT_MAX if self._is_urgent_recently() else sys.maxsize

    def _is_urgent_recently(self) -> bool:
        return self._clock() - self._urgent_at < URGENT_RECENTLY_SECONDS
