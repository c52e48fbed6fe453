"""Replay on PostgreSQL, in a schema beside the live one.

A comment on the schema identifies it as ours.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from psycopg import sql

from consumers.ledger import rows, tables
from consumers.ledger.address import make_engine
from consumers.ledger.migrating import VERSION_TABLE, prepare
from consumers.ledger.postgresql import PostgresqlLedger
from consumers.ledger.translation import translating
from consumers.replay.differences import NEWEST, find_differences
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from consumers.ledger.address import PostgresqlAddress
    from consumers.ledger.port import Ledger
    from consumers.replay.target import Differences
    from trekkpaalegg.incoming import Partition


_FORMER_MARK = "tables of a trekkpaalegg ledger from before its last replay; may be dropped"

# The offsets come first, because every transaction of a live consumer begins with them: so consumer and swap wait for
# each other before either holds another lock.
_IN_LOCK_ORDER = sorted(tables.REPLAYED, key=lambda table: table is not tables.ledger_offset)


def swap_schemas(
    connection: psycopg.Connection, live: str, fresh: str, former: str, *, lock_seconds_max: float
) -> None:
    """Move the live tables to the schema `former` and the fresh ones to `live`; drop the rest of `fresh`.

    Steps: 1. analyse the fresh tables for the planner; 2. lock the live ones; 3. refuse what a swap would break;
    4. copy rights and undecodable messages; 5. move the tables. The connection is in autocommit mode. Raises psycopg's
    errors, and `FatalError`.
    """
    for table in tables.REPLAYED:
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(fresh, table.name)))
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{lock_seconds_max * 1000:.0f}ms",))
        for table in _IN_LOCK_ORDER:
            connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(live, table.name))
            )
        _require_same_version(connection, live, fresh)
        require_swappable(connection, live)
        _copy_rights(connection, live, fresh)
        _merge_undecodable(connection, live, fresh)
        _create_former_schema(connection, former)
        for table in tables.REPLAYED:
            for source, target in ((live, former), (fresh, live)):
                connection.execute(
                    sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                        sql.Identifier(source, table.name), sql.Identifier(target)
                    )
                )
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(fresh)))


def _require_same_version(connection: psycopg.Connection, live: str, fresh: str) -> None:
    versions = {
        connection.execute(
            sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, VERSION_TABLE))
        ).fetchone()
        for schema in (live, fresh)
    }
    if len(versions) > 1:
        raise FatalError("the live ledger was migrated to another version meanwhile: replay again with that version")


def require_swappable(connection: psycopg.Connection, live: str) -> None:
    """Raise `FatalError` for what would make a swap fail, before hours of replay."""
    names = [table.name for table in tables.REPLAYED]
    allowed = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), bool_and(pg_has_role(relowner, 'USAGE'))"
        " FROM pg_class WHERE relnamespace = to_regnamespace(%s)::oid AND relname = ANY(%s)",
        (_quoted(live), names),
    ).fetchone()
    if allowed != (True, True):
        raise FatalError(
            "a replay makes schemas and moves tables: grant CREATE on the database, and run it as the tables' owner"
        )
    # A view refers to the table itself, not to its name: it would continue to show the former rows.
    views = connection.execute(
        "SELECT DISTINCT v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid"
        " JOIN pg_class v ON v.oid = r.ev_class JOIN pg_class t ON t.oid = d.refobjid"
        " WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass"
        " AND t.relnamespace = to_regnamespace(%s)::oid AND t.relname = ANY(%s) AND v.oid <> t.oid ORDER BY 1",
        (_quoted(live), names),
    ).fetchall()
    if views:
        raise FatalError(
            f"views would continue to show the former tables: drop {', '.join(name for (name,) in views)}, run the"
            " replay again, which continues this one, and create them again"
        )


def _copy_rights(connection: psycopg.Connection, live: str, fresh: str) -> None:
    """Give the fresh tables the owners and privileges of the live ones."""
    for table in tables.REPLAYED:
        there, new = (f"{_quoted(schema)}.{_quoted(table.name)}" for schema in (live, fresh))
        rights = connection.execute(
            "SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, a.privilege_type,"
            " a.is_grantable FROM pg_class c, aclexplode(c.relacl) a"
            " WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner",
            (there,),
        ).fetchall()
        for grantee, privilege, grantable in rights:
            connection.execute(
                sql.SQL("GRANT {} ON {} TO {} {}").format(
                    sql.SQL(privilege),
                    sql.Identifier(fresh, table.name),
                    sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
                    sql.SQL("WITH GRANT OPTION" if grantable else ""),
                )
            )
        owner = connection.execute(
            "SELECT pg_get_userbyid(l.relowner) FROM pg_class l, pg_class f"
            " WHERE l.oid = to_regclass(%s) AND f.oid = to_regclass(%s) AND l.relowner <> f.relowner",
            (there, new),
        ).fetchone()
        if owner is not None:
            connection.execute(
                sql.SQL("ALTER TABLE {} OWNER TO {}").format(
                    sql.Identifier(fresh, table.name), sql.Identifier(owner[0])
                )
            )


def _merge_undecodable(connection: psycopg.Connection, live: str, fresh: str) -> None:
    name = tables.undecodable_message.name
    connection.execute(
        sql.SQL("INSERT INTO {live} ({columns}) SELECT {columns} FROM {fresh} ON CONFLICT DO NOTHING").format(
            live=sql.Identifier(live, name),
            fresh=sql.Identifier(fresh, name),
            columns=sql.SQL(", ").join(map(sql.Identifier, rows.UNDECODABLE)),
        )
    )


def _create_former_schema(connection: psycopg.Connection, former: str) -> None:
    """Create an empty schema for the former tables; those of the previous swap are dropped."""
    found = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (former,)
    ).fetchone()
    if found is not None and found != (_FORMER_MARK,):
        raise FatalError(
            f"the schema {former} exists and is not a replay's: rename it, so that the swap can use the name"
        )
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(former)))
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(former)))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(former), sql.Literal(_FORMER_MARK)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


FRESH = "_replay"
_LOCK_CLASS = int.from_bytes(b"trkr", "big")
_NAME_BYTES_MAX = 63
_MARK = "replay of a trekkpaalegg ledger, not yet swapped in; its plan: "

_PLACE = sql.SQL("INSERT INTO {} (next_offset, topic, partition) VALUES (%s, %s, %s)")
# Periods without a newest row, which somebody deleted by hand, would conflict with the correct ones.
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
    """See `open_replay_target`. The swap waits for locks at most `lock_seconds_max`: consumers queue behind it.

    Steps: 1. migrate the live ledger; 2. lock it against other replays while the connection lives; 3. continue the
    schema of an equal plan, or drop it and create a new one.
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
    """See the port. The connection `holding` has the lock that keeps other replays out."""

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
        """See the port. Raises `RetryableError` if the locks are not granted in time; it may be called again."""
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
        raise FatalError(f"the schema's name {schema} is too long for a replay beside it: give it a shorter name")
    return name


def _left_by(connection: psycopg.Connection, schema: str) -> str | None:
    """The plan of the unfinished replay in the schema; None if there is none to continue.

    Raises `FatalError` if the schema is not a replay's.
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
            f"the schema {schema} exists and is not a replay's: rename it, so that a replay can use the name"
        )
    return None


def _begin(
    connection: psycopg.Connection, live: str, fresh: str, plan: str, begins: Mapping[Partition, int], *, copy: bool
) -> None:
    """Copy the tables, set the offsets and mark the schema in one transaction: only a marked one is continued."""
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
