"""Worker slots: how many workers may share the calls to the source, and whether this one may join and work.

Each worker has a fixed share of the calls that the source allows, so one more worker would be too many. A worker that
finds no free slot waits in reserve, outside the group. Two workers that find the last slot free at once both join, and
then count again, as members: the one that counts last sees the other, so at most one of them may stay, and a worker
that sees too many leaves before it has made a call. That needs neither an order among workers nor a memory, and holds
whichever of them comes, goes or is killed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class WorkerSlots:
    """The slots of one application. `most` is how many workers may work, None for any number.

    `count_members` counts the members of the group, with `but_us` without the one of our own instance id. `jitter`
    returns numbers from 0 to 1, so that workers that left together do not come back together.
    """

    def __init__(
        self,
        most: int | None,
        count_members: Callable[..., int],
        beat: Callable[[], None],
        stopping: threading.Event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._most = most
        self._count_members = count_members
        self._beat = beat
        self._stopping = stopping
        self._jitter = jitter
        self._has_left = False

    def await_slot(self) -> bool:
        """Wait until a slot is free; False if stopped before.

        A worker in reserve counts as ready, or a roll-out that starts new pods before it stops old ones would hang.
        """
        if self._has_left:
            self._pause()
        while not self._stopping.is_set():
            self._beat()
            try:
                if self._most is None or self._count_members(but_us=True) < self._most:
                    return True
                _log.info("in reserve: as many workers run as share the calls", workers=self._most)
            except RetryableError as error:
                _log.warning("cannot count the workers", reason=str(error))
            self._pause()
        return False

    def may_work(self) -> bool:
        """Whether there is a slot for every member, us among them. Raises `RetryableError` when Kafka does not say.

        Call it only once the group has confirmed a lane of ours: then every other member sees us.
        """
        if self._most is None or self._count_members(but_us=False) <= self._most:
            return True
        _log.info("left again: more workers came at once than share the calls", workers=self._most)
        self._has_left = True
        return False

    def _pause(self) -> None:
        """Wait between half of the usual pause and one and a half of it."""
        self._stopping.wait(PAUSE_SECONDS * (0.5 + self._jitter()))
