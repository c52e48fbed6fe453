"""When urgent readings came in; how much else may be published at once, and how long a thread computes, out.

Shared by the lanes of a process. A reader of what is committed sees no event of a partition before all transactions
that began on it earlier have ended, whichever lane's they are. So while urgent readings come, to whichever lane, the
others are published in small transactions by all of them.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from producer.plan import transaction_elements

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD_TURN_SECONDS = 0.005
THREAD_TURN_WHEN_TOLD_SECONDS = 0.0005
"""So long one thread computes while others want to. A notified change passes through some ten threads, each of which
may wait a turn behind every thread that reads pages of a back-fill. Short turns cost the back-fill time."""

TOLD_LATELY_SECONDS = 10.0
"""So long after an urgent reading more are expected."""


class GivingWay:
    """See the module. Any thread may call it. `set_thread_turn` tells the interpreter how long a thread's turn is."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        set_thread_turn: Callable[[float], None] = sys.setswitchinterval,
    ) -> None:
        self._clock = clock
        self._set_thread_turn = set_thread_turn
        self._has_short_turns = False
        self._urgent_at = float("-inf")

    def urgent_came(self) -> None:
        """An urgent reading begins."""
        self._urgent_at = self._clock()
        self._is_told_lately()

    @property
    def elements_max(self) -> int:
        """How many elements that are not urgent one transaction may hold."""
        return transaction_elements(is_told_lately=self._is_told_lately())

    def _is_told_lately(self) -> bool:
        is_told = self._clock() - self._urgent_at < TOLD_LATELY_SECONDS
        if is_told is not self._has_short_turns:
            self._has_short_turns = is_told
            self._set_thread_turn(THREAD_TURN_WHEN_TOLD_SECONDS if is_told else THREAD_TURN_SECONDS)
        return is_told
