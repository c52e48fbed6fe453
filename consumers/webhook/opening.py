"""Opening a forwarder's state: its tables, and the lock that makes it the only forwarder.

Until the tables had steps they were made at once: such a state stands at the first step, without saying so.
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
from consumers.webhook.store import Store
from consumers.webhook.tables import metadata
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Connection, Engine

    from consumers.ledger.address import Address


CLAIM_SECONDS_MAX = 10.0
"""How long a forwarder waits for a former one to be gone: its restart may come before its end is known."""

_PAUSE_SECONDS = 0.2
_LOCK_PG = "SELECT pg_try_advisory_lock(hashtextextended('trekkpaalegg webhook ' || current_setting('search_path'), 0))"


class Claim:
    """Held until `close`. Raises `FatalError` while another process holds it, and as `Address.connect`.

    On PostgreSQL an advisory lock of a connection of its own; on SQLite the lock on a second file beside the first,
    since the first must stay open for the commands that look at it. A PostgreSQL that restarts forgets the lock: the
    token that the store checks in each transaction is what keeps two apart then.
    """

    def __init__(self, address: Address, *, seconds_max: float = CLAIM_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds_max
        self._connection: psycopg.Connection | sqlite3.Connection | None = None
        while self._connection is None:
            self._connection = _on_postgresql(address) if isinstance(address, PostgresqlAddress) else _on_file(address)
            if self._connection is None:
                if time.monotonic() > deadline:
                    raise FatalError(
                        f"{address.place}: another forwarder works from this state; end it, or give each a --state"
                    )
                time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let another one forward."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _on_postgresql(address: PostgresqlAddress) -> psycopg.Connection | None:
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


def _on_file(address: SqliteAddress) -> sqlite3.Connection | None:
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


STEPS = Steps(Path(__file__).parent / "migrations", "webhook_migration")
_LOCK_CLASS = "trwh"
_FIRST = "0001"


class _Found(enum.Enum):
    NOTHING = "nothing"
    WITHOUT_STEPS = "without steps"
    OLDER = "older"
    CURRENT = "current"


def prepare(connection: Connection, address: Address) -> None:
    """Make or migrate the tables where that is still to be done, and on PostgreSQL make their schema.

    Two that start at once wait for one another. Raises `FatalError` where tables of the same names belong to something
    else or to a newer version of this program, or where the schema may not be made. Give it a transaction, and hold
    `translating()` around it.
    """
    if isinstance(address, PostgresqlAddress):
        lock_schema(connection, address, _LOCK_CLASS)
    found = _found(connection, address)
    if found is _Found.WITHOUT_STEPS:
        STEPS.stamp(connection, _FIRST)
    if found is not _Found.CURRENT:
        STEPS.upgrade(connection)


def look(connection: Connection, address: Address) -> None:
    """Raise `FatalError` when there is no state, or one of another version of this program."""
    found = _found(connection, address)
    if found is _Found.NOTHING:
        raise FatalError(f"{address.place}: no forwarder has kept its state here; give the --state that it has")
    if found is not _Found.CURRENT:
        raise FatalError(
            f"{address.place}: the state is of an older version: start `trekkpaalegg-consumer webhook` on it once anew"
        )


def _found(connection: Connection, address: Address) -> _Found:
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if STEPS.version_table in there:
        return _Found.CURRENT if STEPS.are_taken(connection, f"{address.place}: the state") else _Found.OLDER
    ours = sorted(there & metadata.tables.keys())
    if not ours:
        return _Found.NOTHING
    if len(ours) < len(metadata.tables) or not _are_a_forwarders(inspector):
        raise FatalError(
            f"{address.place}: the table {ours[0]} is there and is no forwarder's: give a schema or database of its"
            " own, such as `?options=-csearch_path%3Dwebhook`"
        )
    return _Found.WITHOUT_STEPS


def _are_a_forwarders(inspector: sa.Inspector) -> bool:
    """Whether each table has the columns that it had at the first step."""
    return all(
        {column.name for column in table.columns} - {"taken_seconds"}
        == {column["name"] for column in inspector.get_columns(name)}
        for name, table in metadata.tables.items()
    )


def state_address(url: str | None) -> Address:
    """Where `sqlite:///file` or `postgresql://…` points to. Raises `SettingsError`, which holds nothing of the URL."""
    if not url:
        raise SettingsError(["--state: missing; give sqlite:///FILE or postgresql://…"])
    try:
        return address_of(url)
    except SettingsError as error:
        faults = [fault.replace("the ledger's URL", "the URL").replace("ledger", "state") for fault in error.faults]
        raise SettingsError([f"--state: {fault}" for fault in faults]) from error


def open_store(address: Address, *, make: bool) -> Store:
    """The state there. With `make` the tables are made or migrated, and on PostgreSQL their schema made.

    Raises `FatalError` without `make` where there is no state or one of an older version; and as `prepare` and `Store`.
    """
    if isinstance(address, SqliteAddress):
        _guard_file(address, make=make)
    engine = _make_engine(address)
    try:
        with translating(address.place), engine.begin() as connection:
            (prepare if make else look)(connection, address)
    except BaseException:
        engine.dispose()
        raise
    return Store(address, engine)


def _guard_file(address: SqliteAddress, *, make: bool) -> None:
    """Make the file readable by its owner alone before anything is in it: events hold national ids."""
    if address.path.exists():
        return
    if not make:
        raise FatalError(f"{address.place}: there is no such file; give the --state that the forwarder has")
    if address.path.parent.is_dir():
        with translating(address.place):
            os.close(os.open(address.path, os.O_CREAT | os.O_WRONLY, 0o600))


def _make_engine(address: Address) -> Engine:
    """One connection that stays open: the forwarder writes many times a second. Errors hold no values of rows."""
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
