"""A `Ledger` in memory, without a database.

It keeps the promises of the port (the same contract suite runs on it and on both databases), and fails on demand.
Several ledgers on one `FakeDatabase` are several consumers of one ledger.
"""

from __future__ import annotations

import enum
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.port import StoredVersion, Version
from trekkpaalegg.errors import FatalError, OvertakenError, RetryableError
from trekkpaalegg.incoming import Coordinates, IncomingEvent, Partition, UndecodableMessage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from consumers.ledger.port import Changes
    from trekkpaalegg.incoming import Advance


class LedgerFault(enum.Enum):
    """What a transaction can meet."""

    CUT = "cut"
    """The connection is lost before the commit: nothing is committed."""
    ANSWER_LOST = "answer_lost"
    """The connection is lost in the commit: everything is committed, but nobody learns that."""
    REFUSED = "refused"
    """The database refuses, for good."""


class FakeTables(msgspec.Struct):
    """What is committed in the ledger."""

    newest: dict[str, StoredVersion] = {}
    """The rows of `trekkpaalegg`, with their periods."""
    history: dict[Version, StoredVersion] = {}
    replaced: dict[tuple[str, int, int], StoredVersion] = {}
    """By trekkid, trekkversjon and correction."""
    conflicts: dict[Coordinates, IncomingEvent] = {}
    offsets: dict[Partition, int] = {}
    undecodable: dict[Coordinates, UndecodableMessage] = {}

    def copy(self) -> FakeTables:
        """Other tables with the same rows; rows themselves never change."""
        return FakeTables(**{name: dict(getattr(self, name)) for name in self.__struct_fields__})


class FakeDatabase:
    """One ledger's tables, and the faults that its next transactions meet."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.tables = FakeTables()
        self.commits = 0
        """How many transactions were committed."""
        self._faults: list[LedgerFault] = []
        self._claimed: set[Partition] = set()

    def fail_next(self, *faults: LedgerFault) -> None:
        """The next transactions to be committed meet these, one each."""
        self._faults += faults

    def claim(self, partitions: Collection[Partition]) -> None:
        """Hold them against other transactions until `release`."""
        if self._claimed & set(partitions):
            # A real database would wait; alone in one thread there is nobody to wait for.
            raise RetryableError("another transaction holds the offsets of the same partition: try again")
        self._claimed |= set(partitions)

    def release(self, partitions: Collection[Partition]) -> None:
        """Let other transactions have them."""
        self._claimed -= set(partitions)

    def commit(self, transaction: FakeTransaction) -> None:
        """Commit the transaction's changes, unless a fault comes first."""
        fault = self._faults.pop(0) if self._faults else None
        if fault is LedgerFault.CUT:
            raise RetryableError("the connection to the fake ledger was cut before the commit: try again")
        if fault is LedgerFault.REFUSED:
            raise FatalError("the fake ledger's disk is full: make room, then start again")
        transaction.apply_to(self.tables)
        self.commits += 1
        if fault is LedgerFault.ANSWER_LOST:
            raise RetryableError("the connection to the fake ledger was cut in the commit: try again")


class FakeLedger:
    """See the port."""

    def __init__(self, database: FakeDatabase | None = None) -> None:
        self.database = database or FakeDatabase()
        self.id = self.database.id
        self.closed = False

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """See the port."""
        return {partition: self.database.tables.offsets.get(Partition(topic, partition), 0) for partition in partitions}

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[FakeTransaction]:
        """See the port."""
        self.database.claim(advances)
        try:
            transaction = FakeTransaction(self.database.tables)
            transaction.move(advances)
            yield transaction
            self.database.commit(transaction)
        finally:
            self.database.release(advances)

    def undecodable(self) -> list[UndecodableMessage]:
        """See the port."""
        return [message for _, message in sorted(self.database.tables.undecodable.items())]

    def count_undecodable(self) -> int:
        """See the port."""
        return len(self.database.tables.undecodable)

    def close(self) -> None:
        """See the port."""
        self.closed = True


class FakeTransaction:
    """See `LedgerTransaction`. Works on a copy of the tables, and notes what it did."""

    def __init__(self, stored: FakeTables) -> None:
        self._tables = stored.copy()
        self._before = stored.copy()

    def move(self, advances: Mapping[Partition, Advance]) -> None:
        """Move the offsets, or raise `OvertakenError`."""
        for partition, advance in advances.items():
            if self._tables.offsets.get(partition, 0) != advance.before:
                raise OvertakenError("the ledger's offsets have been moved by another")
            self._tables.offsets[partition] = advance.after

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        newest = self._tables.newest
        return {trekkid: _place(newest[trekkid]) for trekkid in orders if trekkid in newest}

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """See the port."""
        return {version: self._tables.history[version] for version in versions if version in self._tables.history}

    def write(self, changes: Changes) -> None:
        """See the port."""
        for incoming in changes.inserted:
            if incoming.version in self._tables.history:
                raise RetryableError("another consumer wrote the same row just now: try again")
            self._tables.history[incoming.version] = _stored(incoming)
        for incoming in changes.corrected:
            self._tables.history[incoming.version] = _stored(incoming)
        for version, stored in changes.replaced:
            self._tables.replaced.setdefault((*version, stored.correction), stored)
        for trekkid, incoming in changes.newest.items():
            stored = _stored(incoming)
            if trekkid not in self._tables.newest or _place(stored) >= _place(self._tables.newest[trekkid]):
                self._tables.newest[trekkid] = stored
        for incoming in changes.conflicts:
            self._tables.conflicts.setdefault(incoming.coordinates, incoming)

    def keep_undecodable(self, messages: Sequence[UndecodableMessage]) -> None:
        """See the port."""
        for message in messages:
            self._tables.undecodable[message.coordinates] = message

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """See the port."""
        self._tables.undecodable.pop(message.coordinates, None)

    def apply_to(self, tables: FakeTables) -> None:
        """Apply the same changes to the present rows, some of which other transactions may have changed."""
        for name in tables.__struct_fields__:
            target, before, after = (getattr(each, name) for each in (tables, self._before, self._tables))
            for key in before.keys() - after.keys():
                target.pop(key, None)
            target.update({key: row for key, row in after.items() if before.get(key) != row})


def _stored(incoming: IncomingEvent) -> StoredVersion:
    return StoredVersion(incoming.event, incoming.late, incoming.correction)


def _place(stored: StoredVersion) -> tuple[int, int]:
    return stored.event.trekkversjon, stored.correction
