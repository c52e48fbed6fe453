"""Replay on SQLite, in a file beside the live one.

A third file, `….replay-lock`, keeps a second replay out; it is empty and is not deleted.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from consumers.ledger import rows, tables
from consumers.ledger.address import make_engine
from consumers.ledger.migrating import VERSION_TABLE, prepare
from consumers.ledger.sqlite import SqliteLedger
from consumers.ledger.translation import translating
from consumers.replay.differences import find_differences
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from consumers.ledger.address import SqliteAddress
    from consumers.ledger.port import Ledger
    from consumers.replay.target import Differences
    from trekkpaalegg.incoming import Partition

FRESH = ".replay"
_LOCK = ".replay-lock"
_BESIDES = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps beside a database."""

_PLACE = 'INSERT INTO main.ledger_offset (next_offset, topic, "partition") VALUES (?, ?, ?)'
# Periods without a newest row, which somebody deleted by hand, would conflict with the correct ones.
_FORGET_ORPHANS = (
    "DELETE FROM main.trekkstoerrelse_for_periode WHERE trekkid NOT IN (SELECT trekkid FROM main.trekkpaalegg)"
)
_MOVE_BACK = 'UPDATE main.ledger_offset SET next_offset = min(next_offset, ?) WHERE topic = ? AND "partition" = ?'


def open_sqlite_target(
    address: SqliteAddress, plan: str, begins: Mapping[Partition, int], *, copy: bool
) -> SqliteReplayTarget:
    """See `open_replay_target`.

    Steps: 1. migrate the live ledger; 2. lock it against other replays while the connection lives; 3. continue the
    file of an equal plan, or delete it and create a new one.
    """
    prepare(address)
    fresh = address.beside(FRESH)
    with ExitStack() as opened:
        holding = _lock(address)
        opened.callback(holding.close)
        continued = _left_by(fresh) == plan
        if not continued:
            _delete(fresh)
        identity = prepare(fresh)
        if not continued:
            _begin(address, fresh, plan, begins, copy=copy)
        opened.pop_all()
    return SqliteReplayTarget(address, holding, SqliteLedger(fresh, identity), continued=continued)


class SqliteReplayTarget:
    """See the port. The connection `holding` has the lock that keeps other replays out."""

    def __init__(
        self, address: SqliteAddress, holding: sqlite3.Connection, ledger: SqliteLedger, *, continued: bool
    ) -> None:
        self.ledger: Ledger = ledger
        self.continued = continued
        self._address = address
        self._holding = holding
        self._fresh = address.beside(FRESH)

    def differences(self, shown_max: int, *, newest_only: bool = False) -> Differences:
        """See the port."""
        engine = make_engine(self._address, read_only=True)
        with translating(self._address.place), engine.connect() as connection:
            _attach(connection.connection.dbapi_connection, self._fresh)  # type: ignore[arg-type] # it is sqlite3's
            return find_differences(connection, "main", "beside", shown_max, newest_only=newest_only)

    def swap(self) -> None:
        """See the port. The live consumer waits meanwhile; the former rows are deleted."""
        self.ledger.close()
        with closing(self._address.connect()) as connection, translating(self._address.place):
            _attach(connection, self._fresh)
            connection.execute("BEGIN IMMEDIATE")
            try:
                _require_same_version(connection)
                for table in tables.REPLAYED:
                    connection.execute(f'DELETE FROM main."{table.name}"')  # noqa: S608 - names of ours
                    connection.execute(_copying(table))
                connection.execute(f"{_copying(tables.undecodable_message)} WHERE true ON CONFLICT DO NOTHING")
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the first error is the one to report
                    connection.execute("ROLLBACK")
                raise
        _delete(self._fresh)

    def drop(self) -> None:
        """See the port."""
        self.ledger.close()
        _delete(self._fresh)

    def close(self) -> None:
        """See the port."""
        self.ledger.close()
        self._holding.close()


def _lock(address: SqliteAddress) -> sqlite3.Connection:
    """A connection that keeps the lock file locked until it is closed or its process ends."""
    lock = address.beside(_LOCK)
    with translating(lock.place), ExitStack() as opened:
        connection = sqlite3.connect(lock.path, timeout=0, isolation_level=None, check_same_thread=False)
        opened.callback(connection.close)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise FatalError(
                f"{address.place}: another replay of this ledger is running: wait for it, or stop it"
            ) from error
        opened.pop_all()
    return connection


def _left_by(fresh: SqliteAddress) -> str | None:
    """The plan of the unfinished replay in the file; None if there is none to continue.

    Raises `FatalError` if the file is not a replay's.
    """
    if not fresh.path.exists():
        return None
    with translating(fresh.place), closing(fresh.connect()) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if there and VERSION_TABLE not in there:
            raise FatalError(
                f"{fresh.place}: it exists and is not a replay's: rename it, so that a replay can use the name"
            )
        if "replay_plan" not in there:
            return None
        row = connection.execute("SELECT plan FROM replay_plan").fetchone()
        return None if row is None else str(row[0])


def _begin(
    live: SqliteAddress, fresh: SqliteAddress, plan: str, begins: Mapping[Partition, int], *, copy: bool
) -> None:
    """Copy the tables, set the offsets and mark the file in one transaction: only a marked one is continued."""
    with translating(fresh.place), closing(fresh.connect()) as connection:
        _attach(connection, live)
        connection.execute("BEGIN IMMEDIATE")
        for table in tables.REPLAYED if copy else ():
            connection.execute(_copying(table))
        connection.execute(_FORGET_ORPHANS)
        places = [(offset, topic, partition) for (topic, partition), offset in begins.items()]
        connection.executemany(_MOVE_BACK if copy else _PLACE, places)
        connection.execute("CREATE TABLE replay_plan (plan TEXT NOT NULL)")
        connection.execute("INSERT INTO replay_plan VALUES (?)", (plan,))
        connection.execute("COMMIT")


def _attach(connection: sqlite3.Connection, other: SqliteAddress) -> None:
    """Attach a database as `beside`, read-only: otherwise a write transaction would lock that file too."""
    connection.execute("ATTACH ? AS beside", (f"file:{quote(str(other.path))}?mode=ro",))


def _copying(table: sa.Table) -> str:
    columns = ", ".join(f'"{name}"' for name in rows.names_of(table))
    return f'INSERT INTO main."{table.name}" ({columns}) SELECT {columns} FROM beside."{table.name}"'  # noqa: S608 - names of ours


def _require_same_version(connection: sqlite3.Connection) -> None:
    versions = {
        connection.execute(f"SELECT version_num FROM {schema}.{VERSION_TABLE}").fetchone()  # noqa: S608 - names of ours
        for schema in ("main", "beside")
    }
    if len(versions) > 1:
        raise FatalError("the live ledger was migrated to another version meanwhile: replay again with that version")


def _delete(fresh: SqliteAddress) -> None:
    try:
        for ending in ("", *_BESIDES):
            fresh.path.with_name(fresh.path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise FatalError(f"{fresh.place}: it cannot be deleted ({type(error).__name__}): delete it yourself") from error
