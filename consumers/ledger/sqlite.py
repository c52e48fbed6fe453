"""The ledger on SQLite: one file, rows by `executemany` on sqlite3's connection, in the store's transaction.

Every transaction locks the file for writing as it begins, so that what it has read stays true.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from consumers.ledger import rows
from consumers.ledger.address import make_engine
from consumers.ledger.tables import STORE_TABLES
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError
from trekkpaalegg.exactly_once.store import SqlStore, SqlTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection

    from consumers.ledger.address import SqliteAddress
    from consumers.ledger.port import Changes, StoredVersion, Version
    from trekkpaalegg.exactly_once.store import StoreTables
    from trekkpaalegg.incoming import Advance, IncomingEvent, Partition


def _named(columns: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _insert(table: str, columns: tuple[str, ...], conflict: str = "") -> str:
    return f"INSERT INTO {table} ({_named(columns)}) VALUES ({', '.join('?' * len(columns))}) {conflict}"  # noqa: S608 - names of ours


def _set(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}" = excluded."{column}"' for column in columns)


_IDENTITY = "SELECT id FROM ledger"


_NEWEST = """
SELECT trekkid, trekkversjon, correction FROM trekkpaalegg WHERE trekkid IN (SELECT value FROM json_each(?))
"""

_VERSIONS = f"""
SELECT {_named(rows.HISTORY, "h.")} FROM json_each(?) wanted JOIN trekkpaalegg_versjon h
ON h.trekkid = json_extract(wanted.value, '$[0]') AND h.trekkversjon = json_extract(wanted.value, '$[1]')
"""  # noqa: S608 - names of ours

_DELETE_VERSION = "DELETE FROM trekkpaalegg_versjon WHERE trekkid = ? AND trekkversjon = ?"
_INSERT_HISTORY = _insert("trekkpaalegg_versjon", rows.HISTORY)

_UPSERT_NEWEST = _insert(
    "trekkpaalegg",
    rows.ORDER,
    f"ON CONFLICT (trekkid) DO UPDATE SET {_set(rows.ORDER[1:])} WHERE (excluded.trekkversjon, excluded.correction)"
    " >= (trekkpaalegg.trekkversjon, trekkpaalegg.correction)",
)
_DELETE_PERIODS = "DELETE FROM trekkstoerrelse_for_periode WHERE trekkid = ?"
_INSERT_PERIOD = _insert("trekkstoerrelse_for_periode", rows.PERIOD)

_INSERT_REPLACED = _insert("trekkpaalegg_versjon_replaced", rows.HISTORY, "ON CONFLICT DO NOTHING")
_INSERT_CONFLICT = _insert("trekkpaalegg_conflict", rows.CONFLICT, "ON CONFLICT DO NOTHING")


class SqliteLedger(SqlStore):
    """See the port. `address` is that of a ledger which exists and is up to date, `identity` its id."""

    def __init__(self, address: SqliteAddress, identity: str) -> None:
        self.id = identity
        self._address = address
        engine = make_engine(address, on_connect=self._prepare)
        super().__init__(engine, STORE_TABLES, translating=partial(translating, address.place), verifies=False)

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[SqliteTransaction]:
        """See the port."""
        with super().transaction(advances) as transaction:
            yield SqliteTransaction(transaction.connection, STORE_TABLES, self.translating)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with self.translating():
            found = connection.execute(_IDENTITY).fetchone()
        if found != (self.id,):
            raise FatalError(f"{self._address.place}: this is another ledger now: start again to use it")


class SqliteTransaction(SqlTransaction):
    """See `LedgerTransaction`. Rows are written by `executemany` on sqlite3's own connection."""

    def __init__(
        self, connection: Connection, tables: StoreTables, translating: Callable[[], AbstractContextManager[None]]
    ) -> None:
        super().__init__(connection, tables, translating)
        driver_connection = connection.connection.driver_connection
        assert isinstance(driver_connection, sqlite3.Connection)  # noqa: S101 - the engine is `make_engine`'s
        self._connection = driver_connection

    def newest(self, orders: Collection[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        with self._translating():
            found = self._connection.execute(_NEWEST, (json.dumps(list(orders)),)).fetchall()
        return {trekkid: (trekkversjon, correction) for trekkid, trekkversjon, correction in found}

    def versions(self, versions: Collection[Version]) -> dict[Version, StoredVersion]:
        """See the port."""
        with self._translating():
            found = self._connection.execute(_VERSIONS, (json.dumps(list(versions)),)).fetchall()
        return {(row[0], row[1]): _stored_version_from(row) for row in found}

    def write(self, changes: Changes) -> None:
        """See the port."""
        with self._translating():
            self._write_history(changes)
            if changes.newest:
                self._write_newest(changes.newest)
            self._write_aside(changes)

    def _write_history(self, changes: Changes) -> None:
        self._connection.executemany(_DELETE_VERSION, [incoming.version for incoming in changes.corrected])
        self._connection.executemany(
            _INSERT_HISTORY,
            (_history_row(incoming) for incomings in (changes.inserted, changes.corrected) for incoming in incomings),
        )

    def _write_newest(self, newest: Mapping[str, IncomingEvent]) -> None:
        stored = self.newest(newest)
        moved = [
            incoming
            for trekkid, incoming in newest.items()
            if (incoming.event.trekkversjon, incoming.correction) >= stored.get(trekkid, (0, 0))
        ]
        self._connection.executemany(_UPSERT_NEWEST, (_order_row(incoming) for incoming in moved))
        known = [(incoming.event.trekkid,) for incoming in moved if incoming.event.trekkid in stored]
        self._connection.executemany(_DELETE_PERIODS, known)
        periods = rows.period_rows(incoming.event for incoming in moved)
        self._connection.executemany(_INSERT_PERIOD, (_period_row(row) for row in periods))

    def _write_aside(self, changes: Changes) -> None:
        self._connection.executemany(
            _INSERT_REPLACED,
            (_with_moment(rows.stored_row(stored), _OPPRETTET) for _, stored in changes.replaced),
        )
        self._connection.executemany(
            _INSERT_CONFLICT,
            (_with_moment(rows.conflict_row(incoming), _CONFLICT_OPPRETTET) for incoming in changes.conflicts),
        )


_OPPRETTET = rows.HISTORY.index("opprettet")
_CONFLICT_OPPRETTET = rows.CONFLICT.index("opprettet")


def _moment_text(moment: datetime) -> str:
    """As SQLAlchemy stores it: UTC without saying so, always six decimals."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _with_moment(row: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    return (*row[:index], _moment_text(row[index]), *row[index + 1 :])


def _order_row(incoming: IncomingEvent) -> tuple[Any, ...]:
    return _with_moment(rows.order_row(incoming.event, incoming.correction), _OPPRETTET)


def _history_row(incoming: IncomingEvent) -> tuple[Any, ...]:
    order = rows.order_row(incoming.event, incoming.correction)
    return _with_moment(rows.history_row(order, incoming.event, late=incoming.late), _OPPRETTET)


def _period_row(row: rows.PeriodRow) -> tuple[Any, ...]:
    trekkid, nummer, startdato, sluttdato, trekkbeloep, trekkprosent, fields = row
    dates = (startdato.isoformat(), None if sluttdato is None else sluttdato.isoformat())
    sizes = (None if size is None else f"{size:f}" for size in (trekkbeloep, trekkprosent))
    return (trekkid, nummer, *dates, *sizes, fields)


def _stored_version_from(row: tuple[Any, ...]) -> StoredVersion:
    moment = datetime.fromisoformat(row[_OPPRETTET]).replace(tzinfo=UTC)
    return rows.stored_version_from((*row[:_OPPRETTET], moment, *row[_OPPRETTET + 1 :]))
