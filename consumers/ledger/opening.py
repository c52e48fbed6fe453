"""Opening a ledger on the database that its URL names, to apply, to pay out, or to inspect.

Rows come as the database has them, JSON as text, so that they can be compared without the code that wrote them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.address import PostgresqlAddress, address_of, make_engine
from consumers.ledger.migrating import inspect_schema, prepare
from consumers.ledger.postgresql import PostgresqlLedger
from consumers.ledger.sqlite import SqliteLedger
from consumers.ledger.translation import translating
from trekkpaalegg.incoming import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy.engine import Engine

    from consumers.ledger.port import Ledger


def open_ledger(url: str) -> Ledger:
    """The ledger at `postgresql://…` or `sqlite:///…`, its tables made or migrated first; the caller closes it.

    Raises `SettingsError` for an URL that is none of these, which never shows its password; `FatalError` when the
    database refuses, and says what to do; `RetryableError` when it is out of reach.
    """
    address = address_of(url)
    identity = prepare(address)
    if isinstance(address, PostgresqlAddress):
        return PostgresqlLedger(address, identity)
    return SqliteLedger(address, identity)


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine on a ledger that is there, for the tables of `consumers.ledger.tables`; nothing is made or migrated.

    It keeps no connection open. `read_only` needs no right to write, and on SQLite takes no lock. Hold `translating()`
    around what is run on it. Raises as `open_ledger`, and `FatalError` where there is no ledger of this version.
    """
    address = address_of(url)
    inspect_schema(address)
    return make_engine(address, read_only=read_only)


def ledger_id(url: str) -> str:
    """Identity of the ledger that is there. Raises as `open_engine`."""
    return inspect_schema(address_of(url))


ROWS_A_FETCH = 5_000
_ORDERS_A_QUERY = 500


class Inspection:
    """One moment of a ledger: a transaction that sees nothing of what is written after it began. Use as a context.

    Raises as `open_engine` when opened, `RetryableError` or `FatalError` when the database fails. Close it soon:
    PostgreSQL ends a transaction that does nothing for a minute, and on SQLite the log grows behind a reader.
    """

    def __init__(self, url: str) -> None:
        self._engine: Engine = open_engine(url, read_only=True)
        with ExitStack() as opened:
            opened.callback(self._engine.dispose)
            opened.enter_context(translating())
            isolation = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
            self._connection = opened.enter_context(self._engine.connect().execution_options(**isolation))
            # The moment is that of the first statement: on SQLite and on PostgreSQL alike.
            self.offsets = self._offsets()
            self._opened = opened.pop_all()

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def count(self, table: sa.Table) -> int:
        """How many rows the table has."""
        with translating():
            return self._connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    def rows(self, table: sa.Table, orders: Collection[str] | None = None) -> Iterator[Sequence[Any]]:
        """All rows, or those of some orders (trekkid), in lists; columns as in `tables`.

        JSON is text. Decimals are `Decimal`, on SQLite text; dates are `date`, moments `datetime`, on SQLite ISO text.
        """
        columns = [self._plain(column) for column in table.columns]
        if orders is None:
            yield from self._fetch(sa.select(*columns))
            return
        wanted = sorted(orders)
        for start in range(0, len(wanted), _ORDERS_A_QUERY):
            some = wanted[start : start + _ORDERS_A_QUERY]
            yield from self._fetch(sa.select(*columns).where(table.c.trekkid.in_(some)))

    def close(self) -> None:
        """End the transaction."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _offsets(self) -> dict[Partition, int]:
        offset = tables.ledger_offset.c
        rows = self._connection.execute(sa.select(offset.topic, offset.partition, offset.next_offset))
        return {Partition(topic, partition): next_offset for topic, partition, next_offset in rows}

    def _fetch(self, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
        options = {"stream_results": True, "max_row_buffer": ROWS_A_FETCH}
        with translating(), self._connection.execution_options(**options).execute(query) as result:
            while rows := result.fetchmany(ROWS_A_FETCH):
                yield rows

    def _plain(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """The column without what SQLAlchemy would make of its values."""
        if isinstance(column.type, sa.JSON):
            return sa.cast(column, sa.Text) if not self._is_sqlite else sa.type_coerce(column, sa.Text)
        if self._is_sqlite and not isinstance(column.type, sa.Boolean | sa.Integer):
            return sa.type_coerce(column, sa.Text)
        if isinstance(column.type, sa.types.TypeDecorator):
            return sa.type_coerce(column, column.type.impl_instance)
        return column
