"""Who is to be read next: notified first, then by the time they fell due; failing ones after a growing pause. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FAILING_PAUSE_SECONDS = 5.0
FAILING_PAUSE_SECONDS_MAX = 300.0
SUSPENDED_PAUSE_SECONDS = 60.0
SUSPENDED_PAUSE_SECONDS_MAX = 6 * 3600.0
_AT_ONCE = float("-inf")
_NEVER = float("-inf")
_DOUBLINGS_MAX = 20
CLASSES = ("healthy", "failing", "suspended")


class Entry(msgspec.Struct, gc=False):
    """One trekkpliktig: when it is due (monotonic seconds), and how often in a row it has failed or been refused."""

    due: float
    failures: int = 0
    suspended: bool = False
    reading: bool = False
    again: bool = False
    read_at: float = _NEVER


class Schedule:
    """All trekkpliktige of one lane. `interval_seconds` is between two readings of one of them.

    `jitter` gives numbers from 0 to 1; pauses are spread by it, so that failing ones do not all come back at once.
    """

    failing_pause_seconds = FAILING_PAUSE_SECONDS
    failing_pause_seconds_max = FAILING_PAUSE_SECONDS_MAX

    def __init__(self, interval_seconds: float, jitter: Callable[[], float]) -> None:
        self._interval_seconds = interval_seconds
        self._jitter = jitter
        self._entries: dict[str, Entry] = {}
        self._heap: list[tuple[float, str]] = []
        self._started = 0.0

    def set_trekkpliktige(self, trekkpliktige: Iterable[str], now: float) -> None:
        """Take up new ones, due at once, and let go of those that are no longer there."""
        self._started = self._started or now
        wanted = set(trekkpliktige)
        for gone in self._entries.keys() - wanted:
            del self._entries[gone]
        for new in sorted(wanted - self._entries.keys()):
            self._entries[new] = Entry(now)
            heapq.heappush(self._heap, (now, new))

    def take(self, now: float) -> str | None:
        """The next one that is due, which then counts as being read; None when none is."""
        while self._heap and self._heap[0][0] <= now:
            due, trekkpliktig = heapq.heappop(self._heap)
            entry = self._entries.get(trekkpliktig)
            if entry is not None and entry.due == due and not entry.reading:
                entry.reading = True
                return trekkpliktig
        return None

    def wait_seconds(self, now: float) -> float:
        """How long until one falls due, infinite when none will."""
        return max(self._heap[0][0] - now, 0.0) if self._heap else float("inf")

    def notify(self, trekkpliktig: str) -> bool:
        """Make it due at once; while it is being read, once more afterwards. False when it is not ours."""
        entry = self._entries.get(trekkpliktig)
        if entry is None:
            return False
        if entry.reading:
            entry.again = True
        elif entry.due != _AT_ONCE:
            self._put(trekkpliktig, entry, _AT_ONCE)
        return True

    def succeeded(self, trekkpliktig: str, now: float) -> None:
        """It was read to its end."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            entry.failures, entry.suspended, entry.read_at = 0, False, now
            self._put(trekkpliktig, entry, _AT_ONCE if entry.again else now + self._interval_seconds)
            entry.again = False

    def failed(self, trekkpliktig: str, now: float, retry_after_seconds: float | None = None) -> None:
        """A passing failure: again after a growing pause, no sooner than the source asked for."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            pause = self._pause(entry, self.failing_pause_seconds, self.failing_pause_seconds_max)
            self._put(trekkpliktig, entry, now + max(pause, retry_after_seconds or 0.0))

    def suspend(self, trekkpliktig: str, now: float) -> None:
        """It cannot be served: again after a growing pause of up to six hours."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            entry.suspended = True
            self._put(
                trekkpliktig, entry, now + self._pause(entry, SUSPENDED_PAUSE_SECONDS, SUSPENDED_PAUSE_SECONDS_MAX)
            )

    def classes(self, now: float) -> tuple[dict[str, int], dict[str, float]]:
        """Per class: how many, and how many seconds ago the one that has waited longest was read to its end.

        One that never was counts from the start of the schedule.
        """
        counts = dict.fromkeys(CLASSES, 0)
        oldest = dict.fromkeys(CLASSES, 0.0)
        for entry in self._entries.values():
            name = "suspended" if entry.suspended else "failing" if entry.failures else "healthy"
            counts[name] += 1
            oldest[name] = max(oldest[name], now - max(entry.read_at, self._started))
        return counts, oldest

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do, ever: not so for a service."""
        return False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, trekkpliktig: object) -> bool:
        return trekkpliktig in self._entries

    def _ended(self, trekkpliktig: str) -> Entry | None:
        entry = self._entries.get(trekkpliktig)
        if entry is not None:
            entry.reading = False
        return entry

    def _pause(self, entry: Entry, first_seconds: float, seconds_max: float) -> float:
        doubled: float = min(first_seconds * 2 ** min(entry.failures, _DOUBLINGS_MAX), seconds_max)
        entry.failures += 1
        return doubled * (0.5 + self._jitter() / 2)

    def _put(self, trekkpliktig: str, entry: Entry, due: float) -> None:
        entry.due = due
        heapq.heappush(self._heap, (due, trekkpliktig))


ROUND_TRIES_MAX = 5
ROUND_PAUSE_SECONDS = 1.0
ROUND_PAUSE_SECONDS_MAX = 10.0


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

    def succeeded(self, trekkpliktig: str, now: float) -> None:
        """It was read to its end."""
        self._open.discard(trekkpliktig)
        self.failed_for_good.pop(trekkpliktig, None)
        super().succeeded(trekkpliktig, now)

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

    def _give_up(self, trekkpliktig: str, why: str) -> None:
        self._open.discard(trekkpliktig)
        self.failed_for_good[trekkpliktig] = why
