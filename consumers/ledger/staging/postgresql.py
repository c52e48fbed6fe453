"""A replay on PostgreSQL: a schema beside the live one in, its tables in the live one's place out.

What is known to be ours is marked by the comment on its schema.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from psycopg import sql

from consumers.errors import FatalError
from consumers.ledger import rows, tables
from consumers.ledger.engine import make_engine
from consumers.ledger.migrating import VERSION_TABLE, prepare
from consumers.ledger.postgresql import PostgresqlLedger
from consumers.ledger.staging.differences import NEWEST, find_differences
from consumers.ledger.staging.swap import require_swappable, swap_schemas
from consumers.ledger.translation import translating

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from consumers.ledger.address import PostgresqlAddress
    from consumers.ledger.port import Ledger, Partition
    from consumers.ledger.staging.port import Differences

FRESH = "_replay"
_LOCK_CLASS = int.from_bytes(b"trkr", "big")
_NAME_BYTES_MAX = 63
_MARK = "replay of a trekkpaalegg ledger, not yet swapped in; its plan: "

_PLACE = sql.SQL("INSERT INTO {} (next_offset, topic, partition) VALUES (%s, %s, %s)")
# Periods of an order whose newest row was deleted by hand would be in the way of its right ones.
_FORGET_ORPHANS = sql.SQL("DELETE FROM {1} p WHERE NOT EXISTS (SELECT FROM {0} n WHERE n.trekkid = p.trekkid)")
_MOVE_BACK = sql.SQL("UPDATE {} SET next_offset = least(next_offset, %s) WHERE topic = %s AND partition = %s")


def open_postgresql_target(
    address: PostgresqlAddress,
    plan: str,
    begins: Mapping[Partition, int],
    *,
    copy: bool,
    lock_seconds_max: float = 5.0,
) -> PostgresqlReplayTarget:
    """See `open_replay_target`. The swap waits for others for `lock_seconds_max` at most: live consumers queue behind.

    Steps: 1. the live ledger must be up to date; 2. lock, for as long as the connection lives; 3. take up what the
    same plan left, or drop it and make all anew.
    """
    prepare(address)
    live = address.schema()
    fresh = address.in_schema(_beside(live, FRESH))
    with ExitStack() as opened, translating(address.place):
        holding = address.connect()
        opened.callback(holding.close)
        holding.autocommit = True
        if holding.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK_CLASS, live)).fetchone() != (True,):
            raise FatalError(f"{address.place}: another replay of this ledger is running: wait for it, or stop it")
        require_swappable(holding, live)
        continued = _left_by(holding, fresh.schema()) == plan
        if not continued:
            _drop_schema(holding, fresh.schema())
        identity = prepare(fresh)
        if not continued:
            _begin(holding, live, fresh.schema(), plan, begins, copy=copy)
        opened.pop_all()
    return PostgresqlReplayTarget(
        address, holding, PostgresqlLedger(fresh, identity), continued=continued, lock_seconds_max=lock_seconds_max
    )


class PostgresqlReplayTarget:
    """See the port. `holding` is the connection whose lock keeps other replays out."""

    def __init__(
        self,
        address: PostgresqlAddress,
        holding: psycopg.Connection,
        ledger: PostgresqlLedger,
        *,
        continued: bool,
        lock_seconds_max: float,
    ) -> None:
        self.ledger: Ledger = ledger
        self.continued = continued
        self._address = address
        self._holding = holding
        self._lock_seconds_max = lock_seconds_max
        self._live = address.schema()
        self._fresh = _beside(self._live, FRESH)

    def differences(self, shown_max: int, *, newest_only: bool = False) -> Differences:
        """See the port."""
        engine = make_engine(self._address, read_only=True)
        with translating(self._address.place), engine.connect() as connection:
            isolated = connection.execution_options(isolation_level="REPEATABLE READ")
            return find_differences(isolated, self._live, self._fresh, shown_max, newest_only=newest_only)

    def swap(self) -> None:
        """See the port. Raises `RetryableError` when others use the live ledger for so long; it may be called again."""
        self.ledger.close()
        with translating(self._address.place):
            swap_schemas(
                self._holding,
                self._live,
                self._fresh,
                _beside(self._live, "_former"),
                lock_seconds_max=self._lock_seconds_max,
            )

    def drop(self) -> None:
        """See the port."""
        self.ledger.close()
        with translating(self._address.place):
            _drop_schema(self._holding, self._fresh)

    def close(self) -> None:
        """See the port."""
        self.ledger.close()
        self._holding.close()


def _beside(schema: str, ending: str) -> str:
    name = schema + ending
    if len(name.encode()) > _NAME_BYTES_MAX:
        raise FatalError(f"the schema's name {schema} is too long for a replay beside it: rename it to be shorter")
    return name


def _left_by(connection: psycopg.Connection, schema: str) -> str | None:
    """The plan that an unfinished replay left in the schema; None where there is none to continue.

    Raises `FatalError` when the schema is nobody's whom we know.
    """
    found = connection.execute(
        "SELECT obj_description(n.oid, 'pg_namespace'),"
        " EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = %s),"
        " NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid)"
        " FROM pg_namespace n WHERE n.nspname = %s",
        (VERSION_TABLE, schema),
    ).fetchone()
    if found is None:
        return None
    comment, has_version, empty = found
    if comment is not None and comment.startswith(_MARK):
        return str(comment.removeprefix(_MARK))
    if not has_version and not empty:
        raise FatalError(
            f"the schema {schema} is there and is no replay's: rename it, so that a replay can be made there"
        )
    return None


def _begin(
    connection: psycopg.Connection, live: str, fresh: str, plan: str, begins: Mapping[Partition, int], *, copy: bool
) -> None:
    """Copy, place and mark, in one transaction: what has no mark is never continued."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in tables.REPLAYED if copy else ():
            statement = sql.SQL("INSERT INTO {fresh} ({columns}) SELECT {columns} FROM {live}").format(
                fresh=sql.Identifier(fresh, table.name),
                live=sql.Identifier(live, table.name),
                columns=sql.SQL(", ").join(map(sql.Identifier, rows.names_of(table))),
            )
            connection.execute(statement)
        connection.execute(_FORGET_ORPHANS.format(*(sql.Identifier(fresh, table.name) for table in NEWEST)))
        place = _MOVE_BACK if copy else _PLACE
        for (topic, partition), offset in begins.items():
            connection.execute(
                place.format(sql.Identifier(fresh, tables.ledger_offset.name)), (offset, topic, partition)
            )
        connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(fresh), sql.Literal(_MARK + plan))
        )


def _drop_schema(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
