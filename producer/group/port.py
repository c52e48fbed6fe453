"""Membership of the group of workers, as the worker sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Signal(NamedTuple):
    """A record that came to a lane: its key as text, whatever that is, and its value as it stands there."""

    lane: int
    offset: int
    trekkpliktig: str
    value: bytes | None = None


class Membership(Protocol):
    """Used by the worker's thread only, save `metadata`, which any thread may call."""

    def join(self, given: Callable[[dict[int, int]], None], taken: Callable[[set[int]], None]) -> None:
        """Join the group.

        `given` is called, within `poll`, with the lanes that are now ours and the first open signal offset of each;
        `taken`, within `poll` or `leave`, with those that no longer are, before anyone else gets them; it must
        return soon.
        """

    def poll(self, timeout_seconds: float) -> list[Signal]:
        """Wait for signals and take part in handing over lanes. Raises `FatalError` when put out for good."""

    def confirm(self, lane: int, first_open_offset: int) -> bool:
        """Whether the group says, now, that the lane is ours: it accepts this offset from us."""

    def rewind(self, lane: int, first_open_offset: int) -> None:
        """Deliver the lane's signals again from this offset."""

    def metadata(self) -> object:
        """Our membership at this moment, to send along with a transaction."""

    def is_connected(self) -> bool | None:
        """Whether Kafka is within reach, as of the last poll; None while that is unknown."""

    def trouble(self) -> str | None:
        """What keeps Kafka or the group from answering, and what to do, as of the last poll; None when nothing does."""

    def leave(self) -> None:
        """Leave the group, so that others take over at once."""
