"""Read and change the rows of a ledger by hand."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from consumers.ledger.opening import open_engine


def every_row(url: str, table: sa.Table) -> list[sa.Row[Any]]:
    """All of them, by key."""
    engine = open_engine(url, read_only=True)
    with engine.connect() as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key.columns)))


def by_hand(url: str, *statements: sa.Executable) -> int:
    """Change the ledger as a person with a database tool would; how many rows were changed."""
    engine = open_engine(url)
    with engine.begin() as connection:
        return sum(connection.execute(statement).rowcount for statement in statements)
