"""The ports of a lane to Kafka: its transactions, and the observations that lanes hand over to each other."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from producer.domain.state import LaneState, ObservationOffsets

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


class Row(enum.Enum):
    """One of the two topics of observations: a back-fill waits in the other row than a notified change."""

    URGENT = "urgent"
    BULK = "bulk"


class ObservedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a topic of observations, as it was written."""

    row: Row
    offset: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]


class ObservationReader(Protocol):
    """Reads what was handed over to one home: its partition of both rows, each in the order of its offsets.

    `start` is called once, `done` by one thread.
    """

    def start(
        self,
        offsets: ObservationOffsets,
        deliver: Callable[[list[ObservedRecord]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Read from these offsets on. Another thread calls `deliver`, or `fail` once, after which nothing comes.

        Records that are no longer there are a failure: nothing is skipped.
        """

    def done(self, row: Row, count: int) -> None:
        """So many more records of this row are decided on, which gives room for others."""

    def ends(self) -> ObservationOffsets:
        """The offsets at which the next records will be written. Blocks; raises `RetryableError`."""

    def delete_before(self, offsets: ObservationOffsets) -> None:
        """Have Kafka delete the records before these offsets. Does not wait; a failure is only logged."""

    def close(self) -> None:
        """End the reading. Nothing is delivered after that."""


class ObservationWriter(Protocol):
    """Hands observations over to any home. Safe for several threads."""

    def begin(self, row: Row, home: int, key: bytes, value: bytes | None, headers: dict[str, bytes]) -> Future[None]:
        """Write one record to the partition of this home.

        The future is done when all in-sync replicas have it; `RetryableError` when that is not known.
        """
