"""The ports of a lane to Kafka: its transactions, and the observations that lanes hand over to one another."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from producer.detect.repair import Lost
    from producer.domain.state import LaneState, ObservationOffsets
    from trekkpaalegg.errors import RetryableError

ANY_PARTITION: Final = -1
NO_HEADERS: Final[dict[str, bytes]] = {}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record to write. With `ANY_PARTITION` the key decides the partition. `value` None deletes the key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]
    partition: int = ANY_PARTITION


class Loss(NamedTuple):
    """What the topics have lost of the orders at home in one lane, by key.

    `copies` are the events that `…-gjeldende` is to get of those that it has not reached, not of all unless `is_all`.
    """

    orders: Mapping[bytes, Lost]
    copies: Mapping[bytes, Record]
    is_all: bool = True


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


class Row(Enum):
    """The topics in which observations wait for their home. A back-fill in `BULK` delays nothing in `URGENT`."""

    URGENT = "urgent"
    BULK = "bulk"


class ObservedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a row, not decoded yet."""

    row: Row
    offset: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]


class ObservationReader(Protocol):
    """Reads the observations of one home. All but the two callbacks is used by the lane's thread."""

    def start(
        self,
        offsets: ObservationOffsets,
        deliver: Callable[[list[ObservedRecord]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Read from these offsets on, until `close`. Called once.

        A thread of its own calls `deliver` with records as they come, of each row in the order of their offsets.
        It calls `fail` once when it cannot continue, and ends: with `ObservationsLostError` when records from these
        offsets on have been deleted, with `RefusedError` when Kafka refuses a login or a right.
        """

    def done(self, row: Row, count: int) -> None:
        """So many delivered records of the row need no room any more. A row is not read while too many do."""

    def ends(self) -> ObservationOffsets:
        """The offsets after the last record of each row now. Raises `RetryableError` if Kafka does not answer."""

    def delete_before(self, offsets: ObservationOffsets) -> None:
        """Have the records before these offsets deleted. Does not wait for it; a failure is only logged."""

    def close(self) -> None:
        """End the thread. Nothing is delivered after it."""


class NewObservation(NamedTuple):
    """One record for a home. With `ANY_PARTITION` the key decides which."""

    key: bytes
    value: bytes | None
    headers: dict[str, bytes]
    home: int = ANY_PARTITION


class ObservationWriter(Protocol):
    """Writes observations for any home. Any thread may use it."""

    def store(
        self, row: Row, records: Sequence[NewObservation], on_done: Callable[[RetryableError | None], None]
    ) -> None:
        """Write these records, and call `on_done` once, in another thread, when all of them are stored.

        Its argument is None then, or the first error if that is not known of all.
        """
