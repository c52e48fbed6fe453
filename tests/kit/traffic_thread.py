"""New orders and new versions at the simulated world, from a thread of its own while a test goes on."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.control.world import OutsideWorld


_NEW_SHARE = 0.3
"""So many of what is made are new orders; the others are new versions."""


class TrafficThread:
    """New orders and versions made in a thread of its own, as fast as `interval_seconds` says, from a seed."""

    def __init__(self, outside: OutsideWorld, employers: Sequence[str], seed: object, interval_seconds: float) -> None:
        self._skatteetaten = outside.skatteetaten
        self._employers = employers
        self._random = Random(f"traffic {seed}")
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._orders: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            if not self._orders or self._random.random() < _NEW_SHARE:
                self._orders.append(self._skatteetaten.create(self._random.choice(self._employers)).trekkid)
                continue
            trekkid = self._random.choice(self._orders)
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                self._skatteetaten.change(trekkid)
