"""A ledger's URL: where the ledger is, and connections to it. Never shows a password."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.pool import NullPool, QueuePool

from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError, SettingsError
from trekkpaalegg.exactly_once.store import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection, Engine


_FORM = "the ledger's URL must be postgresql://user:password@host:port/database or sqlite:///file"
_PORTS = re.compile(r"[0-9]{1,5}(?:,[0-9]{1,5})*")
_IDENTIFIER = re.compile(r'"((?:[^"]|"")*)"|([^,\s"]+)')

# A server or a network that went silent must be noticed within a minute, in the middle of a statement too.
_PARAMETERS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "trekkpaalegg-consumer",
}

# The first two keep a consumer that vanished in mid-transaction from holding its rows against its successor; the third
# ends a wait for rows that someone else holds.
_SESSION = sql.SQL(
    "SET tcp_keepalives_idle = 20; SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s';"
    " SET timezone = 'UTC'; SET search_path TO {schema}"
)

# The sizes (64 MiB of pages, 40 MiB of log) make a back-fill three times as fast: rows come in no order.
_WRITING = ("journal_mode = WAL", "cache_size = -65536", "wal_autocheckpoint = 10000")


class PostgresqlAddress:
    """A schema of a PostgreSQL database: the first one of the connection's search path, or the one that is given."""

    def __init__(self, parameters: Mapping[str, str], schema: str | None = None) -> None:
        self._parameters = _PARAMETERS | dict(parameters)
        self._given_schema = schema
        self.place = _postgresql_place(parameters)

    def __repr__(self) -> str:
        return f"PostgresqlAddress({self.place})"

    def in_schema(self, schema: str) -> PostgresqlAddress:
        """The same database with another schema."""
        return PostgresqlAddress(self._parameters, schema)

    def schema(self) -> str:
        """Name of the schema that the tables lie in, whether or not it is there. Raises as `connect`."""
        if self._given_schema is None:
            with self.connect() as connection:
                return schema_of(connection)
        return self._given_schema

    def connect(self, *, read_only: bool = False) -> psycopg.Connection:
        """A connection whose search path is the ledger's schema alone, in UTC; the caller closes it.

        Statements are not prepared: a plan made for an empty table would be kept while the table grows to millions.
        Raises `RetryableError` or `FatalError`.
        """
        with translating(self.place):
            connection = psycopg.connect(**self._parameters, prepare_threshold=None)  # type: ignore[arg-type] # text is what libpq takes
            try:
                connection.autocommit = True
                schema = self._given_schema or _first_schema(connection)
                connection.execute(_SESSION.format(schema=sql.Identifier(schema)))
                if read_only:
                    connection.execute("SET default_transaction_read_only = on")
                connection.autocommit = False
            except BaseException:
                connection.close()
                raise
        return connection


class SqliteAddress:
    """A file. A connection waits `busy_seconds_max` for another one that is writing it."""

    def __init__(self, path: Path, busy_seconds_max: float = 30.0) -> None:
        self.path = path
        self._busy_seconds_max = busy_seconds_max
        self.place = f"SQLite file {path}"

    def __repr__(self) -> str:
        return f"SqliteAddress({self.path})"

    def beside(self, ending: str) -> SqliteAddress:
        """The file of the same name with this ending more."""
        return SqliteAddress(self.path.with_name(self.path.name + ending), self._busy_seconds_max)

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """A connection that begins no transaction by itself; the caller closes it.

        The file is made when it is not there, unless `read_only`. Raises `RetryableError` or `FatalError`.
        """
        if not self.path.parent.is_dir():
            raise FatalError(f"{self.place}: there is no folder {self.path.parent}: make it, or give another file")
        if self.path.is_dir():
            raise FatalError(f"{self.place}: that is a folder: give a file in it")
        if read_only and not self.path.exists():
            raise FatalError(f"{self.place}: there is no such file: give that of the ledger")
        with translating(self.place):
            connection = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                timeout=self._busy_seconds_max,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA synchronous = FULL")
                if not read_only:
                    for pragma in _WRITING:
                        connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
        return connection


