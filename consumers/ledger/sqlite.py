"""The ledger on SQLite: one file, one transaction for each batch, rows by `executemany`.

Every transaction takes the file's lock for writing as it begins, so that what it reads stays true.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumers.ledger import rows
from consumers.ledger import sqlite_statements as statements
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError, OvertakenError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from consumers.ledger.address import SqliteAddress
    from consumers.ledger.port import Changes, StoredVersion, Version
    from trekkpaalegg.incoming import Advance, Incoming, Partition, UndecodableMessage


class SqliteLedger:
    """See the port. `address` is that of a ledger which is there and up to date, `identity` its id."""

    def __init__(self, address: SqliteAddress, identity: str) -> None:
        self.id = identity
        self._address = address
        self._connection: sqlite3.Connection | None = None

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """See the port."""
        known = dict(self._read(statements.NEXT_OFFSETS, (topic,)))
        return {partition: known.get(partition, 0) for partition in partitions}

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[SqliteTransaction]:
        """See the port."""
        connection = self._connected()
        with translating(self._address.place):
            connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = SqliteTransaction(connection, self._address.place)
            transaction.claim(advances)
            yield transaction
            with translating(self._address.place):
                connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself; the first error is the one to tell
                connection.execute("ROLLBACK")
            raise

    def undecodable(self) -> list[UndecodableMessage]:
        """See the port."""
        return [rows.undecodable_from(row) for row in self._read(statements.UNDECODABLE)]

    def count_undecodable(self) -> int:
        """See the port."""
        return int(self._read(statements.COUNT_UNDECODABLE)[0][0])

    def close(self) -> None:
        """See the port."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        connection = self._connected()
        with translating(self._address.place):
            return connection.execute(statement, parameters).fetchall()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = self._address.connect()
            try:
                with translating(self._address.place):
                    found = connection.execute(statements.IDENTITY).fetchone()
                self._recognise(found)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _recognise(self, found: tuple[Any, ...] | None) -> None:
        if found != (self.id,):
            raise FatalError(f"{self._address.place}: another ledger lies there now: start again to use it")


class SqliteTransaction:
    """See `LedgerTransaction`."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    def claim(self, advances: Mapping[Partition, Advance]) -> None:
        """Move the offsets, or raise `OvertakenError`."""
        lost = []
        with translating(self._place):
            for (topic, partition), advance in sorted(advances.items()):
                at = (topic, partition)
                moved = self._connection.execute(statements.CLAIM, (advance.after, *at, advance.before)).rowcount
                if not moved and advance.before == 0:
                    moved = self._connection.execute(statements.CLAIM_FIRST, (*at, advance.after)).rowcount
                if not moved:
                    lost.append(f"{topic}/{partition}")
        if lost:
            raise OvertakenError(f"the ledger's offsets of {', '.join(lost)} have been moved by another")

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        with translating(self._place):
            found = self._connection.execute(statements.NEWEST, (json.dumps(list(orders)),)).fetchall()
        return {trekkid: (trekkversjon, correction) for trekkid, trekkversjon, correction in found}

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """See the port."""
        with translating(self._place):
            found = self._connection.execute(statements.VERSIONS, (json.dumps(list(versions)),)).fetchall()
        return {(row[0], row[1]): _stored_version_from(row) for row in found}

    def write(self, changes: Changes, undecodable: Sequence[UndecodableMessage] = ()) -> None:
        """See the port."""
        with translating(self._place):
            self._write_history(changes)
            if changes.newest:
                self._write_newest(changes.newest)
            self._write_aside(changes, undecodable)

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """See the port."""
        at = message.coordinates
        with translating(self._place):
            self._connection.execute(statements.FORGET, (at.topic, at.partition, at.offset))

    def _write_history(self, changes: Changes) -> None:
        self._connection.executemany(statements.DELETE_VERSION, [incoming.version for incoming in changes.corrected])
        self._connection.executemany(
            statements.INSERT_HISTORY,
            (_history_row(incoming) for incomings in (changes.inserted, changes.corrected) for incoming in incomings),
        )

    def _write_newest(self, newest: Mapping[str, Incoming]) -> None:
        stored = self.newest(newest)
        moved = [
            incoming
            for trekkid, incoming in newest.items()
            if (incoming.event.trekkversjon, incoming.correction) >= stored.get(trekkid, (0, 0))
        ]
        self._connection.executemany(statements.UPSERT_NEWEST, (_order_row(incoming) for incoming in moved))
        known = [(incoming.event.trekkid,) for incoming in moved if incoming.event.trekkid in stored]
        self._connection.executemany(statements.DELETE_PERIODS, known)
        periods = rows.period_rows(incoming.event for incoming in moved)
        self._connection.executemany(statements.INSERT_PERIOD, (_period_row(row) for row in periods))

    def _write_aside(self, changes: Changes, undecodable: Sequence[UndecodableMessage]) -> None:
        self._connection.executemany(
            statements.INSERT_REPLACED,
            (_with_moment(rows.stored_row(stored), _OPPRETTET) for _, stored in changes.replaced),
        )
        self._connection.executemany(
            statements.INSERT_CONFLICT,
            (_with_moment(rows.conflict_row(incoming), _CONFLICT_OPPRETTET) for incoming in changes.conflicts),
        )
        now = datetime.now(UTC)
        self._connection.executemany(
            statements.INSERT_UNDECODABLE,
            (_with_moment(rows.undecodable_row(message, now), _RECEIVED) for message in undecodable),
        )


_OPPRETTET = rows.HISTORY.index("opprettet")
_CONFLICT_OPPRETTET = rows.CONFLICT.index("opprettet")
_RECEIVED = rows.UNDECODABLE.index("received")


def _moment_text(moment: datetime) -> str:
    """As SQLAlchemy stores it: UTC without saying so, always six decimals."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _with_moment(row: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    return (*row[:index], _moment_text(row[index]), *row[index + 1 :])


def _order_row(incoming: Incoming) -> tuple[Any, ...]:
    return _with_moment(rows.order_row(incoming.event, incoming.correction), _OPPRETTET)


def _history_row(incoming: Incoming) -> tuple[Any, ...]:
    order = rows.order_row(incoming.event, incoming.correction)
    return _with_moment(rows.history_row(order, incoming.event, late=incoming.late), _OPPRETTET)


def _period_row(row: rows.PeriodRow) -> tuple[Any, ...]:
    trekkid, nummer, startdato, sluttdato, trekkbeloep, trekkprosent, fields = row
    dates = (startdato.isoformat(), None if sluttdato is None else sluttdato.isoformat())
    sizes = (None if size is None else f"{size:f}" for size in (trekkbeloep, trekkprosent))
    return (trekkid, nummer, *dates, *sizes, fields)


def _stored_version_from(row: tuple[Any, ...]) -> StoredVersion:
    moment = datetime.fromisoformat(row[_OPPRETTET]).replace(tzinfo=UTC)
    return rows.stored_version_from((*row[:_OPPRETTET], moment, *row[_OPPRETTET + 1 :]))
