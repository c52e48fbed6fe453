"""The ledger on PostgreSQL: one transaction for each batch, rows by COPY, reads by arrays, few round trips.

The connection is made when it is needed and again after it was lost.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from consumers.ledger import postgresql_statements as statements
from consumers.ledger import rows
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError, OvertakenError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import psycopg

    from consumers.ledger.address import PostgresqlAddress
    from consumers.ledger.port import Changes, StoredVersion, Version
    from trekkpaalegg.incoming import Advance, Incoming, Partition, UndecodableMessage


class PostgresqlLedger:
    """See the port. `address` is that of a ledger which is there and up to date, `identity` its id."""

    def __init__(self, address: PostgresqlAddress, identity: str) -> None:
        self.id = identity
        self._address = address
        self._connection: psycopg.Connection | None = None

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """See the port."""
        known = dict(self._read(statements.NEXT_OFFSETS, (topic, list(partitions))))
        return {partition: known.get(partition, 0) for partition in partitions}

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[PostgresqlTransaction]:
        """See the port."""
        with self._work() as connection:
            transaction = PostgresqlTransaction(connection, self._address.place)
            transaction.claim(advances)
            yield transaction

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
        with self._work() as connection, translating(self._address.place):
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _work(self) -> Iterator[psycopg.Connection]:
        """One SQL transaction: committed on leaving, rolled back when an error leaves."""
        connection = self._connected()
        try:
            yield connection
            with translating(self._address.place):
                connection.commit()
        except BaseException:
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: psycopg.Connection) -> None:
        """Leave nothing of the transaction. A connection on which that fails (cut, or in mid-statement) is given up."""
        try:
            connection.rollback()
        except Exception:  # noqa: BLE001 - the first error is the one to tell, and giving up rolls back too
            self.close()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            connection = self._address.connect()
            try:
                with translating(self._address.place):
                    found = connection.execute(statements.IDENTITY).fetchone()
                    connection.execute(statements.STAGING)
                    connection.commit()
                self._recognise(found)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _recognise(self, found: tuple[Any, ...] | None) -> None:
        if found != (self.id,):
            raise FatalError(f"{self._address.place}: another ledger lies there now: start again to use it")


class PostgresqlTransaction:
    """See `LedgerTransaction`."""

    def __init__(self, connection: psycopg.Connection, place: str) -> None:
        self._connection = connection
        self._place = place
        self._absent: set[str] = set()
        """Orders that the ledger did not have when it was asked in this transaction."""

    def claim(self, advances: Mapping[Partition, Advance]) -> None:
        """Move the offsets, or raise `OvertakenError`.

        Waits while another transaction holds one of the rows; PostgreSQL then compares with what that one left.
        """
        if not advances:
            return
        items = sorted(advances.items())
        moves = (
            [topic for (topic, _), _ in items],
            [partition for (_, partition), _ in items],
            [advance.before for _, advance in items],
            [advance.after for _, advance in items],
        )
        with translating(self._place):
            moved = set(self._connection.execute(statements.CLAIM, moves).fetchall())
            fresh = [index for index, (at, advance) in enumerate(items) if at not in moved and advance.before == 0]
            if fresh:
                first = tuple([column[index] for index in fresh] for column in (moves[0], moves[1], moves[3]))
                moved |= set(self._connection.execute(statements.CLAIM_FIRST, first).fetchall())
        lost = [f"{topic}/{partition}" for (topic, partition), _ in items if (topic, partition) not in moved]
        if lost:
            raise OvertakenError(f"the ledger's offsets of {', '.join(lost)} have been moved by another")

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        with translating(self._place):
            found = self._connection.execute(statements.NEWEST, (list(orders),)).fetchall()
        newest = {trekkid: (trekkversjon, correction) for trekkid, trekkversjon, correction in found}
        self._absent.update(trekkid for trekkid in orders if trekkid not in newest)
        return newest

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """See the port."""
        keys = ([trekkid for trekkid, _ in versions], [trekkversjon for _, trekkversjon in versions])
        with translating(self._place):
            found = self._connection.execute(statements.VERSIONS, keys).fetchall()
        return {(row[0], row[1]): rows.stored_version_from(row) for row in found}

    def write(self, changes: Changes, undecodable: Sequence[UndecodableMessage] = ()) -> None:
        """See the port. A version that another transaction inserted in the same moment raises `RetryableError`."""
        with translating(self._place):
            made = self._write_history(changes)
            if changes.newest:
                self._write_newest(changes.newest, made)
            self._write_aside(changes, undecodable)

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """See the port."""
        at = message.coordinates
        with translating(self._place):
            self._connection.execute(statements.FORGET, (at.topic, at.partition, at.offset))

    def _write_history(self, changes: Changes) -> dict[int, rows.OrderRow]:
        """Write it, and give the beginnings of its rows by their incoming's `id()`: `newest` needs the same again."""
        if changes.corrected:
            keys = [incoming.version for incoming in changes.corrected]
            columns = ([trekkid for trekkid, _ in keys], [trekkversjon for _, trekkversjon in keys])
            self._connection.execute(statements.DELETE_VERSIONS, columns)
        made: dict[int, rows.OrderRow] = {}

        def history() -> Iterator[tuple[Any, ...]]:
            for incomings in (changes.inserted, changes.corrected):
                for incoming in incomings:
                    event = incoming.event
                    made[id(incoming)] = order = rows.order_row(event, incoming.correction)
                    yield rows.history_row(order, event, late=incoming.late)

        if changes.inserted or changes.corrected:
            self._copy(statements.COPY_HISTORY, history())
        return made

    def _write_newest(self, newest: Mapping[str, Incoming], made: Mapping[int, rows.OrderRow]) -> None:
        """Orders that the ledger is known to lack go straight in, which takes a third of the server's work.

        Should another consumer write one of them in the same moment, the server says so: nothing is overwritten.
        """
        fresh = [incoming for trekkid, incoming in newest.items() if trekkid in self._absent]
        known = [incoming for trekkid, incoming in newest.items() if trekkid not in self._absent]
        self._absent.difference_update(newest)
        if fresh:
            self._copy(statements.COPY_NEWEST, _order_rows(fresh, made))
        if known:
            self._copy(statements.COPY_STAGING, _order_rows(known, made))
            moved = {trekkid for (trekkid,) in self._connection.execute(statements.MOVE_NEWEST).fetchall()}
            self._connection.execute(statements.DELETE_PERIODS, (list(moved),))
            self._connection.execute(statements.EMPTY_STAGING)
            fresh += [incoming for incoming in known if incoming.event.trekkid in moved]
        self._copy(statements.COPY_PERIODS, rows.period_rows(incoming.event for incoming in fresh))

    def _write_aside(self, changes: Changes, undecodable: Sequence[UndecodableMessage]) -> None:
        with self._connection.cursor() as cursor:
            if changes.replaced:
                replaced = [rows.stored_row(stored) for _, stored in changes.replaced]
                cursor.executemany(statements.INSERT_REPLACED, replaced)
            if changes.conflicts:
                conflicts = [rows.conflict_row(incoming) for incoming in changes.conflicts]
                cursor.executemany(statements.INSERT_CONFLICT, conflicts)
            if undecodable:
                now = datetime.now(UTC)
                messages = [rows.undecodable_row(message, now) for message in undecodable]
                cursor.executemany(statements.INSERT_UNDECODABLE, messages)

    def _copy(self, statement: str, written: Iterable[tuple[Any, ...]]) -> None:
        with self._connection.cursor().copy(statement) as copy:
            write_row = copy.write_row
            for row in written:
                # psycopg makes text of moments, dates and decimals too, at ten times the cost.
                write_row(to_builtins(row))


def _order_rows(incomings: Iterable[Incoming], made: Mapping[int, rows.OrderRow]) -> Iterator[rows.OrderRow]:
    for incoming in incomings:
        yield made.get(id(incoming)) or rows.order_row(incoming.event, incoming.correction)
