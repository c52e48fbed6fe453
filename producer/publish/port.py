"""The port through which a lane writes: one transaction at a time, after fencing and reading back its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.domain.state import LaneState

ANY_PARTITION: Final = -1
NO_HEADERS: Final[dict[str, bytes]] = {}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record to write. With `ANY_PARTITION` the key decides the partition. `value` None deletes the key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]
    partition: int = ANY_PARTITION


class LanePublisher(Protocol):
    """The only writer of a lane. Used by the lane's thread only."""

    def acquire(self, is_stopping: Callable[[], bool] = ...) -> LaneState:
        """Fence all former owners of the lane, end their open transaction, and return the state committed by then.

        Once `is_stopping` is true nobody is fenced any more, as the lane may already belong to another.

        Raises `RetryableError` if Kafka cannot be reached, `LaneFencedError` if another instance acquired the lane
        meanwhile, `FatalError` if the state cannot be decoded. A failure never returns an empty state.
        """

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """Write all records and the lane's signal offset in one transaction, or nothing.

        `signal_offset` is the offset of the first signal that is still to be processed. Returns once the transaction
        is committed. Raises `AbortedError` if nothing was committed, `OutcomeUnknownError` if that is not known,
        `LaneFencedError` if another instance has acquired the lane.
        """

    def check(self) -> None:
        """Check that the last transaction is committed, if there is reason for doubt. Call it now and then while idle.

        Raises `OutcomeUnknownError` if it is not: acquire the lane again.
        """

    def close(self) -> None:
        """Drop the lane's connections. The next fence ends an open transaction."""
