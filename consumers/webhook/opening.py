"""The URL of a forwarder's state in, the store there out, its tables made or migrated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from consumers.errors import FatalError, SettingsError
from consumers.ledger.address import SqliteAddress, address_of
from consumers.ledger.translation import translating
from consumers.webhook.migrating import look, prepare
from consumers.webhook.store import Store

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
