"""Offsets and undecodable messages in a SQL database, written in the transaction that writes what was made of events.

Every transaction begins with a compare-and-set on its offset rows, which is the fence::

    UPDATE trekkpaalegg_offset SET next_offset = :after
    WHERE topic = :topic AND "partition" = :partition AND next_offset = :before

The `UPDATE` locks the row until the transaction ends, so that two owners of a partition come one after the other. The
second one finds another offset than it believed in, updates no row, and raises `OvertakenError`: nothing of its batch
is written. That needs no more than row locks, or a lock on the whole file, and holds at each isolation level:

- READ COMMITTED (the default of PostgreSQL, SQL Server and Oracle): once the lock is free, the condition is evaluated
  again on the committed row.
- REPEATABLE READ, SNAPSHOT and SERIALIZABLE: the database may report a conflict instead (SQLSTATE 40001), which is
  retried, and then meets the committed row. MariaDB and MySQL evaluate the condition on the committed row as it is.
- SQLite: the `UPDATE` takes the lock on the file, as it is the first statement of its transaction.

AUTOCOMMIT, and tables that cannot roll back (MyISAM), would break the promise; `check` refuses them.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.types import TypeDecorator

from trekkpaalegg.errors import FatalError, OvertakenError, RetryableError
from trekkpaalegg.incoming import Coordinates, UndecodableMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection, Dialect, Engine, RootTransaction

    from trekkpaalegg.incoming import Advance, Partition


class UtcMoment(TypeDecorator[datetime]):
    """An instant, read back in UTC: TIMESTAMP WITH TIME ZONE where there is one, else without a zone, in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's own signature
        """See SQLAlchemy. The instant must have a zone."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's own signature
        """See SQLAlchemy."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class StoreTables(NamedTuple):
    """The two tables that a `SqlStore` needs; their columns are those of `define_tables`."""

    offsets: sa.Table
    undecodable: sa.Table


_TOPIC_LENGTH_MAX = 249
"""Kafka's own limit. A key needs one: MariaDB and SQL Server index no text without a length."""

_TOPIC = sa.String(_TOPIC_LENGTH_MAX).with_variant(
    # Kafka's topics differ by case, and MariaDB's default collation does not.
    mysql.VARCHAR(_TOPIC_LENGTH_MAX, charset="ascii", collation="ascii_bin"),
    "mysql",
    "mariadb",
)
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")


def define_tables(metadata: sa.MetaData, *, prefix: str = "trekkpaalegg_", schema: str | None = None) -> StoreTables:
    """Add the definitions of both tables to `metadata`, for `create_all` or for migrations with Alembic.

    Consumers that share a database need a `prefix` or `schema` each, as the offsets of one are not those of another.
    """

    def coordinates() -> list[sa.Column[Any]]:
        return [
            sa.Column("topic", _TOPIC, primary_key=True, comment="Kafka's topic"),
            sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="Kafka's partition"),
        ]

    offsets = sa.Table(
        f"{prefix}offset",
        metadata,
        *coordinates(),
        sa.Column("next_offset", _BIG, nullable=False, comment="all messages before this one were handled"),
        comment="how far the consumer has come; moves in the transaction of what it wrote",
        mysql_engine="InnoDB",
        schema=schema,
    )
    undecodable = sa.Table(
        f"{prefix}undecodable",
        metadata,
        *coordinates(),
        sa.Column("offset", _BIG, primary_key=True, autoincrement=False, comment="the message's offset"),
        sa.Column("key", _BYTES, comment="the message's key, unchanged"),
        sa.Column("value", _BYTES, comment="the message's value, unchanged. May hold personal data"),
        sa.Column("headers", _TEXT, nullable=False, comment="the message's headers: a JSON object of texts"),
        sa.Column("reason", _TEXT, nullable=False, comment="why it could not be decoded"),
        sa.Column("received", UtcMoment(), nullable=False, comment="when it was stored, UTC"),
        comment="messages that could not be decoded, until a retry succeeds",
        mysql_engine="InnoDB",
        schema=schema,
    )
    return StoreTables(offsets, undecodable)


TRANSIENT_STATES = ("08", "25P03", "40", "53", "55P03", "57")
"""SQLSTATEs, or their first characters, of failures that pass: connections, deadlocks and serialization, resources,
lock timeouts, shutdowns."""

TRANSIENT_SQLITE_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)
SQLITE_PRIMARY = 0xFF
"""The bits of SQLite's extended codes that hold the primary one."""

