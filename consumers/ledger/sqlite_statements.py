"""The SQL of the ledger on SQLite."""

from __future__ import annotations

from consumers.ledger import rows


def _named(columns: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _insert(table: str, columns: tuple[str, ...], conflict: str = "") -> str:
    return f"INSERT INTO {table} ({_named(columns)}) VALUES ({', '.join('?' * len(columns))}) {conflict}"  # noqa: S608 - names of ours


def _set(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}" = excluded."{column}"' for column in columns)


IDENTITY = "SELECT id FROM ledger"

NEXT_OFFSETS = 'SELECT "partition", next_offset FROM ledger_offset WHERE topic = ?'
CLAIM = 'UPDATE ledger_offset SET next_offset = ? WHERE topic = ? AND "partition" = ? AND next_offset = ?'
CLAIM_FIRST = 'INSERT INTO ledger_offset (topic, "partition", next_offset) VALUES (?, ?, ?) ON CONFLICT DO NOTHING'

NEWEST = """
SELECT trekkid, trekkversjon, correction FROM trekkpaalegg WHERE trekkid IN (SELECT value FROM json_each(?))
"""

VERSIONS = f"""
SELECT {_named(rows.HISTORY, "h.")} FROM json_each(?) wanted JOIN trekkpaalegg_versjon h
ON h.trekkid = json_extract(wanted.value, '$[0]') AND h.trekkversjon = json_extract(wanted.value, '$[1]')
"""  # noqa: S608 - names of ours

DELETE_VERSION = "DELETE FROM trekkpaalegg_versjon WHERE trekkid = ? AND trekkversjon = ?"
INSERT_HISTORY = _insert("trekkpaalegg_versjon", rows.HISTORY)

UPSERT_NEWEST = _insert(
    "trekkpaalegg",
    rows.ORDER,
    f"ON CONFLICT (trekkid) DO UPDATE SET {_set(rows.ORDER[1:])} WHERE (excluded.trekkversjon, excluded.correction)"
    " >= (trekkpaalegg.trekkversjon, trekkpaalegg.correction)",
)
DELETE_PERIODS = "DELETE FROM trekkstoerrelse_for_periode WHERE trekkid = ?"
INSERT_PERIOD = _insert("trekkstoerrelse_for_periode", rows.PERIOD)

INSERT_REPLACED = _insert("trekkpaalegg_versjon_replaced", rows.HISTORY, "ON CONFLICT DO NOTHING")
INSERT_CONFLICT = _insert("trekkpaalegg_conflict", rows.CONFLICT, "ON CONFLICT DO NOTHING")
INSERT_UNDECODABLE = _insert(
    "undecodable_message",
    rows.UNDECODABLE,
    f'ON CONFLICT (topic, "partition", "offset") DO UPDATE SET {_set(("key", "value", "headers", "reason"))}',
)

UNDECODABLE = f"""
SELECT {_named(rows.UNDECODABLE)} FROM undecodable_message ORDER BY topic, "partition", "offset"
"""  # noqa: S608 - names of ours
COUNT_UNDECODABLE = "SELECT count(*) FROM undecodable_message"
FORGET = 'DELETE FROM undecodable_message WHERE topic = ? AND "partition" = ? AND "offset" = ?'
