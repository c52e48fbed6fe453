"""How much of what is not urgent may be published now, so that what is need not wait; shared by the lanes of a process.

A reader of what is committed sees no event of a partition before all transactions that began on it earlier have ended,
whichever lane's they are. So while urgent readings come, the others are published in small transactions, and by few
lanes at a time: many at once would also take the interpreter and the broker from the urgent.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.plan import TOLD_LATELY_SECONDS, transaction_elements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LANES_WHEN_TOLD_MAX = 2
TURN_WAIT_SECONDS = 0.01


class GivingWay:
    """See the module. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._urgent_at = float("-inf")
        self._turns = threading.BoundedSemaphore(LANES_WHEN_TOLD_MAX)

    def urgent_came(self) -> None:
        """An urgent reading begins."""
        self._urgent_at = self._clock()

    @property
    def elements_max(self) -> int:
        """How many elements that are not urgent one transaction may hold."""
        return transaction_elements(self._seconds_since_urgent)

    @contextmanager
    def turn(self, *, wanted: bool, waits: bool) -> Iterator[bool]:
        """Whether a transaction may hold what is not urgent, for as long as the context lasts.

        `wanted` is False where there is nothing of it. One that `waits` does so for a moment.
        """
        if not wanted or self._seconds_since_urgent >= TOLD_LATELY_SECONDS:
            yield wanted
            return
        has_turn = self._turns.acquire(timeout=TURN_WAIT_SECONDS if waits else 0)
        try:
            yield has_turn
        finally:
            if has_turn:
                self._turns.release()

    @property
    def _seconds_since_urgent(self) -> float:
        return self._clock() - self._urgent_at
