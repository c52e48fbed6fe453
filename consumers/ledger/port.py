"""The ledger as its consumer sees it: what a batch changes is read, decided and written in one SQL transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from trekkpaalegg.event import TrekkpaaleggVersjon
from trekkpaalegg.exactly_once.worker import Store, Transaction
from trekkpaalegg.incoming import IncomingEvent

if TYPE_CHECKING:
    from collections.abc import Collection

Version = tuple[str, int]
"""trekkid and trekkversjon."""


class StoredVersion(msgspec.Struct, frozen=True):
    """One row of the history."""

    event: TrekkpaaleggVersjon
    late: bool
    correction: int


class Changes(msgspec.Struct):
    """What a batch changes, decided by `consumers.apply.decide`.

    No version is both in `inserted` and in `corrected`.
    """

    inserted: list[IncomingEvent] = []
    """Versions that the history does not have."""
    corrected: list[IncomingEvent] = []
    """Versions of the history that get new content; what they said before is in `replaced`."""
    replaced: list[tuple[Version, StoredVersion]] = []
    """Contents that are kept beside the history; one already kept there stays as it is."""
    newest: dict[str, IncomingEvent] = {}
    """By trekkid, what becomes the newest version, with its periods."""
    conflicts: list[IncomingEvent] = []
    """Versions whose content differs from the history's without being a correction."""


class LedgerTransaction(Transaction, Protocol):
    """One SQL transaction, whose partitions' offsets are moved already. Reads see what it wrote."""

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """(trekkversjon, correction) of the newest version of each of these orders (trekkid) that the ledger has."""

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """Those of these versions that the history has."""

    def write(self, changes: Changes) -> None:
        """Write all changes. The newest row of an order is never moved back, whatever they say."""


class Ledger(Store[LedgerTransaction], Protocol):
    """One ledger: the store of a ledger consumer. `FatalError` says what to do."""

    id: str
    """Identity of the ledger, stored in it; survives every replay."""
