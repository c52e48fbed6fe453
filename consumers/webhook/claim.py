"""Where the state lies in, the right to be its only forwarder out, which ends with the process by whatever death."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Self

from consumers.errors import FatalError
from consumers.ledger.address import PostgresqlAddress
from consumers.ledger.translation import translating

if TYPE_CHECKING:
    import psycopg

    from consumers.ledger.address import Address, SqliteAddress

CLAIM_SECONDS_MAX = 10.0
"""How long a forwarder waits for a former one to be gone: its restart may come before its end is known."""

_PAUSE_SECONDS = 0.2
_LOCK_PG = "SELECT pg_try_advisory_lock(hashtextextended('trekkpaalegg webhook ' || current_setting('search_path'), 0))"


class Claim:
    """Held until `close`. Raises `FatalError` while another process holds it, and as `Address.connect`.

    On PostgreSQL an advisory lock of a connection of its own; on SQLite the lock on a second file beside the first,
    since the first must stay open for the commands that look at it. A PostgreSQL that restarts forgets the lock: the
    token that the store checks in each transaction is what keeps two apart then.
    """

    def __init__(self, address: Address, *, seconds_max: float = CLAIM_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds_max
        self._connection: psycopg.Connection | sqlite3.Connection | None = None
        while self._connection is None:
            self._connection = _on_postgresql(address) if isinstance(address, PostgresqlAddress) else _on_file(address)
            if self._connection is None:
                if time.monotonic() > deadline:
                    raise FatalError(
                        f"{address.place}: another forwarder works from this state; end it, or give each a --state"
                    )
                time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let another one forward."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _on_postgresql(address: PostgresqlAddress) -> psycopg.Connection | None:
    connection = address.connect()
    try:
        with translating(address.place):
            connection.autocommit = True
            row = connection.execute(_LOCK_PG).fetchone()
    except BaseException:
        connection.close()
        raise
    if row is not None and row[0]:
        return connection
    connection.close()
    return None


def _on_file(address: SqliteAddress) -> sqlite3.Connection | None:
    path = address.beside(".lock").path
    with translating(address.place):
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return None
            raise
        except BaseException:
            connection.close()
            raise
    return connection
