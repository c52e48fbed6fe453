"""The port of the worker to its consumer group: which lanes it owns, and the signals that come to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Signal(NamedTuple):
    """A record of `…-signals`: its lane (partition), its key as text, and its value as it was written."""

    lane: int
    offset: int
    trekkpliktig: str
    value: bytes | None = None


class Membership(Protocol):
    """Used only by the worker's thread, except `metadata`, which any thread may call."""

    def join(self, assigned: Callable[[dict[int, int]], None], revoked: Callable[[set[int]], None]) -> None:
        """Join the group.

        `poll` calls `assigned` with the lanes that are now ours and the offset of the first open signal of each. `poll`
        and `leave` call `revoked` with lanes that no longer are, before another worker owns them; it must return soon.
        """

    def poll(self, timeout_seconds: float) -> list[Signal]:
        """Wait for signals and take part in rebalances. Raises `FatalError` if the group excludes us for good."""

    def confirm(self, lane: int, first_open_offset: int) -> bool:
        """Ask the group whether the lane is ours at this moment: it accepts a commit of this offset from us."""

    def rewind(self, lane: int, first_open_offset: int) -> None:
        """Deliver the lane's signals again from this offset."""

    def metadata(self) -> object:
        """The consumer group metadata at this moment, for `send_offsets_to_transaction`."""

    def is_connected(self) -> bool | None:
        """Whether Kafka can be reached, as of the last poll; None while that is unknown."""

    def trouble(self) -> str | None:
        """Why Kafka or the group does not answer, and what to do, as of the last poll; None if both do."""

    def leave(self) -> None:
        """Leave the group, so that others take over at once."""
