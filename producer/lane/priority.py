"""Priority of urgent changes over back-fills, shared by a process's lanes: how much of a back-fill is done at once.

What is notified waits behind the lane's transaction and its calls. So while there are urgent readings, transactions
hold little of a back-fill, and few of its pages are fetched at a time.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BULK_MAX = 2_500
BULK_WHEN_URGENT_MAX = 250
"""How many orders that are not urgent a lane decides on, or hands over, at once, and how many while others are."""

BULK_CALLS_WHEN_URGENT_MAX = 1
URGENT_RECENTLY_SECONDS = 10.0
"""How long after an urgent reading more are expected."""


class TransactionPriority:
    """See the module. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._urgent_at = float("-inf")

    def urgent_began(self) -> None:
        """An urgent reading begins."""
        self._urgent_at = self._clock()

    @property
    def bulk_max(self) -> int:
        """How many orders that are not urgent a transaction may hold."""
        return BULK_WHEN_URGENT_MAX if self._is_urgent_recently() else BULK_MAX

    def bulk_calls_max(self) -> int:
        """How many bulk calls may be in progress at once."""
        return BULK_CALLS_WHEN_URGENT_MAX if self._is_urgent_recently() else sys.maxsize

    def _is_urgent_recently(self) -> bool:
        return self._clock() - self._urgent_at < URGENT_RECENTLY_SECONDS
