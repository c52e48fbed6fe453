"""The ledger on PostgreSQL: rows by COPY and reads by arrays on psycopg's connection, in the store's transaction.

COPY is why this is not SQLAlchemy's ORM or Core, because most of a back-fill is writing. Measured, 5000 rows of
`trekkpaalegg_versjon` take 0.08 s of CPU time (client and server together) by COPY, 0.41 s by psycopg's `executemany`,
and 0.74 s by SQLAlchemy Core. Names in the statements have no schema: the search path is the ledger's.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from msgspec import to_builtins

from consumers.ledger import rows
from consumers.ledger.address import make_engine
from consumers.ledger.tables import STORE_TABLES
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError
from trekkpaalegg.exactly_once.store import SqlStore, SqlTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection

    from consumers.ledger.address import PostgresqlAddress
    from consumers.ledger.port import Changes, StoredVersion, Version
    from trekkpaalegg.exactly_once.store import StoreTables
    from trekkpaalegg.incoming import Advance, IncomingEvent, Partition


_JSON_COLUMNS = frozenset(
    {"betalingsinformasjon_ukjente_felter", "ukjente_felter", "trekkstoerrelse_for_periode", "headers"}
)


def _named(columns: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _read(columns: tuple[str, ...], prefix: str = "") -> str:
    """Columns to select, JSON as its text."""
    return ", ".join(f'{prefix}"{column}"{"::text" if column in _JSON_COLUMNS else ""}' for column in columns)


def _insert(table: str, columns: tuple[str, ...], conflict: str) -> str:
    values = ", ".join("%s::json" if column in _JSON_COLUMNS else "%s" for column in columns)
    return f"INSERT INTO {table} ({_named(columns)}) VALUES ({values}) ON CONFLICT {conflict}"  # noqa: S608 - names of ours


_IDENTITY = "SELECT id FROM ledger"

_STAGING = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS newest_staging (LIKE trekkpaalegg INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
)

_NEWEST = "SELECT trekkid, trekkversjon, correction FROM trekkpaalegg WHERE trekkid = ANY(%s)"

_VERSIONS = f"""
SELECT {_read(rows.HISTORY, "h.")}
FROM unnest(%s::text[], %s::bigint[]) AS wanted(trekkid, trekkversjon)
JOIN trekkpaalegg_versjon h ON h.trekkid = wanted.trekkid AND h.trekkversjon = wanted.trekkversjon
"""  # noqa: S608 - names of ours

_DELETE_VERSIONS = """
DELETE FROM trekkpaalegg_versjon h USING unnest(%s::text[], %s::bigint[]) AS gone(trekkid, trekkversjon)
WHERE h.trekkid = gone.trekkid AND h.trekkversjon = gone.trekkversjon
"""

_COPY_HISTORY = f"COPY trekkpaalegg_versjon ({_named(rows.HISTORY)}) FROM STDIN"
_COPY_NEWEST = f"COPY trekkpaalegg ({_named(rows.ORDER)}) FROM STDIN"
_COPY_STAGING = f"COPY newest_staging ({_named(rows.ORDER)}) FROM STDIN"
_COPY_PERIODS = f"COPY trekkstoerrelse_for_periode ({_named(rows.PERIOD)}) FROM STDIN"

_SET = ", ".join(f'"{column}" = excluded."{column}"' for column in rows.ORDER[1:])

_MOVE_NEWEST = f"""
INSERT INTO trekkpaalegg AS stored ({_named(rows.ORDER)}) SELECT {_named(rows.ORDER)} FROM newest_staging
ON CONFLICT (trekkid) DO UPDATE SET {_SET}
WHERE (excluded.trekkversjon, excluded.correction) >= (stored.trekkversjon, stored.correction)
RETURNING trekkid
"""  # noqa: S608 - names of ours
_EMPTY_STAGING = "DELETE FROM newest_staging"
_DELETE_PERIODS = "DELETE FROM trekkstoerrelse_for_periode WHERE trekkid = ANY(%s)"

_INSERT_REPLACED = _insert("trekkpaalegg_versjon_replaced", rows.HISTORY, "DO NOTHING")
_INSERT_CONFLICT = _insert("trekkpaalegg_conflict", rows.CONFLICT, "DO NOTHING")


class PostgresqlLedger(SqlStore):
    """See the port. `address` is that of a ledger which exists and is up to date, `identity` its id."""

    def __init__(self, address: PostgresqlAddress, identity: str) -> None:
        self.id = identity
        self._address = address
        engine = make_engine(address, on_connect=self._prepare)
        super().__init__(engine, STORE_TABLES, translating=partial(translating, address.place), verifies=False)

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[PostgresqlTransaction]:
        """See the port."""
        with super().transaction(advances) as transaction:
            yield PostgresqlTransaction(transaction.connection, STORE_TABLES, self.translating)

    def _prepare(self, connection: psycopg.Connection) -> None:
        with self.translating():
            found = connection.execute(_IDENTITY).fetchone()
            connection.execute(_STAGING)
            connection.commit()
        if found != (self.id,):
            raise FatalError(f"{self._address.place}: this is another ledger now: start again to use it")


class PostgresqlTransaction(SqlTransaction):
    """See `LedgerTransaction`. Rows are written by COPY on psycopg's own connection, within the transaction."""

    def __init__(
        self, connection: Connection, tables: StoreTables, translating: Callable[[], AbstractContextManager[None]]
    ) -> None:
        super().__init__(connection, tables, translating)
        driver_connection = connection.connection.driver_connection
        assert isinstance(driver_connection, psycopg.Connection)  # noqa: S101 - the engine is `make_engine`'s
        self._connection = driver_connection
        self._absent: set[str] = set()
        """Orders that this transaction has searched for and not found."""

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        with self._translating():
            found = self._connection.execute(_NEWEST, (list(orders),)).fetchall()
        newest = {trekkid: (trekkversjon, correction) for trekkid, trekkversjon, correction in found}
        self._absent.update(trekkid for trekkid in orders if trekkid not in newest)
        return newest

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """See the port."""
        keys = ([trekkid for trekkid, _ in versions], [trekkversjon for _, trekkversjon in versions])
        with self._translating():
            found = self._connection.execute(_VERSIONS, keys).fetchall()
        return {(row[0], row[1]): rows.stored_version_from(row) for row in found}

    def write(self, changes: Changes) -> None:
        """See the port. A version that another transaction inserted in the same moment raises `RetryableError`."""
        with self._translating():
            made = self._write_history(changes)
            if changes.newest:
                self._write_newest(changes.newest, made)
            self._write_aside(changes)

    def _write_history(self, changes: Changes) -> dict[int, rows.OrderRow]:
        """Write it, and give the beginnings of its rows by their incoming's `id()`: `newest` needs the same again."""
        if changes.corrected:
            keys = [incoming.version for incoming in changes.corrected]
            columns = ([trekkid for trekkid, _ in keys], [trekkversjon for _, trekkversjon in keys])
            self._connection.execute(_DELETE_VERSIONS, columns)
        made: dict[int, rows.OrderRow] = {}

        def history() -> Iterator[tuple[Any, ...]]:
            for incomings in (changes.inserted, changes.corrected):
                for incoming in incomings:
                    event = incoming.event
                    made[id(incoming)] = order = rows.order_row(event, incoming.correction)
                    yield rows.history_row(order, event, late=incoming.late)

        if changes.inserted or changes.corrected:
            self._copy(_COPY_HISTORY, history())
        return made

    def _write_newest(self, newest: Mapping[str, IncomingEvent], made: Mapping[int, rows.OrderRow]) -> None:
        """Orders that the ledger is known to lack go straight in, which takes a third of the server's work.

        Should another consumer write one of them in the same moment, the server says so: nothing is overwritten.
        """
        fresh = [incoming for trekkid, incoming in newest.items() if trekkid in self._absent]
        known = [incoming for trekkid, incoming in newest.items() if trekkid not in self._absent]
        self._absent.difference_update(newest)
        if fresh:
            self._copy(_COPY_NEWEST, _order_rows(fresh, made))
        if known:
            self._copy(_COPY_STAGING, _order_rows(known, made))
            moved = {trekkid for (trekkid,) in self._connection.execute(_MOVE_NEWEST).fetchall()}
            self._connection.execute(_DELETE_PERIODS, (list(moved),))
            self._connection.execute(_EMPTY_STAGING)
            fresh += [incoming for incoming in known if incoming.event.trekkid in moved]
        self._copy(_COPY_PERIODS, rows.period_rows(incoming.event for incoming in fresh))

    def _write_aside(self, changes: Changes) -> None:
        with self._connection.cursor() as cursor:
            if changes.replaced:
                replaced = [rows.stored_row(stored) for _, stored in changes.replaced]
                cursor.executemany(_INSERT_REPLACED, replaced)
            if changes.conflicts:
                conflicts = [rows.conflict_row(incoming) for incoming in changes.conflicts]
                cursor.executemany(_INSERT_CONFLICT, conflicts)

    def _copy(self, statement: str, written: Iterable[tuple[Any, ...]]) -> None:
        with self._connection.cursor().copy(statement) as copy:
            write_row = copy.write_row
            for row in written:
                # psycopg makes text of moments, dates and decimals too, at ten times the cost.
                write_row(to_builtins(row))


def _order_rows(incomings: Iterable[IncomingEvent], made: Mapping[int, rows.OrderRow]) -> Iterator[rows.OrderRow]:
    for incoming in incomings:
        yield made.get(id(incoming)) or rows.order_row(incoming.event, incoming.correction)
