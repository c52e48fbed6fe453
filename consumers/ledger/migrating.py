"""A database in, the same with this version's tables and an identity out; or, for who only looks, what is there."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from consumers.errors import FatalError
from consumers.ledger import tables
from consumers.ledger.address import Address, PostgresqlAddress
from consumers.ledger.engine import make_engine
from consumers.ledger.schema import lock_schema
from consumers.ledger.steps import Steps
from consumers.ledger.translation import translating

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE = "ledger_migration"
STEPS = Steps(Path(__file__).parent / "migrations", VERSION_TABLE)
_LOCK_CLASS = "trkk"
_RUN_FIRST = "start `trekkpaalegg-consumer run` on it once, which makes the tables"


class _Found(enum.Enum):
    NOTHING = "nothing"
    OLDER = "older"
    CURRENT = "current"


def prepare(address: Address) -> str:
    """Make or migrate the tables where that is still to be done; the ledger's id.

    Two that start at once wait for one another. A database that is up to date is only read. Raises `FatalError` where
    tables of the same names belong to something else or to a newer version of this program, and as `translating`.
    """
    engine = make_engine(address, read_only=True)
    if isinstance(address, PostgresqlAddress) or address.path.exists():
        with translating(address.place), engine.connect() as connection:
            if _found(connection, address) is _Found.CURRENT and (identity := _identity(connection)):
                return identity
    engine = make_engine(address)
    with translating(address.place), engine.begin() as connection:
        if isinstance(address, PostgresqlAddress):
            lock_schema(connection, address, _LOCK_CLASS)
        if _found(connection, address) is not _Found.CURRENT:
            STEPS.upgrade(connection)
        identity = _identity(connection)
        if identity is None:
            identity = uuid.uuid4().hex
            connection.execute(sa.insert(tables.ledger).values(id=identity, created=datetime.now(UTC)))
    return identity


def look(address: Address) -> str:
    """The id of the ledger that is there. Needs no right to write.

    Raises `FatalError` when there is none, or one of another version of this program; and as `translating`.
    """
    engine = make_engine(address, read_only=True)
    with translating(address.place), engine.connect() as connection:
        found = _found(connection, address)
        identity = _identity(connection) if found is _Found.CURRENT else None
    if found is _Found.NOTHING or (found is _Found.CURRENT and identity is None):
        raise FatalError(f"{address.place}: there is no ledger: {_RUN_FIRST}")
    if identity is None:
        raise FatalError(f"{address.place}: the ledger is of an older version: {_RUN_FIRST} anew")
    return identity


def _found(connection: Connection, address: Address) -> _Found:
    there = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in there:
        foreign = sorted(there & tables.metadata.tables.keys())
        if foreign:
            raise FatalError(
                f"{address.place}: the table {foreign[0]} is there and is no ledger's: give a schema or database of"
                " its own, such as `?options=-csearch_path%3Dledger`"
            )
        _require_usage(connection, address)
        return _Found.NOTHING
    return _Found.CURRENT if STEPS.are_taken(connection, f"{address.place}: the ledger") else _Found.OLDER


def _require_usage(connection: Connection, address: Address) -> None:
    """Tables that may not be used look as if they were not there."""
    if isinstance(address, PostgresqlAddress):
        usable = sa.func.has_schema_privilege(sa.column("oid"), "USAGE")
        namespace = sa.select(usable).select_from(sa.table("pg_namespace", sa.column("nspname")))
        if connection.scalar(namespace.where(sa.column("nspname") == address.schema())) is False:
            raise FatalError(
                f"{address.place}: a right is missing: let the owner of schema {address.schema()} grant USAGE on it, or"
                " give a schema of the ledger's own"
            )


def _identity(connection: Connection) -> str | None:
    return connection.execute(sa.select(tables.ledger.c.id)).scalar()
