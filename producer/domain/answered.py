"""Wishes that were answered in; whether one was answered already, out: what makes a wish that arrives twice one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer.domain.wish import Wish

REMEMBERED_MAX = 10_000


class AnsweredWishes:
    """The last wishes of one lane that were answered.

    A lane forwards a signal in a transaction, and forwards it again when that was aborted. Signals are read
    uncommitted, so the owner gets both, moments apart. Done again, a `suspend` would undo the `resume` that came
    between. A wish is told by its id, kind and time: who writes one by hand may use an id again.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        self._wishes: dict[tuple[str, str, str, int], None] = {}

    def __len__(self) -> int:
        return len(self._wishes)

    def has(self, trekkpliktig: str, wish: Wish) -> bool:
        """Whether it was answered."""
        return _name(trekkpliktig, wish) in self._wishes

    def add(self, trekkpliktig: str, wish: Wish) -> None:
        """Its answer stands."""
        name = _name(trekkpliktig, wish)
        self._wishes.pop(name, None)
        self._wishes[name] = None
        if len(self._wishes) > self._remembered_max:
            del self._wishes[next(iter(self._wishes))]


def _name(trekkpliktig: str, wish: Wish) -> tuple[str, str, str, int]:
    return trekkpliktig, wish.id, wish.kind, wish.asked_at