_TRANSIENT_MYSQL_CODES = frozenset(
    {
        *(1020, 1205, 1213, 3572),  # changed since read, lock wait timeout, deadlock, lock not available
        *(1040, 1053, 1077, 1079, 1203),  # too many connections, shutdown
        *(1152, 1158, 1159, 1160, 1161, 1184, 1927, 1969, 4031),  # connection cut, query killed
        *(2002, 2003, 2006, 2013, 2055),  # out of reach
    }
)
_TRANSIENT_ORACLE_CODES = frozenset({54, 60, 8176, 8177, 12514, 12518, 12541, 30006})
"""Row locked, deadlock, serialization, listener without service. oracledb marks lost connections as recoverable."""


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is run again: by the code, as far as the driver gives one.

    A connection that cannot be made is transient unless the code says that it was refused.
    """
    if error.connection_invalidated:
        return True
    original = error.orig
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    code = getattr(original, "errno", None) or next(iter(getattr(original, "args", ())), None)
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & SQLITE_PRIMARY in TRANSIENT_SQLITE_CODES
    if isinstance(code, int):
        return code in _TRANSIENT_MYSQL_CODES
    if isinstance(code, str) and state is None and len(code) == len("40001"):  # pyodbc
        state = code
    if isinstance(state, str):
        return state.startswith(TRANSIENT_STATES)
    if code is not None and hasattr(code, "isrecoverable"):  # oracledb
        return bool(code.isrecoverable) or getattr(code, "code", 0) in _TRANSIENT_ORACLE_CODES
    return error.statement is None and isinstance(error, OperationalError | InterfaceError)


def reason_of(error: DBAPIError) -> str:
    """What a log may say of it: the driver's error and its code, never its text, which may quote a row."""
    original = error.orig
    code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    if code is None:
        first = next(iter(getattr(original, "args", ())), None)
        code = first if isinstance(first, int) else getattr(first, "full_code", None)
    return type(original).__name__ + (f" ({code})" if code else "")


@contextmanager
def retrying_transient_errors() -> Iterator[None]:
    """Raise `RetryableError` for an error of the database that `is_transient`; every other error passes unchanged."""
    try:
        yield
    except DBAPIError as error:
        if not is_transient(error):
            raise
        raise RetryableError(f"the database failed: {reason_of(error)}") from None


READ_ONLY = "trekkpaalegg_read_only"
"""Execution option of a connection that is only read from, for an engine that locks when a transaction begins."""


class SqlStore:
    """Offsets and undecodable messages in one database. Used by one thread.

    `translating` turns the database's errors into `RetryableError` and `FatalError`. `verifies`: read the offsets again
    before the commit, which finds a handler that has ended the transaction, or has swallowed an error with which the
    database rolled it back. Code that does neither saves a round trip without it.
    """

    def __init__(
        self,
        engine: Engine,
        tables: StoreTables,
        *,
        translating: Callable[[], AbstractContextManager[None]] = retrying_transient_errors,
        verifies: bool = True,
    ) -> None:
        self._engine = engine
        self._verifies = verifies
        self._tables = tables
        self.translating = translating

    def check(self) -> None:
        """Raise `FatalError` if a table is missing, or if the database does not roll back what it should."""
        with self.translating(), self._engine.connect() as connection:
            inspector = sa.inspect(connection)
            missing = [str(table) for table in self._tables if not inspector.has_table(table.name, schema=table.schema)]
        if missing:
            raise FatalError(f"the database has no table {' and no table '.join(missing)}: create it first")
        offsets = self._tables.offsets
        probe = offsets.c.topic == _PROBE["topic"]
        with self.translating(), self._engine.connect() as connection:
            connection.execute(offsets.insert(), _PROBE)
            connection.rollback()
            if connection.scalar(sa.select(sa.func.count()).select_from(offsets).where(probe)):
                connection.execute(offsets.delete().where(probe))
                connection.commit()
                raise FatalError(
                    f"what is written to {offsets} is not rolled back: use an engine without AUTOCOMMIT, and tables"
                    " with transactions (on MariaDB and MySQL: InnoDB)"
                )

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """For each of these partitions the offset to read from; 0 if nothing was read yet."""
        columns = self._tables.offsets.c
        wanted = columns.partition.in_(sorted(partitions))
        query = sa.select(columns.partition, columns.next_offset).where(columns.topic == topic, wanted)
        known: dict[int, int] = dict(self._read(query))
        return {partition: known.get(partition, 0) for partition in partitions}

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[SqlTransaction]:
        """Move the offsets; commit at the end of the context, or roll back after an error.

        Raises `OvertakenError` if an offset is not at `before`: another consumer owns the partition now, or the offsets
        were moved by hand.
        """
        with self.translating():
            connection = self._engine.connect()
        try:
            with self.translating():
                begun = connection.begin()
            transaction = SqlTransaction(connection, self._tables, self.translating)
            transaction.move(advances)
            yield transaction
            if self._verifies:
                transaction.verify(begun, advances)
            with self.translating():
                begun.commit()
        except BaseException:
            try:
                connection.rollback()
            except Exception:  # noqa: BLE001 - the first error is the one to raise; without its connection it is rolled back too
                connection.invalidate()
            raise
        finally:
            connection.close()

    def undecodable(self) -> list[UndecodableMessage]:
        """All messages that could not be decoded so far, by topic, partition and offset."""
        columns = self._tables.undecodable.c
        wanted = [columns[name] for name in _UNDECODABLE]
        query = sa.select(*wanted).order_by(*wanted[:3])
        return [
            UndecodableMessage(Coordinates(*at), key, value, _headers_from(headers), reason)
            for *at, key, value, headers, reason in self._read(query)
        ]

    def count_undecodable(self) -> int:
        """How many messages could not be decoded so far."""
        return int(self._read(sa.select(sa.func.count()).select_from(self._tables.undecodable))[0][0])

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _read(self, query: sa.Select[Any]) -> list[Any]:
        with self.translating(), self._engine.connect() as connection:
            return list(connection.execution_options(**{READ_ONLY: True}).execute(query))