Address = PostgresqlAddress | SqliteAddress


def address_of(url: str) -> Address:
    """Where the URL points to. Raises `SettingsError`, which holds nothing of the URL but its scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise SettingsError([_FORM])
    if scheme in {"postgresql", "postgres"}:
        return PostgresqlAddress(_postgresql_parameters(url))
    if scheme == "sqlite":
        name = rest.removeprefix("/")
        if not rest.startswith("/") or not name or "?" in name or name == ":memory:":
            raise SettingsError(
                ["a SQLite ledger's URL must be sqlite:///file, or sqlite:////folder/file from the root, and no more"]
            )
        return SqliteAddress(Path(name))
    shown = scheme if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else "of that form"
    raise SettingsError([f"{_FORM}; there is no ledger on {shown}"])


def schema_of(connection: psycopg.Connection) -> str:
    """The schema that a connection of ours works in."""
    with translating():
        row = connection.execute("SELECT current_setting('search_path')").fetchone()
    assert row is not None  # noqa: S101 - a setting always has a value
    return _identifiers(row[0])[0]


def _postgresql_parameters(url: str) -> dict[str, str]:
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        parameters = {}
        readable = False
    else:
        readable = _PORTS.fullmatch(parameters.get("port", "0")) is not None
    if not readable:
        # Not chained: libpq's error shows the URL with its password.
        raise SettingsError([f"{_FORM}; special characters of the password must be percent-encoded"]) from None
    return parameters


def _postgresql_place(parameters: Mapping[str, str]) -> str:
    host, port = parameters.get("host", "localhost"), parameters.get("port", "5432")
    return f"PostgreSQL {host}:{port}/{parameters.get('dbname', '')}"


def _first_schema(connection: psycopg.Connection) -> str:
    """The first schema of the search path that the user set, also one that is not there yet.

    PostgreSQL itself would pass over a missing one, and the tables would come to lie in the next.
    """
    row = connection.execute("SELECT current_setting('search_path'), current_schema(), current_user").fetchone()
    assert row is not None  # noqa: S101 - a setting always has a value
    search_path, current, user = row
    names = _identifiers(search_path)
    if names[:1] == ["$user"]:
        names = [user] if current == user else names[1:]
    if not names:
        raise FatalError("the connection's search_path names no schema: set one, `?options=-csearch_path%3Dname`")
    return names[0]


def _identifiers(search_path: str) -> list[str]:
    return [
        quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in _IDENTIFIER.findall(search_path)
    ]


def make_engine(
    address: Address, *, read_only: bool = False, on_connect: Callable[[Any], None] | None = None
) -> Engine:
    """An engine whose errors hold no values of rows. It keeps no connection open, unless `on_connect` is given.

    `on_connect` prepares every new connection of the driver, of which one is then kept.

    On SQLite every transaction locks the file for writing as it begins, unless it is `read_only` or has the execution
    option `READ_ONLY`: one that reads first and writes later would fail when another program wrote in between.
    `connect()` raises `RetryableError` or `FatalError`; hold `translating()` around what is run on it.
    """

    def connect() -> Any:  # noqa: ANN401 - a connection of either driver
        connection = address.connect(read_only=read_only)
        if on_connect is not None:
            try:
                on_connect(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    dialect = "sqlite" if isinstance(address, SqliteAddress) else "postgresql+psycopg"
    pool: dict[str, Any] = {"poolclass": NullPool} if on_connect is None else {"poolclass": QueuePool, "pool_size": 1}
    engine = sa.create_engine(f"{dialect}://", creator=connect, hide_parameters=True, **pool)
    if isinstance(address, SqliteAddress):

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reads = read_only or connection.get_execution_options().get(READ_ONLY, False)
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
