"""What a lane writes to and reads back from: one transaction at a time, and the state that stands after a fence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.domain.state import LaneState

ANY_PARTITION: Final = -1
NO_HEADERS: Final[dict[str, bytes]] = {}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record to write. `partition` is `ANY_PARTITION` where the key decides. `value` None deletes the key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]
    partition: int = ANY_PARTITION


class LanePublisher(Protocol):
    """The one writer of a lane. Used by the lane's thread only."""

    def take(self, is_stopping: Callable[[], bool] = ...) -> LaneState:
        """Fence every former owner of the lane, end its open transaction, and return the state that stands then.

        Once `is_stopping`, it fences nobody any more: the lane may be another's by then.

        Raises `RetryableError` when Kafka cannot be reached, `FencedError` when another instance took the lane
        meanwhile, `FatalError` when the state cannot be understood. Never returns an empty state because of a failure.
        """

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """Write all records and the lane's signal offset in one transaction, or nothing.

        `signal_offset` is the offset of the first signal that is not done with. Returns when the transaction is
        committed. Raises `AbortedError` when nothing of it stands, `OutcomeUnknownError` when that is not known,
        `FencedError` when another instance has taken the lane.
        """

    def look(self) -> None:
        """Make sure that what was published last stands, if there is reason for doubt. To be called now and then.

        Raises `OutcomeUnknownError` when it does not: the lane must be taken anew.
        """

    def close(self) -> None:
        """Let go of the lane's connections. An open transaction is left to the next fence."""
