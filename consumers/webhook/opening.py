"""Opening the forwarder's state: creating and migrating its tables, and the lock that keeps a second forwarder out.

The first version had no migrations: tables without a version table are those of the first migration.
"""

from __future__ import annotations

import enum
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from consumers.ledger.address import PostgresqlAddress, SqliteAddress, address_of
from consumers.ledger.migrating import Steps, lock_schema
from consumers.ledger.translation import translating
from consumers.webhook.store import ForwarderStore
from consumers.webhook.tables import metadata
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Connection, Engine

    from consumers.ledger.address import Address


LOCK_SECONDS_MAX = 10.0
"""How long a forwarder waits for its predecessor: after a crash the database may notice the end only later."""

_PAUSE_SECONDS = 0.2
_LOCK_PG = "SELECT pg_try_advisory_lock(hashtextextended('trekkpaalegg webhook ' || current_setting('search_path'), 0))"


class ForwarderLock:
    """Held until `close`. Raises `FatalError` if another process holds it, and whatever `Address.connect` raises.

    On PostgreSQL it is an advisory lock of a separate connection; on SQLite the lock on a second file, because the
    commands that inspect the state must be able to open the first. PostgreSQL loses the lock when it restarts; then
    the token that `ForwarderStore` checks in each transaction keeps a second forwarder from writing.
    """

    def __init__(self, address: Address, *, seconds_max: float = LOCK_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds_max
        self._connection: psycopg.Connection | sqlite3.Connection | None = None
        while self._connection is None:
            if isinstance(address, PostgresqlAddress):
                self._connection = _lock_postgresql(address)
            else:
                self._connection = _lock_file(address)
            if self._connection is None:
                if time.monotonic() > deadline:
                    raise FatalError(
                        f"{address.place}: another forwarder uses this state; stop it, or give each its own --state"
                    )
                time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _lock_postgresql(address: PostgresqlAddress) -> psycopg.Connection | None:
    connection = address.connect()
    try:
        with translating(address.place):
            connection.autocommit = True
            row = connection.execute(_LOCK_PG).fetchone()
    except BaseException:
        connection.close()
        raise
    if row is not None and row[0]:
        return connection
    connection.close()
    return None


def _lock_file(address: SqliteAddress) -> sqlite3.Connection | None:
    path = address.beside(".lock").path
    with translating(address.place):
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return None
            raise
        except BaseException:
            connection.close()
            raise
    return connection


STEPS = Steps(Path(__file__).parent / "migrations", "webhook_migration", ("0002", "0001"))
_LOCK_CLASS = "trwh"
_FIRST = "0001"


class _TablesVersion(enum.Enum):
    NOTHING = "nothing"
    UNVERSIONED = "unversioned"
    OLDER = "older"
    CURRENT = "current"


def prepare(connection: Connection, address: Address) -> None:
    """Create or migrate the tables if necessary, and on PostgreSQL their schema.

    Two processes that start at once wait for each other. Raises `FatalError` if tables of the same names belong to
    something else or to a newer version of this program, or if the schema may not be created. Call it in a
    transaction, within `translating()`.
    """
    if isinstance(address, PostgresqlAddress):
        lock_schema(connection, address, _LOCK_CLASS)
    found = _found(connection, address)
    if found is _TablesVersion.UNVERSIONED:
        STEPS.stamp(connection, _FIRST)
    if found is not _TablesVersion.CURRENT:
        STEPS.upgrade(connection)


def require_current(connection: Connection, address: Address) -> None:
    """Raise `FatalError` if there is no state, or if another version of this program made it."""
    found = _found(connection, address)
    if found is _TablesVersion.NOTHING:
        raise FatalError(f"{address.place}: there is no forwarder's state here; give the --state of the forwarder")
    if found is not _TablesVersion.CURRENT:
        raise FatalError(
            f"{address.place}: the state was made by an older version: start `trekkpaalegg-consumer webhook` on it once"
        )


def _found(connection: Connection, address: Address) -> _TablesVersion:
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if STEPS.version_table in there:
        return (
            _TablesVersion.CURRENT
            if STEPS.is_up_to_date(connection, f"{address.place}: the state")
            else _TablesVersion.OLDER
        )
    ours = sorted(there & metadata.tables.keys())
    if not ours:
        return _TablesVersion.NOTHING
    if len(ours) < len(metadata.tables) or not _are_of_a_forwarder(inspector):
        raise FatalError(
            f"{address.place}: the table {ours[0]} exists and is not a forwarder's: give a schema or database of its"
            " own, such as `?options=-csearch_path%3Dwebhook`"
        )
    return _TablesVersion.UNVERSIONED


def _are_of_a_forwarder(inspector: sa.Inspector) -> bool:
    """Whether each table has the columns of the first migration."""
    return all(
        {column.name for column in table.columns} - {"taken_seconds"}
        == {column["name"] for column in inspector.get_columns(name)}
        for name, table in metadata.tables.items()
    )


def state_address(url: str | None) -> Address:
    """Parse `sqlite:///file` or `postgresql://…`. Raises `SettingsError`, which does not quote the URL."""
    if not url:
        raise SettingsError(["--state: missing; give sqlite:///FILE or postgresql://…"])
    try:
        return address_of(url)
    except SettingsError as error:
        faults = [fault.replace("the ledger's URL", "the URL").replace("ledger", "state") for fault in error.faults]
        raise SettingsError([f"--state: {fault}" for fault in faults]) from error


def open_store(address: Address, *, make: bool) -> ForwarderStore:
    """Open the state. With `make` its tables, and on PostgreSQL their schema, are created or migrated first.

    Raises `FatalError` without `make` if there is no state or if an older version made it, and as `prepare` does.
    """
    if isinstance(address, SqliteAddress):
        _guard_file(address, make=make)
    engine = _make_engine(address)
    try:
        with translating(address.place), engine.begin() as connection:
            (prepare if make else require_current)(connection, address)
    except BaseException:
        engine.dispose()
        raise
    return ForwarderStore(address, engine)


def _guard_file(address: SqliteAddress, *, make: bool) -> None:
    """Create the file readable by its owner only before it holds anything: events contain national ids."""
    if address.path.exists():
        return
    if not make:
        raise FatalError(f"{address.place}: there is no such file; give the --state of the forwarder")
    if address.path.parent.is_dir():
        with translating(address.place):
            os.close(os.open(address.path, os.O_CREAT | os.O_WRONLY, 0o600))


def _make_engine(address: Address) -> Engine:
    """One connection that stays open, because the forwarder writes many times a second. Errors quote no rows."""
    is_sqlite = isinstance(address, SqliteAddress)
    engine = sa.create_engine(
        "sqlite://" if is_sqlite else "postgresql+psycopg://",
        creator=address.connect,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
    )
    if is_sqlite:

        @sa.event.listens_for(engine, "connect")
        def _overwrite_what_is_deleted(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
            connection.cursor().execute("PRAGMA secure_delete = ON")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