_PROBE = {"topic": "?", "partition": -1, "next_offset": 0}
"""`?` is in no name of a topic."""

_ENDED = (
    "the handler has ended the transaction, or has caught a database error after which it was rolled back: let database"
    " errors through, or catch them around `connection.begin_nested()`, and call neither commit nor rollback"
)

_UNDECODABLE = ("topic", "partition", "offset", "key", "value", "headers", "reason")


class SqlTransaction:
    """One transaction: `connection` is for what is made of the events."""

    def __init__(
        self, connection: Connection, tables: StoreTables, translating: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.connection = connection
        self._tables = tables
        self._translating = translating

    def move(self, advances: Mapping[Partition, Advance]) -> None:
        """Move the offsets, or raise `OvertakenError`. Waits while another transaction holds one of the rows.

        Rows are locked in one order, so that two transactions cannot wait for each other.
        """
        offsets = self._tables.offsets
        for (topic, partition), advance in sorted(advances.items()):
            move = {"at_topic": topic, "at_partition": partition, "before": advance.before, "after": advance.after}
            with self._translating():
                is_moved = self.connection.execute(_moving(offsets), move).rowcount == 1 or (
                    advance.before == 0 and self._move_first(topic, partition, advance.after)
                )
            if not is_moved:
                raise OvertakenError(f"the stored offset of {topic}/{partition} has been moved by another")

    def verify(self, begun: RootTransaction, advances: Mapping[Partition, Advance]) -> None:
        """Raise `FatalError` if the transaction has ended, or the offsets are not moved any more."""
        if not begun.is_active:
            raise FatalError(_ENDED)
        columns = self._tables.offsets.c
        for (topic, partition), advance in advances.items():
            at = sa.select(columns.next_offset).where(columns.topic == topic, columns.partition == partition)
            with self._translating():
                stored = self.connection.scalar(at)
            if stored != advance.after:
                raise FatalError(_ENDED)

    def _move_first(self, topic: str, partition: int, after: int) -> bool:
        """Insert the partition's row. False when it is there: the transaction can then only be rolled back."""
        row = {"topic": topic, "partition": partition, "next_offset": after}
        try:
            self.connection.execute(self._tables.offsets.insert(), row)
        except IntegrityError:
            return False
        return True

    def keep_undecodable(self, messages: Sequence[UndecodableMessage]) -> None:
        """Store the messages; one that is stored already gets its new reason."""
        table = self._tables.undecodable
        is_json = isinstance(table.c.headers.type, sa.JSON)
        now = datetime.now(UTC)
        with self._translating(), _hiding_values():
            for message in messages:
                headers = message.headers if is_json else json.dumps(message.headers, ensure_ascii=False)
                content = {"key": message.key, "value": message.value, "headers": headers, "reason": message.reason}
                same = self._same(message)
                if not self.connection.execute(table.update().where(*same), content).rowcount:
                    at = message.coordinates
                    row = {"topic": at.topic, "partition": at.partition, "offset": at.offset, "received": now}
                    self.connection.execute(table.insert(), row | content)

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """Delete the message, as a retry has decoded it."""
        with self._translating():
            self.connection.execute(self._tables.undecodable.delete().where(*self._same(message)))

    def _same(self, message: UndecodableMessage) -> list[sa.ColumnElement[bool]]:
        columns, at = self._tables.undecodable.c, message.coordinates
        return [columns.topic == at.topic, columns.partition == at.partition, columns.offset == at.offset]


def _moving(offsets: sa.Table) -> sa.Update:
    return (
        offsets.update()
        .where(
            offsets.c.topic == sa.bindparam("at_topic"),
            offsets.c.partition == sa.bindparam("at_partition"),
            offsets.c.next_offset == sa.bindparam("before"),
        )
        .values(next_offset=sa.bindparam("after"))
    )


@contextmanager
def _hiding_values() -> Iterator[None]:
    """SQLAlchemy's errors show parameters, and a message may hold personal data."""
    try:
        yield
    except DBAPIError as error:
        error.hide_parameters = True
        raise


def _headers_from(stored: str | dict[str, str]) -> dict[str, str]:
    return json.loads(stored) if isinstance(stored, str) else stored
