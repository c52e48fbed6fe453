"""Ids of events in, whether each is new out: what tells repeated events apart, in a memory that stays small. Pure."""

from __future__ import annotations

RECENT_MAX = 50_000


class RecentEvents:
    """The last ids that came. One that has dropped out counts as new again: that costs a reading, and no more.

    Not safe for several threads.
    """

    def __init__(self, recent_max: int = RECENT_MAX) -> None:
        self._recent_max = recent_max
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, event_id: str) -> bool:
        """Whether this id was not `taken` among the last ones."""
        return event_id not in self._ids

    def taken(self, event_id: str) -> None:
        """What the event asked for is safe: its repetitions may be dropped. Say so no earlier."""
        self._ids.pop(event_id, None)
        self._ids[event_id] = None
        if len(self._ids) > self._recent_max:
            del self._ids[next(iter(self._ids))]
