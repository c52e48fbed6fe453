"""The offsets of one lane's signals, and which of them are processed."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


class SignalOffsets:
    """The offsets of one lane's signals. A wake-up is processed when a reading that began after it has ended.

    A reading keeps the `next_offset` of the moment when it began: its end completes every wake-up below that offset. A
    signal of another kind is held until it has been carried out.
    """

    def __init__(self, first_offset: int) -> None:
        self.next_offset = first_offset
        self._waiting: dict[str, list[int]] = {}
        self._held: set[int] = set()
        self._firsts: list[tuple[int, str]] = []
        """A heap of the first offset of each trekkpliktig that waits; some entries may be outdated."""

    def register(self, trekkpliktig: str, offset: int, *, is_served: bool) -> None:
        """Register a wake-up. One that names nobody we serve is processed at once."""
        self.next_offset = max(self.next_offset, offset + 1)
        if not is_served:
            return
        offsets = self._waiting.setdefault(trekkpliktig, [])
        offsets.append(offset)
        if len(offsets) == 1:
            heapq.heappush(self._firsts, (offset, trekkpliktig))

    def hold(self, offset: int) -> None:
        """Register a signal that stays open until `release`."""
        self.next_offset = max(self.next_offset, offset + 1)
        self._held.add(offset)

    def release(self, offsets: Iterable[int]) -> None:
        """These signals have been carried out."""
        self._held.difference_update(offsets)

    def ended(self, trekkpliktig: str, begun_at: int) -> list[int]:
        """A reading that began at `begun_at` has ended. Returns the offsets that are processed by that."""
        waiting = self._waiting.pop(trekkpliktig, [])
        self._wait(trekkpliktig, [offset for offset in waiting if offset >= begun_at])
        self._drop_outdated()
        return [offset for offset in waiting if offset < begun_at]

    def reopen(self, trekkpliktig: str, offsets: list[int]) -> None:
        """Undo `ended`, which returned `offsets`: the transaction with the end of the reading was rolled back."""
        self._wait(trekkpliktig, [*offsets, *self._waiting.get(trekkpliktig, ())])

    def _wait(self, trekkpliktig: str, offsets: list[int]) -> None:
        if offsets:
            self._waiting[trekkpliktig] = offsets
            heapq.heappush(self._firsts, (offsets[0], trekkpliktig))

    def is_waiting(self, trekkpliktig: str) -> bool:
        """Whether a wake-up for it is not processed yet."""
        return trekkpliktig in self._waiting

    def keep(self, trekkpliktige: Container[str]) -> None:
        """Drop the wake-ups of all others: they will not be read here."""
        self._waiting = {each: offsets for each, offsets in self._waiting.items() if each in trekkpliktige}
        self._drop_outdated()

    def drop(self, trekkpliktig: str) -> None:
        """Drop the wake-ups of this one: it is not read now, and in full later."""
        self._waiting.pop(trekkpliktig, None)
        self._drop_outdated()

    @property
    def first_open(self) -> int:
        """The offset of the first signal that is not processed yet."""
        first = self._firsts[0][0] if self._firsts else self.next_offset
        return min(first, min(self._held, default=first))

    def _drop_outdated(self) -> None:
        """Remove what is outdated from the top of the heap, so that its first entry is the lowest waiting offset."""
        while self._firsts:
            offset, trekkpliktig = self._firsts[0]
            offsets = self._waiting.get(trekkpliktig)
            if offsets is not None and offsets[0] == offset:
                return
            heapq.heappop(self._firsts)
