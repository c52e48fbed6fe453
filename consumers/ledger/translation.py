"""Translates errors of the database drivers into the project's own, which say what to do.

The foreign error is chained, unless it may show values of a row.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy.exc

from trekkpaalegg.errors import FatalError, RetryableError, TrekkpaaleggError
from trekkpaalegg.exactly_once.store import SQLITE_PRIMARY, TRANSIENT_SQLITE_CODES, TRANSIENT_STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT = "retrying may help; if it persists, check the database"

_REFUSALS = {
    "53100": "its disk is full: make room, then start again; nothing of the transaction was kept",
    "42501": "a right is missing: let the owner of the schema grant it, or give a schema of the ledger's own",
    "25006": "it takes no writes (a standby, or set read-only): give the address of the primary",
    "42P01": "a table of the ledger is missing: start `run` on it once, which makes the tables",
    "3F000": "the schema is missing: start `run` on it once, which makes it",
    "42703": "a table of the ledger lacks a column: give a schema of the ledger's own",
}

# A refused connection carries no SQLSTATE, only the server's words.
_CONNECTION_REFUSALS = (
    ("password authentication failed", "the password or the user is refused: check both in the ledger's URL"),
    ("no password supplied", "it asks for a password: put one in the ledger's URL"),
    ("no pg_hba.conf entry", "it lets nobody in from here (pg_hba.conf): have this host, user and database let in"),
    ("does not exist", "there is no such database or user: check both in the ledger's URL, or have them made"),
    ("permission denied for database", "the user may not connect to this database: have CONNECT granted"),
    ("certificate", "the certificates do not fit: check sslmode, sslrootcert and sslcert in the ledger's URL"),
    ("does not support SSL", "it offers no TLS: check sslmode in the ledger's URL"),
)

_SQLITE_REFUSALS = {
    sqlite3.SQLITE_FULL: "the disk is full: make room, then start again; nothing of the transaction was kept",
    sqlite3.SQLITE_READONLY: "it may not be written: give this user the right to write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that it is a file and that this user may read and write it",
    sqlite3.SQLITE_PERM: "it may not be opened: give this user the right to read and write the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk fails: see the system's log, then start again",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put back a copy, or move it away and replay into a new file",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: give another file",
}


@contextmanager
def translating(place: str = "the ledger") -> Iterator[None]:
    """Turn a driver's errors, or SQLAlchemy's, into `RetryableError` and `FatalError`; `place` begins their text."""
    try:
        yield
    except (psycopg.Error, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raised = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig else error
        translated = _translate(raised, place)
        if _may_show_values(raised):
            raise translated from None
        raise translated from raised


def _translate(error: BaseException, place: str) -> TrekkpaaleggError:
    match error:
        case psycopg.Error():
            return _translate_postgresql(error, place)
        case sqlite3.Error():
            return _translate_sqlite(error, place)
    return FatalError(f"{place}: {type(error).__name__}: see whether it is a ledger of this version")


def _translate_postgresql(error: psycopg.Error, place: str) -> TrekkpaaleggError:
    state = error.sqlstate
    if state is None:
        return _translate_connection(error, place)
    if state in _REFUSALS:
        return FatalError(f"{place}: {_REFUSALS[state]} ({state}{_subject(error)})")
    if state.startswith(TRANSIENT_STATES):
        return RetryableError(f"{place}: {type(error).__name__} ({state}): {_WAIT}")
    if isinstance(error, psycopg.errors.UniqueViolation):
        return RetryableError(f"{place}: another consumer wrote the same row{_subject(error)} just now: try again")
    if isinstance(error, psycopg.DataError):
        return FatalError(
            f"{place}: a value does not fit into the ledger's tables ({state}{_subject(error)}): report it;"
            " the offsets show which messages it came from"
        )
    return FatalError(f"{place}: {type(error).__name__} ({state}{_subject(error)}): see the database's own log")


def _translate_connection(error: psycopg.Error, place: str) -> TrekkpaaleggError:
    text = str(error)
    if isinstance(error, psycopg.DataError):
        # A NUL in a text, which psycopg finds before the server does.
        return FatalError(f"{place}: a value cannot be written: report it; the offsets show which messages it is from")
    if "server closed the connection" not in text:
        for words, advice in _CONNECTION_REFUSALS:
            if words in text:
                return FatalError(f"{place}: {advice}")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return RetryableError(f"{place}: out of reach ({_first_line(text)}): {_WAIT}")
    return FatalError(f"{place}: {type(error).__name__}: report it")


def _translate_sqlite(error: sqlite3.Error, place: str) -> TrekkpaaleggError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & SQLITE_PRIMARY
    if primary in TRANSIENT_SQLITE_CODES:
        return RetryableError(f"{place}: another program is writing it (locked): {_WAIT}")
    if primary in _SQLITE_REFUSALS:
        return FatalError(f"{place}: {_SQLITE_REFUSALS[primary]}")
    if "no such table" in str(error):
        return FatalError(f"{place}: a table of the ledger is missing: start `run` on it once, which makes the tables")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return FatalError(f"{place}: {name}: see whether it is a ledger of this version, and whether its disk is well")


def _may_show_values(error: BaseException) -> bool:
    """Whether the error's text or details may hold values from a row: those about data and constraints."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    return not isinstance(error, sqlite3.OperationalError)


def _subject(error: psycopg.Error) -> str:
    """The table and column that the server names, which are no values."""
    named = [name for name in (error.diag.table_name, error.diag.column_name) if name]
    return f", {'.'.join(named)}" if named else ""


def _first_line(text: str) -> str:
    return " ".join(text.partition("\n")[0].split())
