"""The ledger as consumers see it: one batch, decided and written in one SQL transaction together with its offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from trekkpaalegg.event import TrekkpaaleggVersjon
from trekkpaalegg.incoming import Advance, Incoming, Partition, UndecodableMessage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

Version = tuple[str, int]
"""trekkid and trekkversjon."""


class StoredVersion(msgspec.Struct, frozen=True):
    """One row of the history."""

    event: TrekkpaaleggVersjon
    late: bool
    correction: int


class Changes(msgspec.Struct):
    """What a batch changes, decided by `consumers.apply.apply`. No version is in `inserted` and in `corrected` both."""

    inserted: list[Incoming] = []
    """Versions that the history does not have."""
    corrected: list[Incoming] = []
    """Versions of the history that get new content; what they said before is in `replaced`."""
    replaced: list[tuple[Version, StoredVersion]] = []
    """Contents that are kept beside the history; one already kept there stays as it is."""
    newest: dict[str, Incoming] = {}
    """By trekkid, what becomes the newest version, with its periods."""
    conflicts: list[Incoming] = []
    """Versions whose content differs from the history's without being a correction."""


class LedgerTransaction(Protocol):
    """One SQL transaction, whose partitions are already claimed. Reads see what it wrote."""

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """(trekkversjon, correction) of the newest version of each of these orders (trekkid) that the ledger has."""

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """Those of these versions that the history has."""

    def write(self, changes: Changes) -> None:
        """Write all changes. The newest row of an order is never moved back, whatever they say."""

    def keep_undecodable(self, messages: Sequence[UndecodableMessage]) -> None:
        """Store messages that could not be decoded."""

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """A retry has succeeded: the message is no longer undecodable."""


class Ledger(Protocol):
    """One ledger. Used by one thread.

    Every method raises `RetryableError` when the database is out of reach or in passing trouble (nothing of the
    transaction then stands, or its offsets tell that it does), and `FatalError`, which says what to do, when it
    refuses: disk full, read-only, a right missing.
    """

    id: str
    """Identity of the ledger, stored in it; survives every replay."""

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """For each of these partitions the offset to read from; 0 where nothing was read yet."""

    def transaction(self, advances: Mapping[Partition, Advance]) -> AbstractContextManager[LedgerTransaction]:
        """Claim the partitions by moving their offsets; commit all on leaving, or nothing when an error leaves.

        Raises `OvertakenError` when an offset is not at `before`: another consumer owns the partition now, or a
        replay was swapped in. Read `next_offsets` and seek there.
        """

    def undecodable(self) -> list[UndecodableMessage]:
        """All messages that could not be decoded so far, by their coordinates."""

    def count_undecodable(self) -> int:
        """How many they are."""

    def close(self) -> None:
        """Close the connections."""
