"""Two schemas with the same tables in, the replayed tables of one in the place of the other's out. One transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from consumers.errors import FatalError
from consumers.ledger import rows, tables
from consumers.ledger.migrating import VERSION_TABLE

if TYPE_CHECKING:
    import psycopg

_FORMER_MARK = "tables of a trekkpaalegg ledger from before its last replay; may be dropped"

# The offsets come first: every transaction of a live consumer begins with them, so that it waits for the swap, or the
# swap for it, before either holds anything else.
_IN_LOCK_ORDER = sorted(tables.REPLAYED, key=lambda table: table is not tables.ledger_offset)


def swap_schemas(
    connection: psycopg.Connection, live: str, fresh: str, former: str, *, lock_seconds_max: float
) -> None:
    """Move the live replayed tables to `former` and the fresh ones to `live`; drop what is left of `fresh`.

    Steps: 1. let the planner know the fresh tables; 2. lock out everybody; 3. refuse what cannot be taken along;
    4. rights and undecodable messages; 5. the tables. The connection commits by itself. Raises psycopg's errors, and
    `FatalError`.
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
        _make_room(connection, former)
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
    """Raise `FatalError` for what a swap would fail on, so that it is known before hours of replay."""
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
    # Views hold on to the table itself, not to its name: they would go on showing the former rows.
    views = connection.execute(
        "SELECT DISTINCT v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid"
        " JOIN pg_class v ON v.oid = r.ev_class JOIN pg_class t ON t.oid = d.refobjid"
        " WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass"
        " AND t.relnamespace = to_regnamespace(%s)::oid AND t.relname = ANY(%s) AND v.oid <> t.oid ORDER BY 1",
        (_quoted(live), names),
    ).fetchall()
    if views:
        raise FatalError(
            f"views would go on showing the former tables: drop {', '.join(name for (name,) in views)}, run the replay"
            " again, which goes on where it was, and make them anew"
        )


def _copy_rights(connection: psycopg.Connection, live: str, fresh: str) -> None:
    """Who may read or write a live table may do so to the one that takes its place, and it has the same owner."""
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


def _make_room(connection: psycopg.Connection, former: str) -> None:
    """An empty schema for the former tables; those of the swap before are dropped."""
    found = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (former,)
    ).fetchone()
    if found is not None and found != (_FORMER_MARK,):
        raise FatalError(
            f"the schema {former} is there and is no replay's: rename it, so that the swap can use the name"
        )
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(former)))
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(former)))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(former), sql.Literal(_FORMER_MARK)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
