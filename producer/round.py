"""Schedules of commands: each trekkpliktig read once to its end, or only when that is asked for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUND_TRIES_MAX = 5
ROUND_PAUSE_SECONDS = 1.0
ROUND_PAUSE_SECONDS_MAX = 10.0


class ErrandSchedule(Schedule):
    """Each trekkpliktig is read when that is asked for, and not else."""

    failing_pause_seconds = ROUND_PAUSE_SECONDS
    failing_pause_seconds_max = ROUND_PAUSE_SECONDS_MAX

    def __init__(self, jitter: Callable[[], float]) -> None:
        super().__init__(float("inf"), jitter)

    def _first_due(self, now: float) -> float:
        """Never of itself."""
        return now + float("inf")


class RoundSchedule(Schedule):
    """Each trekkpliktig is read once to its end. `failed_for_good` says which were not, and why."""

    failing_pause_seconds = ROUND_PAUSE_SECONDS
    failing_pause_seconds_max = ROUND_PAUSE_SECONDS_MAX

    def __init__(self, jitter: Callable[[], float]) -> None:
        super().__init__(float("inf"), jitter)
        self.failed_for_good: dict[str, str] = {}
        self._open: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Whether every one was read to its end or has failed for good."""
        return not self._open

    def set_trekkpliktige(self, trekkpliktige: Iterable[str], now: float) -> None:
        """Fix the round. Later changes wait for another one."""
        if len(self) == 0:
            self._open = set(trekkpliktige)
            super().set_trekkpliktige(self._open, now)

    def succeeded(self, trekkpliktig: str, now: float, *, found: bool = True) -> None:
        """It was read to its end."""
        self._open.discard(trekkpliktig)
        self.failed_for_good.pop(trekkpliktig, None)
        super().succeeded(trekkpliktig, now, found=found)

    def failed(self, trekkpliktig: str, now: float, retry_after_seconds: float | None = None) -> None:
        """A passing failure: a few tries, unless the source asks for a long pause."""
        entry = self._entries[trekkpliktig]
        if entry.failures + 1 >= ROUND_TRIES_MAX or (retry_after_seconds or 0.0) > ROUND_PAUSE_SECONDS_MAX:
            self._give_up(trekkpliktig, "it failed again and again")
        super().failed(trekkpliktig, now, min(retry_after_seconds or 0.0, ROUND_PAUSE_SECONDS_MAX))

    def suspend(self, trekkpliktig: str, now: float) -> None:
        """It cannot be served."""
        self._give_up(trekkpliktig, "it cannot be served")
        super().suspend(trekkpliktig, now)

    def hold(self, trekkpliktig: str) -> None:
        """It is not to be read."""
        if trekkpliktig in self._open:
            self._give_up(trekkpliktig, "it is suspended by an operator: resume it first")
        super().hold(trekkpliktig)

    def _give_up(self, trekkpliktig: str, why: str) -> None:
        self._open.discard(trekkpliktig)
        self.failed_for_good[trekkpliktig] = why
