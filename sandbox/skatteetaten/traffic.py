"""The new orders and new versions of an ordinary day at the simulated Skatteetaten, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from sandbox.skatteetaten.state import Skatteetaten

_NEW_ORDER_RATE = 0.25
_TWICE_RATE = 0.2
"""How often an order changes twice at once, so that the newer version alone is in the list."""


class Traffic:
    """Makes something happen, for some employers, by chance from `random`."""

    def __init__(self, skatteetaten: Skatteetaten, employers: Sequence[str], random: Random) -> None:
        self._skatteetaten = skatteetaten
        self._employers = frozenset(employers)
        self._random = random

    def step(self) -> None:
        """One new order, or one or two new versions of an order."""
        random, state = self._random, self._skatteetaten
        with state.lock:
            orders = [
                each.trekkid for each in state.book.newest_of_all() if each.owner in self._employers and each.trekkid
            ]
            if not orders or random.random() < _NEW_ORDER_RATE:
                state.create(random.choice(sorted(self._employers)))
                return
            trekkid = random.choice(orders)
            for _ in range(2 if random.random() < _TWICE_RATE else 1):
                state.change(trekkid)
