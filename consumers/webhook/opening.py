"""The URL of a forwarder's state in, the store there out, its tables made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from consumers.errors import FatalError, SettingsError
from consumers.ledger.address import PostgresqlAddress, SqliteAddress, address_of
from consumers.ledger.translation import translating
from consumers.webhook.store import Store
from consumers.webhook.tables import metadata, webhook_event

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from consumers.ledger.address import Address


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
    """The state there. With `make` the tables are made where they are missing, and on PostgreSQL their schema.

    Raises `FatalError` without `make` where there is no state, and as `Store`.
    """
    if isinstance(address, SqliteAddress):
        _guard_file(address, make=make)
    engine = _make_engine(address)
    try:
        with translating(address.place), engine.begin() as connection:
            if make:
                _make_tables(address, connection)
            is_there = sa.inspect(connection).has_table(webhook_event.name)
    except BaseException:
        engine.dispose()
        raise
    if not is_there:
        engine.dispose()
        raise FatalError(f"{address.place}: no forwarder has kept its state here; give the --state that it has")
    return Store(address, engine)


def _make_tables(address: Address, connection: Connection) -> None:
    if isinstance(address, PostgresqlAddress):
        name = address.schema()
        if not sa.inspect(connection).has_schema(name):
            connection.execute(sa.schema.CreateSchema(name, if_not_exists=True))
    metadata.create_all(connection)


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
