"""From signals seen and readings ended to the offset of the first signal that is not done with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


class SignalOffsets:
    """Offsets of one lane's signals. A signal is done with when a reading that began after it has come to its end.

    A reading keeps the `next_offset` of the moment it began: every signal below it is then done with by its end.
    """

    def __init__(self, first_offset: int) -> None:
        self.next_offset = first_offset
        self._waiting: dict[str, list[int]] = {}

    def seen(self, trekkpliktig: str, offset: int, *, ours: bool) -> None:
        """A signal came. One that names nobody of ours is done with at once."""
        self.next_offset = max(self.next_offset, offset + 1)
        if ours:
            self._waiting.setdefault(trekkpliktig, []).append(offset)

    def ended(self, trekkpliktig: str, begun_at: int) -> None:
        """A reading that began at `begun_at` has come to its end."""
        left = [offset for offset in self._waiting.pop(trekkpliktig, []) if offset >= begun_at]
        if left:
            self._waiting[trekkpliktig] = left

    def keep(self, trekkpliktige: Container[str]) -> None:
        """Those of all others are done with: nobody will read for them here."""
        self._waiting = {each: offsets for each, offsets in self._waiting.items() if each in trekkpliktige}

    @property
    def first_open(self) -> int:
        """Offset of the first signal that is not done with."""
        return min((offsets[0] for offsets in self._waiting.values()), default=self.next_offset)
