"""Comparing two sets of the same tables in one database. Only values of keys are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from consumers.ledger import tables
from consumers.replay.target import Differences, TableDifference

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NEWEST = (tables.trekkpaalegg, tables.trekkstoerrelse_for_periode)


def find_differences(
    connection: Connection, live_schema: str, fresh_schema: str, shown_max: int, *, newest_only: bool
) -> Differences:
    """Compare the replayed tables of two schemas row by row, by key, except the offsets, which always differ."""
    counts: list[TableDifference] = []
    shown: list[str] = []
    for table in NEWEST if newest_only else tables.REPLAYED:
        if table is tables.ledger_offset:
            continue
        live = table.to_metadata(sa.MetaData(), schema=live_schema).alias("live")
        fresh = table.to_metadata(sa.MetaData(), schema=fresh_schema).alias("fresh")
        only_live = _first(connection, _missing(live, fresh), shown_max)
        only_fresh = _first(connection, _missing(fresh, live), shown_max)
        changed = _first(connection, _changed(live, fresh), shown_max)
        count = TableDifference(str(table.name), *(_count(rows) for rows in (only_live, only_fresh, changed)))
        if count.only_live or count.only_fresh or count.changed:
            counts.append(count)
        key = len(table.primary_key)
        shown += [f"{_named(table, row[1:])}: only in the live ledger" for row in only_live]
        shown += [f"{_named(table, row[1:])}: only in the replayed one" for row in only_fresh]
        shown += [
            f"{_named(table, row[1 : key + 1])}: differs in {', '.join(_differing(table, row[key + 1 :]))}"
            for row in changed
        ]
    return Differences(tuple(counts), tuple(shown[:shown_max]))


def _first(connection: Connection, query: sa.Select[Any], shown_max: int) -> list[tuple[Any, ...]]:
    """The first rows, each preceded by the number of all rows."""
    ordered = query.order_by(*_key_of(query)).limit(max(shown_max, 1))
    return [tuple(row) for row in connection.execute(ordered)]


def _key_of(query: sa.Select[Any]) -> list[Any]:
    """The columns to order by, so that the output is reproducible."""
    return [column for column in query.selected_columns if getattr(column, "primary_key", False)]


def _missing(there: sa.FromClause, lacking: sa.FromClause) -> sa.Select[Any]:
    same = sa.and_(*(column == lacking.c[column.name] for column in there.primary_key))
    absent = ~sa.exists(sa.select(sa.literal(1)).select_from(lacking).where(same))
    return sa.select(sa.func.count().over(), *there.primary_key).select_from(there).where(absent)


def _changed(live: sa.FromClause, fresh: sa.FromClause) -> sa.Select[Any]:
    same = sa.and_(*(column == fresh.c[column.name] for column in live.primary_key))
    differs = [
        _comparable(column).is_distinct_from(_comparable(fresh.c[column.name]))
        for column in live.columns
        if not column.primary_key
    ]
    return (
        sa.select(sa.func.count().over(), *live.primary_key, *differs)
        .select_from(live.join(fresh, same))
        .where(sa.or_(*differs))
    )


def _comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """PostgreSQL cannot compare JSON, only its text, which we always write in the same form."""
    return sa.cast(column, sa.Text) if isinstance(column.type, sa.JSON) else column


def _count(rows: list[tuple[Any, ...]]) -> int:
    return int(rows[0][0]) if rows else 0


def _named(table: sa.Table, key: tuple[Any, ...]) -> str:
    named = ", ".join(f"{column.name} {value}" for column, value in zip(table.primary_key, key, strict=False))
    return f"{table.name} ({named})"


def _differing(table: sa.Table, differs: tuple[Any, ...]) -> list[str]:
    names = [column.name for column in table.columns if not column.primary_key]
    return [name for name, differing in zip(names, differs, strict=True) if differing]
