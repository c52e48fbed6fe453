"""An address in, a SQLAlchemy engine on it out: short-lived connections for everything that is no hot loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from consumers.ledger.address import Address, SqliteAddress

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine


def make_engine(address: Address, *, read_only: bool = False) -> Engine:
    """An engine that keeps no connection open; errors hold no values of rows.

    On SQLite every transaction takes the lock for writing as it begins, unless `read_only`: one that reads first and
    writes later would fail when another program wrote in between. `connect()` raises `RetryableError` or `FatalError`;
    hold `translating()` around what is run on it.
    """
    dialect = "sqlite" if isinstance(address, SqliteAddress) else "postgresql+psycopg"
    engine = sa.create_engine(
        f"{dialect}://",
        creator=lambda: address.connect(read_only=read_only),
        poolclass=NullPool,
        hide_parameters=True,
    )
    if isinstance(address, SqliteAddress):
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine
