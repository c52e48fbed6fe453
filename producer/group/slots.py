"""How many workers there are and may be in; whether this one joins them, and whether it may work as one of them, out.

So many workers share the calls that the source allows, each a fixed share of them; one more would be too many. Who
finds no room waits in reserve, out of the group. Two that find the last place free at once both join, and then look
again, as members: whoever looks last sees the other, so at most one of them may stay, and whoever sees too many leaves
before it has made a call. That needs no order among them and no memory: it holds whoever comes, goes or is killed.
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


class Places:
    """`most` is how many may work, None for any number.

    `count_members` tells how many are in the group; `but_us`: without the place of our own instance id. `jitter`
    gives numbers from 0 to 1: those who left together do not come back together.
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

    def await_room(self) -> bool:
        """Wait while as many work as may; False when told to stop before.

        In reserve counts as ready: a roll-out that starts the new before it stops the old must go on.
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
                _log.warning("cannot tell how many workers run", reason=str(error))
            self._pause()
        return False

    def may_work(self) -> bool:
        """Whether there is room for all that are members, us among them. Raises `RetryableError` when none can tell.

        To be asked only once the group has confirmed a lane of ours: then every other member sees us.
        """
        if self._most is None or self._count_members(but_us=False) <= self._most:
            return True
        _log.info("left again: more workers came at once than share the calls", workers=self._most)
        self._has_left = True
        return False

    def _pause(self) -> None:
        """Half of the usual pause to one and a half."""
        self._stopping.wait(PAUSE_SECONDS * (0.5 + self._jitter()))
