"""Which event is sent next, and what happens to it after an attempt. Pure.

In order: of one order (trekkid) one event at a time is on its way, and the next not before it is delivered. An order
whose event was parked is blocked: what follows stays in the store until someone decides. Others go on meanwhile.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from consumers.webhook.delivery import Meaning, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Waiting(msgspec.Struct, frozen=True):
    """One event that is to be sent. `sequence` is its place in the store, `order` the trekkid.

    `tries` counts all attempts, `failures` those that were not the receiver's being out of reach; `due_seconds` is
    when it may be sent, since 1970.
    """

    sequence: int
    order: str
    tries: int = 0
    failures: int = 0
    due_seconds: float = 0.0


class Schedule:
    """Who waits, who is on the way, who is blocked. `concurrency_max` is how many may be on their way at once."""

    def __init__(self, concurrency_max: int, blocked: Iterable[str] = ()) -> None:
        self._concurrency_max = concurrency_max
        self._queues: dict[str, deque[Waiting]] = {}
        self._heads: list[tuple[float, int, str]] = []
        self._on_the_way: dict[str, Waiting] = {}
        self._count = 0
        self._held_until_seconds = 0.0
        self._in_trouble = 0
        self.blocked = set(blocked)

    @property
    def waiting_count(self) -> int:
        """How many are to be sent, those on their way among them; none that is blocked."""
        return self._count

    @property
    def on_the_way_count(self) -> int:
        """How many were given by `take_due` and have not come back."""
        return len(self._on_the_way)

    @property
    def troubles(self) -> int:
        """How often in a row the receiver was out of reach."""
        return self._in_trouble

    def add(self, waiting: Waiting) -> None:
        """One more, behind all of its order. Nothing for a blocked order: the store keeps it."""
        if waiting.order in self.blocked:
            return
        queue = self._queues.setdefault(waiting.order, deque())
        queue.append(waiting)
        self._count += 1
        if len(queue) == 1:
            self._push(waiting)

    def take_due(self, now_seconds: float) -> list[Waiting]:
        """Those to send now, the longest due first. While the receiver is out of reach, one alone feels its way."""
        if now_seconds < self._held_until_seconds:
            return []
        room = (1 if self._in_trouble else self._concurrency_max) - len(self._on_the_way)
        taken: list[Waiting] = []
        while len(taken) < room and self._heads and self._heads[0][0] <= now_seconds:
            _, _, order = heapq.heappop(self._heads)
            waiting = self._queues[order][0]
            self._on_the_way[order] = waiting
            taken.append(waiting)
        return taken

    def due_in_seconds(self, now_seconds: float) -> float | None:
        """How long until `take_due` may give something; None when only a coming back or an addition can tell."""
        room = (1 if self._in_trouble else self._concurrency_max) - len(self._on_the_way)
        if not self._heads or room <= 0:
            return None
        return max(self._heads[0][0], self._held_until_seconds, now_seconds) - now_seconds

    def delivered(self, waiting: Waiting) -> None:
        """It has come back for good: the next of its order may go."""
        self._in_trouble = 0
        queue = self._came_back(waiting)
        queue.popleft()
        self._count -= 1
        if queue:
            self._push(queue[0])
        else:
            del self._queues[waiting.order]

    def again(self, waiting: Waiting, later: Waiting) -> None:
        """The receiver answered: it is sent again as `later` says; its order waits for it."""
        self._in_trouble = 0
        self._put_back(waiting, later)

    def hold(self, waiting: Waiting, later: Waiting, until_seconds: float, now_seconds: float) -> None:
        """The receiver was out of reach: as `again`, and nobody is sent before then.

        Several that were on their way at the same time are one trouble.
        """
        if now_seconds >= self._held_until_seconds:
            self._in_trouble += 1
        self._held_until_seconds = max(self._held_until_seconds, until_seconds)
        self._put_back(waiting, later)

    def parked(self, waiting: Waiting) -> None:
        """It is parked: its order is blocked, and what waits of it is left to the store."""
        self._in_trouble = 0
        self._came_back(waiting)
        self._count -= len(self._queues.pop(waiting.order))
        self.blocked.add(waiting.order)

    def unblock(self, order: str, waiting: Iterable[Waiting]) -> None:
        """What parked of this order was released or dropped: all that the store has of it, in order."""
        self.blocked.discard(order)
        for each in waiting:
            self.add(each)

    def _came_back(self, waiting: Waiting) -> deque[Waiting]:
        del self._on_the_way[waiting.order]
        return self._queues[waiting.order]

    def _put_back(self, waiting: Waiting, later: Waiting) -> None:
        self._came_back(waiting)[0] = later
        self._push(later)

    def _push(self, waiting: Waiting) -> None:
        heapq.heappush(self._heads, (waiting.due_seconds, waiting.sequence, waiting.order))


HOLD_SECONDS_MAX = 60.0
"""How long a receiver that is out of reach is left alone at most, unless it asks for more."""

_GROWTH = 2.0
_EXPONENT_MAX = 30
_JITTER = 0.2


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and when a delivery is retried. By default an event is parked at its twelfth failure, after 2.4 hours.

    Each pause is twice the one before, give or take a fifth, so that many events do not come back at once.
    """

    attempts_max: int = 12
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 3600.0

    def pause_seconds(self, tries: int, chance: float) -> float:
        """The pause after so many tries; `chance` is from 0 to 1."""
        grown = self.first_pause_seconds * _GROWTH ** min(tries - 1, _EXPONENT_MAX)
        return min(grown, self.longest_pause_seconds) * (1 - _JITTER + 2 * _JITTER * chance)


