"""A database in, the same with this version's tables of a forwarder's state out; or, for who only looks, what is there.

Until the tables had steps they were made at once: such a state stands at the first step, without saying so.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from consumers.errors import FatalError
from consumers.ledger.address import PostgresqlAddress
from consumers.ledger.schema import lock_schema
from consumers.ledger.steps import Steps
from consumers.webhook.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from consumers.ledger.address import Address

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
