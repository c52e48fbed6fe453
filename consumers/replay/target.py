"""The port of a replay: a fresh ledger beside the live one, their comparison, and the swap."""

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
    """One for each table that differs."""
    shown: tuple[str, ...]
    """The first differences, as lines: table, key and names of columns; no values except the key."""

    def __bool__(self) -> bool:
        return bool(self.counts)


class ReplayTarget(Protocol):
    """A fresh ledger beside the live one, locked by one process and used by one thread.

    It has its own tables and offsets, so that an interrupted replay continues from them. Consumers may write to the
    live ledger meanwhile.

    Every method raises `RetryableError` if the database is unreachable, busy or disconnects, and `FatalError`, which
    says what to do, if it refuses. Close the target after either; what was committed to the fresh ledger is kept.
    """

    ledger: Ledger
    """The fresh ledger, with an id of its own."""
    continued: bool
    """Whether an earlier, interrupted replay with the same plan created it."""

    def differences(self, shown_max: int, *, newest_only: bool = False) -> Differences:
        """Compare all replayed tables except the offsets, or only the newest versions and their periods."""

    def swap(self) -> None:
        """Replace the live tables by the fresh ones in one transaction, and drop the rest of the fresh ledger.

        Undecodable messages are added to the live ones; `postering` and the ledger's id are kept. The next claim of a
        live consumer then matches the new offsets, or raises `OvertakenError`. Close the target afterwards.
        """

    def drop(self) -> None:
        """Abandon the replay and delete the fresh ledger. Afterwards the target can only be closed."""

    def close(self) -> None:
        """Close the connections. A fresh ledger that was neither swapped nor dropped can be continued."""
