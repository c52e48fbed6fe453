"""Which trekkpliktig is read next: notified ones first, then by due time; failing ones after a growing pause. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


FAILING_PAUSE_SECONDS = 5.0
FAILING_PAUSE_SECONDS_MAX = 300.0
SUSPENDED_PAUSE_SECONDS = 60.0
SUSPENDED_PAUSE_SECONDS_MAX = 6 * 3600.0
NOTIFIED_IN_A_ROW_MAX = 16
"""After this many notified ones comes one that is due, if any: a stream of notifications starves nobody."""

FRUITLESS_PAUSE_SECONDS = 0.1
FRUITLESS_PAUSE_SECONDS_MAX = 5.0
"""The pause between readings of one that is notified repeatedly although nothing is new, so that a flood of
notifications leads to few readings. It doubles with each such reading; one that finds something ends it."""

_STALE_MIN = 64
_NEVER = float("-inf")
_DOUBLINGS_MAX = 20
CLASSES = ("healthy", "failing", "suspended", "suspended_by_operator")


class Entry(msgspec.Struct, gc=False):
    """One trekkpliktig: when it is due (monotonic seconds), and how often in a row it has failed or been refused.

    `again`: read once more after the present reading. `blocked`: do not read. `notified`: read before those due.
    `keeps_pause`: the source requested the pause. `was_notified`: a notification led to the present reading.
    `fruitless` counts notified readings in a row that found nothing.
    """

    due: float
    failures: int = 0
    suspended: bool = False
    reading: bool = False
    again: bool = False
    notified: bool = False
    blocked: bool = False
    keeps_pause: bool = False
    was_notified: bool = False
    fruitless: int = 0
    read_at: float = _NEVER


class Schedule:
    """The schedule of one lane. `interval_seconds` is the time between two readings of one trekkpliktig.

    Each operation takes O(log n); each trekkpliktig takes about 200 bytes. `jitter` returns numbers from 0 to 1, which
    spread the pauses so that failing ones are not all due at once.
    """

    failing_pause_seconds = FAILING_PAUSE_SECONDS
    failing_pause_seconds_max = FAILING_PAUSE_SECONDS_MAX

    def __init__(self, interval_seconds: float, jitter: Callable[[], float]) -> None:
        self._interval_seconds = interval_seconds
        self._jitter = jitter
        self._entries: dict[str, Entry] = {}
        self._heap: list[tuple[float, str]] = []
        """Ordered by due time. An item is outdated if the entry's own `due` differs."""
        self._notified: deque[str] = deque()
        """In the order of notification. An item is outdated if the entry's own `notified` is False."""
        self._notified_in_a_row = 0
        self._started = 0.0

    def set_trekkpliktige(self, trekkpliktige: Iterable[str], now: float) -> None:
        """Add new ones, due at once, and remove those that are not in the list any more."""
        self._started = self._started or now
        wanted = set(trekkpliktige)
        for gone in self._entries.keys() - wanted:
            del self._entries[gone]
        due = self._first_due(now)
        for new in sorted(wanted - self._entries.keys()):
            self._entries[new] = Entry(due)
            heapq.heappush(self._heap, (due, new))

    def _first_due(self, now: float) -> float:
        """When a new one is due."""
        return now

    def start_next(self, now: float, *, notified_only: bool = False) -> str | None:
        """Start to read the next one that is due, and return it; None if none is due."""
        if notified_only or self._notified_in_a_row < NOTIFIED_IN_A_ROW_MAX:
            return self._start_notified(now) or (None if notified_only else self._start_due(now))
        self._notified_in_a_row = 0
        return self._start_due(now) or self._start_notified(now)

    def _start_notified(self, now: float) -> str | None:
        while self._notified:
            trekkpliktig = self._notified.popleft()
            entry = self._entries.get(trekkpliktig)
            if entry is None or not entry.notified:
                continue
            entry.notified, entry.was_notified = False, True
            waits_until = entry.read_at + _fruitless_pause(entry)
            if waits_until > now:
                if entry.due > waits_until:
                    self._set_due(trekkpliktig, entry, waits_until)
                continue
            entry.reading = True
            self._notified_in_a_row += 1
            return trekkpliktig
        return None

    def _start_due(self, now: float) -> str | None:
        while self._heap and self._heap[0][0] <= now:
            due, trekkpliktig = heapq.heappop(self._heap)
            entry = self._entries.get(trekkpliktig)
            if entry is not None and entry.due == due and not (entry.reading or entry.blocked):
                entry.notified, entry.reading = False, True
                return trekkpliktig
        return None

    def wait_seconds(self, now: float) -> float:
        """How long until one is due; infinite if none will be."""
        if self._notified:
            return 0.0
        return max(self._heap[0][0] - now, 0.0) if self._heap else float("inf")

    def notify(self, trekkpliktig: str, *, urgent: bool = False, hint: bool = False) -> bool:
        """Make it due at once, or once more after the present reading. False if it is not read here.

        A pause that the source requested is kept, unless this is `urgent`, as operator requests are. A `hint` comes
        from outside and may come in floods: after fruitless readings it waits a little.
        """
        entry = self._entries.get(trekkpliktig)
        if entry is None or entry.blocked:
            return False
        if entry.reading:
            entry.again = True
        elif urgent or not entry.keeps_pause:
            self._enqueue_notified(trekkpliktig, entry)
        if not hint:
            entry.fruitless = 0
        return True

    def block(self, trekkpliktig: str) -> None:
        """Do not read it until `unblock`, even if it is notified."""
        entry = self._entries.get(trekkpliktig)
        if entry is not None:
            entry.blocked, entry.notified = True, False

    def unblock(self, trekkpliktig: str) -> None:
        """End a `block`: it is due at once."""
        entry = self._entries.get(trekkpliktig)
        if entry is not None and entry.blocked:
            entry.blocked = False
            self.notify(trekkpliktig, urgent=True)

    def is_blocked(self, trekkpliktig: str) -> bool:
        """Whether it is not to be read, even if it is notified."""
        entry = self._entries.get(trekkpliktig)
        return entry is not None and entry.blocked

    def interrupted(self, trekkpliktig: str, now: float) -> None:
        """The reading was aborted, without a fault of its own: it is due at once."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            self._set_due(trekkpliktig, entry, now)

    def succeeded(self, trekkpliktig: str, now: float, *, found: bool = True) -> None:
        """It was read to its end; `found` says whether anything was new."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            entry.fruitless = 0 if found else entry.fruitless + entry.was_notified
            entry.was_notified = False
            entry.failures, entry.suspended, entry.keeps_pause, entry.read_at = 0, False, False, now
            self._set_due(trekkpliktig, entry, now + self._interval_seconds)
            if entry.again and not entry.blocked:
                self._enqueue_notified(trekkpliktig, entry)
            entry.again = False

    def failed(self, trekkpliktig: str, now: float, retry_after_seconds: float | None = None) -> None:
        """A transient failure: it is due after a growing pause, no sooner than the source requested."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            entry.keeps_pause = retry_after_seconds is not None
            pause = self._pause(entry, self.failing_pause_seconds, self.failing_pause_seconds_max)
            self._set_due(trekkpliktig, entry, now + max(pause, retry_after_seconds or 0.0))

    def suspend(self, trekkpliktig: str, now: float) -> None:
        """It cannot be served: it is due after a growing pause of up to six hours."""
        entry = self._ended(trekkpliktig)
        if entry is not None:
            entry.suspended = True
            self._set_due(
                trekkpliktig, entry, now + self._pause(entry, SUSPENDED_PAUSE_SECONDS, SUSPENDED_PAUSE_SECONDS_MAX)
            )

    def failures_of(self, trekkpliktig: str) -> int:
        """How often in a row it has failed or been refused."""
        entry = self._entries.get(trekkpliktig)
        return entry.failures if entry is not None else 0

    def classes(self, now: float) -> tuple[dict[str, int], dict[str, float]]:
        """By class: the number, and how many seconds ago the one that has waited longest was read to its end.

        One that was never read counts from the start of the schedule.
        """
        counts = dict.fromkeys(CLASSES, 0)
        oldest = dict.fromkeys(CLASSES, 0.0)
        for entry in self._entries.values():
            name = _class_of(entry)
            counts[name] += 1
            oldest[name] = max(oldest[name], now - max(entry.read_at, self._started))
        return counts, oldest

    def seconds_started(self, now: float) -> float:
        """How long ago the schedule started."""
        return now - self._started

    def class_of(self, trekkpliktig: str) -> str:
        """The class, of `CLASSES`, of one that is read here."""
        return _class_of(self._entries[trekkpliktig])

    @property
    def is_done(self) -> bool:
        """Whether nothing will ever be due again; never true in a service."""
        return False

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

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

    def _enqueue_notified(self, trekkpliktig: str, entry: Entry) -> None:
        if not entry.notified:
            entry.notified = True
            self._notified.append(trekkpliktig)

    def _set_due(self, trekkpliktig: str, entry: Entry, due: float) -> None:
        entry.due = due
        heapq.heappush(self._heap, (due, trekkpliktig))
        if len(self._heap) > 2 * len(self._entries) + _STALE_MIN:
            # One that is read long before it is due leaves an outdated item behind each time.
            self._heap = [(each.due, name) for name, each in self._entries.items() if not each.reading]
            heapq.heapify(self._heap)


def _fruitless_pause(entry: Entry) -> float:
    """Seconds from the last reading to the next one due to a notification."""
    if entry.fruitless == 0:
        return 0.0
    return min(FRUITLESS_PAUSE_SECONDS * 2.0 ** min(entry.fruitless - 1, _DOUBLINGS_MAX), FRUITLESS_PAUSE_SECONDS_MAX)


def _class_of(entry: Entry) -> str:
    if entry.blocked:
        return "suspended_by_operator"
    if entry.suspended:
        return "suspended"
    return "failing" if entry.failures else "healthy"


ROUND_TRIES_MAX = 5
ROUND_PAUSE_SECONDS = 1.0
ROUND_PAUSE_SECONDS_MAX = 10.0


class OnRequestSchedule(Schedule):
    """A schedule that reads a trekkpliktig only when it is notified."""

    failing_pause_seconds = ROUND_PAUSE_SECONDS
    failing_pause_seconds_max = ROUND_PAUSE_SECONDS_MAX

    def __init__(self, jitter: Callable[[], float]) -> None:
        super().__init__(float("inf"), jitter)

    def _first_due(self, now: float) -> float:
        """Never by time."""
        return now + float("inf")


class RoundSchedule(Schedule):
    """A schedule that reads each trekkpliktig once to its end. `failed_for_good` has those that failed, and why."""

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
        """Set the trekkpliktige of the round. Later changes are ignored."""
        if len(self) == 0:
            self._open = set(trekkpliktige)
            super().set_trekkpliktige(self._open, now)

    def succeeded(self, trekkpliktig: str, now: float, *, found: bool = True) -> None:
        """It was read to its end."""
        self._open.discard(trekkpliktig)
        self.failed_for_good.pop(trekkpliktig, None)
        super().succeeded(trekkpliktig, now, found=found)

    def failed(self, trekkpliktig: str, now: float, retry_after_seconds: float | None = None) -> None:
        """A transient failure: a few attempts, unless the source requests a long pause."""
        entry = self._entries[trekkpliktig]
        if entry.failures + 1 >= ROUND_TRIES_MAX or (retry_after_seconds or 0.0) > ROUND_PAUSE_SECONDS_MAX:
            self._give_up(trekkpliktig, "it failed again and again")
        super().failed(trekkpliktig, now, min(retry_after_seconds or 0.0, ROUND_PAUSE_SECONDS_MAX))

    def suspend(self, trekkpliktig: str, now: float) -> None:
        """It cannot be served."""
        self._give_up(trekkpliktig, "it cannot be served")
        super().suspend(trekkpliktig, now)

    def block(self, trekkpliktig: str) -> None:
        """Do not read it."""
        if trekkpliktig in self._open:
            self._give_up(trekkpliktig, "it is suspended by an operator: resume it first")
        super().block(trekkpliktig)

    def _give_up(self, trekkpliktig: str, why: str) -> None:
        self._open.discard(trekkpliktig)
        self.failed_for_good[trekkpliktig] = why
