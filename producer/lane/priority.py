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
THREAD_TURN_SECONDS = 0.005
THREAD_TURN_WHEN_URGENT_SECONDS = 0.0005
"""How long a thread computes before it yields to others (`sys.setswitchinterval`). A notified change passes through
about ten threads, each of which may wait a turn behind every thread that parses pages of a back-fill. Short turns slow
the back-fill down."""

TURN_WAIT_SECONDS = 0.01
MISSED_MAX = 100
"""After this many transactions with urgent readings only, about a second, a lane needs no turn for the others."""

URGENT_RECENTLY_SECONDS = 10.0
"""How long after an urgent reading more are expected."""


class TransactionPriority:
    """See the module. Any thread may call it. `set_thread_turn` sets how long a thread computes before it yields."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        set_thread_turn: Callable[[float], None] = sys.setswitchinterval,
    ) -> None:
        self._clock = clock
        self._set_thread_turn = set_thread_turn
        self._has_short_turns = False
        self._urgent_at = float("-inf")
        self._turns = threading.BoundedSemaphore(LANES_WHEN_URGENT_MAX)

    def urgent_began(self) -> None:
        """An urgent reading begins."""
        self._urgent_at = self._clock()
        self._set_turns()

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
        self._set_turns()
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

    def _set_turns(self) -> None:
        is_urgent = self._is_urgent_recently()
        if is_urgent is not self._has_short_turns:
            self._has_short_turns = is_urgent
            self._set_thread_turn(THREAD_TURN_WHEN_URGENT_SECONDS if is_urgent else THREAD_TURN_SECONDS)
