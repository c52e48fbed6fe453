"""Priority of urgent readings over back-fills: what the next transaction of a lane holds. Shared by a process's lanes.

A `read_committed` reader sees no event of a partition until all transactions that began earlier on that partition have
ended, those of other lanes too. So while there are urgent readings, the others are published in small transactions, and
by few lanes at a time: many at once would also take interpreter and broker time from the urgent ones. For the same
reason few of their pages are fetched at a time.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.lane.reading import first_to_publish, transaction_elements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from producer.lane.reading import Reading

LANES_WHEN_URGENT_MAX = 1
BULK_CALLS_WHEN_URGENT_MAX = 1
TURN_WAIT_SECONDS = 0.01
MISSED_MAX = 100
"""After this many transactions with urgent readings only, about a second, a lane needs no turn for the others."""

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
    def elements_max(self) -> int:
        """How many elements that are not urgent a transaction may hold."""
        return transaction_elements(is_urgent_recently=self._is_urgent_recently())

    def bulk_calls_max(self) -> int:
        """How many bulk calls may be in progress at once."""
        return BULK_CALLS_WHEN_URGENT_MAX if self._is_urgent_recently() else sys.maxsize

    @contextmanager
    def chosen(self, ready: Sequence[Reading], missed: int) -> Iterator[list[Reading]]:
        """The readings whose chunks the next transaction holds. The transaction must end within the context.

        `ready` are the readings of a lane whose chunks are ready, `missed` is the number of its transactions since one
        last held a reading that is not urgent. Long chunks are shortened to what a transaction may hold. If nothing is
        urgent and other lanes have the turns, it waits for a moment, and may then yield no reading.
        """
        elements_max = self.elements_max
        for reading in ready:
            if not reading.urgent:
                reading.shorten_chunk(elements_max)
        first = first_to_publish(ready, elements_max, urgent_alone=not missed)
        urgent = [reading for reading in first if reading.urgent]
        if len(urgent) == len(first) or missed >= MISSED_MAX or not self._is_urgent_recently():
            yield first
            return
        has_turn = self._turns.acquire(timeout=0 if urgent else TURN_WAIT_SECONDS)
        try:
            yield first if has_turn else urgent
        finally:
            if has_turn:
                self._turns.release()

    def _is_urgent_recently(self) -> bool:
        return self._clock() - self._urgent_at < URGENT_RECENTLY_SECONDS
