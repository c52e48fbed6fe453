"""From signals seen and readings ended to the offset of the first signal that is not done with. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


class SignalOffsets:
    """Offsets of one lane's signals. A wake-up is done with when a reading that began after it has come to its end.

    A reading keeps the `next_offset` of the moment it began: every wake-up below it is then done with by its end. A
    signal of another kind is held until what it asks for stands.
    """

    def __init__(self, first_offset: int) -> None:
        self.next_offset = first_offset
        self._waiting: dict[str, list[int]] = {}
        self._held: set[int] = set()
        self._firsts: list[tuple[int, str]] = []
        """A heap of each waiting one's first offset, and of some that are no longer so."""

    def seen(self, trekkpliktig: str, offset: int, *, ours: bool) -> None:
        """A wake-up came. One that names nobody of ours is done with at once."""
        self.next_offset = max(self.next_offset, offset + 1)
        if not ours:
            return
        offsets = self._waiting.setdefault(trekkpliktig, [])
        offsets.append(offset)
        if len(offsets) == 1:
            heapq.heappush(self._firsts, (offset, trekkpliktig))

    def hold(self, offset: int) -> None:
        """A signal came that stays open until `release`."""
        self.next_offset = max(self.next_offset, offset + 1)
        self._held.add(offset)

    def release(self, offsets: Iterable[int]) -> None:
        """What these signals ask for stands."""
        self._held.difference_update(offsets)

    def ended(self, trekkpliktig: str, begun_at: int) -> list[int]:
        """A reading that began at `begun_at` has come to its end. Returns the offsets that are done with by that."""
        waiting = self._waiting.pop(trekkpliktig, [])
        self._wait(trekkpliktig, [offset for offset in waiting if offset >= begun_at])
        return [offset for offset in waiting if offset < begun_at]

    def reopen(self, trekkpliktig: str, offsets: list[int]) -> None:
        """What `ended` returned is not done with after all: the transaction that was to hold the end does not stand."""
        self._wait(trekkpliktig, [*offsets, *self._waiting.get(trekkpliktig, ())])

    def _wait(self, trekkpliktig: str, offsets: list[int]) -> None:
        if offsets:
            self._waiting[trekkpliktig] = offsets
            heapq.heappush(self._firsts, (offsets[0], trekkpliktig))

    def is_waiting(self, trekkpliktig: str) -> bool:
        """Whether a wake-up for it is not done with."""
        return trekkpliktig in self._waiting

    def keep(self, trekkpliktige: Container[str]) -> None:
        """Those of all others are done with: nobody will read for them here."""
        self._waiting = {each: offsets for each, offsets in self._waiting.items() if each in trekkpliktige}

    def drop(self, trekkpliktig: str) -> None:
        """Those for this one are done with: it will not be read now, and in full when it is."""
        self._waiting.pop(trekkpliktig, None)

    @property
    def first_open(self) -> int:
        """Offset of the first signal that is not done with."""
        while self._firsts:
            offset, trekkpliktig = self._firsts[0]
            offsets = self._waiting.get(trekkpliktig)
            if offsets is not None and offsets[0] == offset:
                break
            heapq.heappop(self._firsts)
        first = self._firsts[0][0] if self._firsts else self.next_offset
        return min(first, min(self._held, default=first))
