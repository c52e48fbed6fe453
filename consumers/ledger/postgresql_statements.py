"""The SQL of the ledger on PostgreSQL. Names are unqualified: the search path is the ledger's schema."""

from __future__ import annotations

from consumers.ledger import rows

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


IDENTITY = "SELECT id FROM ledger"

STAGING = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS newest_staging (LIKE trekkpaalegg INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
)

NEXT_OFFSETS = "SELECT partition, next_offset FROM ledger_offset WHERE topic = %s AND partition = ANY(%s)"

CLAIM = """
UPDATE ledger_offset o SET next_offset = moved.after
FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) AS moved(topic, partition, before, after)
WHERE o.topic = moved.topic AND o.partition = moved.partition AND o.next_offset = moved.before
RETURNING o.topic, o.partition
"""

CLAIM_FIRST = """
INSERT INTO ledger_offset (topic, partition, next_offset)
SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[])
ON CONFLICT DO NOTHING
RETURNING topic, partition
"""

NEWEST = "SELECT trekkid, trekkversjon, correction FROM trekkpaalegg WHERE trekkid = ANY(%s)"

VERSIONS = f"""
SELECT {_read(rows.HISTORY, "h.")}
FROM unnest(%s::text[], %s::bigint[]) AS wanted(trekkid, trekkversjon)
JOIN trekkpaalegg_versjon h ON h.trekkid = wanted.trekkid AND h.trekkversjon = wanted.trekkversjon
"""  # noqa: S608 - names of ours

DELETE_VERSIONS = """
DELETE FROM trekkpaalegg_versjon h USING unnest(%s::text[], %s::bigint[]) AS gone(trekkid, trekkversjon)
WHERE h.trekkid = gone.trekkid AND h.trekkversjon = gone.trekkversjon
"""

COPY_HISTORY = f"COPY trekkpaalegg_versjon ({_named(rows.HISTORY)}) FROM STDIN"
COPY_NEWEST = f"COPY trekkpaalegg ({_named(rows.ORDER)}) FROM STDIN"
COPY_STAGING = f"COPY newest_staging ({_named(rows.ORDER)}) FROM STDIN"
COPY_PERIODS = f"COPY trekkstoerrelse_for_periode ({_named(rows.PERIOD)}) FROM STDIN"

_SET = ", ".join(f'"{column}" = excluded."{column}"' for column in rows.ORDER[1:])

MOVE_NEWEST = f"""
INSERT INTO trekkpaalegg AS stored ({_named(rows.ORDER)}) SELECT {_named(rows.ORDER)} FROM newest_staging
ON CONFLICT (trekkid) DO UPDATE SET {_SET}
WHERE (excluded.trekkversjon, excluded.correction) >= (stored.trekkversjon, stored.correction)
RETURNING trekkid
"""  # noqa: S608 - names of ours
EMPTY_STAGING = "DELETE FROM newest_staging"
DELETE_PERIODS = "DELETE FROM trekkstoerrelse_for_periode WHERE trekkid = ANY(%s)"

INSERT_REPLACED = _insert("trekkpaalegg_versjon_replaced", rows.HISTORY, "DO NOTHING")
INSERT_CONFLICT = _insert("trekkpaalegg_conflict", rows.CONFLICT, "DO NOTHING")
INSERT_UNDECODABLE = _insert(
    "undecodable_message",
    rows.UNDECODABLE,
    '(topic, partition, "offset") DO UPDATE SET key = excluded.key, value = excluded.value,'
    " headers = excluded.headers, reason = excluded.reason",
)

UNDECODABLE = f"""
SELECT {_read(rows.UNDECODABLE)} FROM undecodable_message ORDER BY topic, partition, "offset"
"""  # noqa: S608 - names of ours
COUNT_UNDECODABLE = "SELECT count(*) FROM undecodable_message"
FORGET = 'DELETE FROM undecodable_message WHERE topic = %s AND partition = %s AND "offset" = %s'
