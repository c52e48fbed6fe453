"""What a replay needs of the place it builds in: a fresh ledger, a comparison with the live one, and the swap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from consumers.ledger.port import Ledger


class TableDifference(msgspec.Struct, frozen=True):
    """How many rows of one table differ."""

    table: str
    only_live: int
    only_fresh: int
    changed: int


class Differences(msgspec.Struct, frozen=True):
    """What differs between the live and the fresh ledger."""

    counts: tuple[TableDifference, ...]
    """One for each table that differs at all."""
    shown: tuple[str, ...]
    """The first of them, a line each: table, key and names of columns, no value but the key's."""

    def __bool__(self) -> bool:
        return bool(self.counts)


class ReplayTarget(Protocol):
    """A fresh ledger beside the live one. Held by one process; used by one thread.

    Its tables and offsets are complete in themselves: a replay that was interrupted goes on where its offsets stand.
    The live ledger may be written meanwhile, by consumers that know nothing of this.

    Every method raises `RetryableError` when the database is out of reach, busy or cut off, and `FatalError`, which
    says what to do, when it refuses. After either, close it; what was committed to the fresh ledger stands.
    """

    ledger: Ledger
    """The fresh one. Its id is its own, not the live one's."""
    continued: bool
    """Whether it is that of an earlier replay with the same plan, which did not come to its end."""

    def differences(self, shown_max: int, *, newest_only: bool = False) -> Differences:
        """Compare all replayed tables but the offsets, or only the newest versions and their periods."""

    def swap(self) -> None:
        """Put the fresh ledger's replayed tables in the live one's place, in one transaction, and drop the rest of it.

        Undecodable messages are added to the live ones; `postering` and the ledger's id stay. A live consumer's next
        claim then fits the new offsets or raises `OvertakenError`. The target can only be closed afterwards.
        """

    def drop(self) -> None:
        """Give the replay up and leave nothing of it. The target can only be closed afterwards."""

    def close(self) -> None:
        """Close the connections. A fresh ledger that was neither swapped in nor dropped can be continued."""
