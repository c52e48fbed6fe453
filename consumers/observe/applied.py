"""A batch and what it changed in, what became of its messages in numbers out. Pure."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from consumers.observe.port import Applied

if TYPE_CHECKING:
    from consumers.ledger.port import Changes

_LATE, _CORRECTION = attrgetter("late"), attrgetter("correction")


def applied_of(events: int, undecodable: int, changes: Changes, newest_at: float | None) -> Applied:
    """The numbers of a batch of so many events, and messages that are none.

    A version that comes together with its correction enters as a correction. In a ledger without history a version
    enters when it becomes the newest of its order.
    """
    late = sum(map(_LATE, changes.inserted))
    at_once = sum(map(bool, map(_CORRECTION, changes.inserted)))
    correction, conflict = len(changes.corrected) + at_once, len(changes.conflicts)
    new = len(changes.inserted) - late - at_once
    if not changes.inserted and not changes.corrected:
        new = len(changes.newest)
    known = events - new - late - correction - conflict
    return Applied(new, late, correction, conflict, max(known, 0), undecodable, newest_at)