class Deliver(msgspec.Struct, frozen=True):
    """It has arrived: forget it."""

    waiting: Waiting


class Again(msgspec.Struct, frozen=True):
    """Send it again as `later` says; with `hold_until_seconds` nobody is sent before then."""

    waiting: Waiting
    later: Waiting
    words: str
    hold_until_seconds: float | None = None


class Park(msgspec.Struct, frozen=True):
    """Put it aside with its reason, until someone decides."""

    waiting: Waiting
    words: str


class Stop(msgspec.Struct, frozen=True):
    """Send nothing more, to nobody; this one stays."""

    waiting: Waiting
    words: str


Decision = Deliver | Again | Park | Stop


def decide(
    waiting: Waiting,
    outcome: Outcome,
    *,
    troubles: int,
    now_seconds: float,
    retry: RetryPolicy,
    chance: Callable[[], float],
) -> Decision:
    """What to do. `troubles` is how often in a row the receiver was out of reach before this; `chance` from 0 to 1.

    A receiver that is out of reach is no event's fault: such attempts never lead to parking, however many.
    A pause that the receiver asks for is kept when it is longer than ours.
    """
    asked = outcome.retry_after_seconds or 0.0
    tries = waiting.tries + 1
    pause = max(retry.pause_seconds(tries, chance()), asked)
    match outcome.meaning:
        case Meaning.DELIVERED:
            return Deliver(waiting)
        case Meaning.GONE:
            return Stop(waiting, outcome.words)
        case Meaning.REFUSED:
            return Park(waiting, outcome.words)
        case Meaning.UNAVAILABLE:
            hold = max(min(retry.pause_seconds(troubles + 1, chance()), HOLD_SECONDS_MAX), asked)
            # Where the receiver is away, the event comes back with it. Where only this event meets with it, time after
            # time, the others must not wait so often.
            mine = pause if troubles == 0 else min(pause, hold)
            later = msgspec.structs.replace(waiting, tries=tries, due_seconds=now_seconds + mine)
            return Again(waiting, later, outcome.words, now_seconds + hold)
        case Meaning.FAILED:
            failures = waiting.failures + 1
            if failures >= retry.attempts_max:
                return Park(waiting, f"{outcome.words}, at the last of {failures} attempts")
            later = Waiting(waiting.sequence, waiting.order, tries, failures, now_seconds + pause)
            return Again(waiting, later, outcome.words)
