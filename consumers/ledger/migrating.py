"""Creating and migrating a ledger's tables, by alembic."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema

from consumers.ledger import tables
from consumers.ledger.address import Address, PostgresqlAddress, make_engine
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection


def lock_schema(connection: Connection, address: PostgresqlAddress, lock_class: str) -> None:
    """Lock out other migrations until the transaction ends, and create the schema if it is missing.

    `lock_class`, of four letters, is the first half of the advisory lock's key; the second is a hash of the schema's
    name. Raises `FatalError` without the right to create it.
    """
    schema = address.schema()
    key = int.from_bytes(lock_class.encode(), "big")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key, sa.func.hashtext(schema))))
    if sa.inspect(connection).has_schema(schema):
        return
    if not connection.scalar(sa.select(sa.func.has_database_privilege(sa.func.current_database(), "CREATE"))):
        raise FatalError(
            f"{address.place}: the schema {schema} is missing, and so is the right to create it: have it created for"
            " this user, or, for replays, have CREATE on the database granted"
        )
    connection.execute(CreateSchema(schema))


class Steps:
    """The migrations in `folder`; the table `version_table` names the last one that was applied to a database.

    `names` are those of all migrations, the last one first. They are given, and alembic is imported only to migrate:
    that takes as long as the rest of a command's start.
    """

    def __init__(self, folder: Path, version_table: str, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.version_table = version_table
        self.names = names

    def current(self, connection: Connection) -> str | None:
        """The last migration that was applied. `version_table` must exist."""
        name: str | None = connection.scalar(
            sa.select(sa.column("version_num")).select_from(sa.table(self.version_table))
        )
        return name

    def is_up_to_date(self, connection: Connection, what: str) -> bool:
        """Whether all migrations were applied. Raises `FatalError` if it is of a newer version; `what` names it."""
        name = self.current(connection)
        if name is not None and name not in self.names:
            raise FatalError(f"{what} is of a newer version of this program: install that one")
        return name == self.names[0]

    def upgrade(self, connection: Connection, to: str = "head") -> None:
        """Apply the missing migrations up to `to`, within the connection's transaction."""
        from alembic import command  # noqa: PLC0415 - see above

        command.upgrade(self._config(connection), to)

    def stamp(self, connection: Connection, name: str) -> None:
        """Record that the database is at this migration, without applying any."""
        from alembic import command  # noqa: PLC0415 - see above

        command.stamp(self._config(connection), name)

    def _config(self, connection: Connection) -> Config:
        from alembic.config import Config  # noqa: PLC0415 - see above

        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.attributes["migration"] = {"connection": connection, "version_table": self.version_table}
        return config


VERSION_TABLE = "ledger_migration"
STEPS = Steps(Path(__file__).parent / "migrations", VERSION_TABLE, ("0002", "0001"))
_LOCK_CLASS = "trkk"
_RUN_FIRST = "start `trekkpaalegg-consumer run` on it once, which creates the tables"


class _Found(enum.Enum):
    NOTHING = "nothing"
    OLDER = "older"
    CURRENT = "current"


def prepare(address: Address) -> str:
    """Create or migrate the tables if needed, and return the ledger's id.

    Of two that start at once, one waits for the other. A database that is up to date is only read. Raises `FatalError`
    if tables of the same names belong to something else or to a newer version of this program, and as `translating`.
    """
    engine = make_engine(address, read_only=True)
    if isinstance(address, PostgresqlAddress) or address.path.exists():
        with translating(address.place), engine.connect() as connection:
            if _found(connection, address) is _Found.CURRENT and (identity := _identity(connection)):
                return identity
    engine = make_engine(address)
    with translating(address.place), engine.begin() as connection:
        if isinstance(address, PostgresqlAddress):
            lock_schema(connection, address, _LOCK_CLASS)
        if _found(connection, address) is not _Found.CURRENT:
            STEPS.upgrade(connection)
        identity = _identity(connection)
        if identity is None:
            identity = uuid.uuid4().hex
            connection.execute(sa.insert(tables.ledger).values(id=identity, created=datetime.now(UTC)))
    return identity


def inspect_schema(address: Address) -> str:
    """The id of the existing ledger. Needs no right to write.

    Raises `FatalError` if there is none, or if it is of another version of this program, and as `translating`.
    """
    engine = make_engine(address, read_only=True)
    with translating(address.place), engine.connect() as connection:
        found = _found(connection, address)
        identity = _identity(connection) if found is _Found.CURRENT else None
    if found is _Found.NOTHING or (found is _Found.CURRENT and identity is None):
        raise FatalError(f"{address.place}: there is no ledger: {_RUN_FIRST}")
    if identity is None:
        raise FatalError(f"{address.place}: the ledger is of an older version: {_RUN_FIRST}, to migrate it")
    return identity


def _found(connection: Connection, address: Address) -> _Found:
    there = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in there:
        foreign = sorted(there & tables.metadata.tables.keys())
        if foreign:
            raise FatalError(
                f"{address.place}: the table {foreign[0]} exists and is not a ledger's: give a schema or database"
                " of its own, such as `?options=-csearch_path%3Dledger`"
            )
        _require_usage(connection, address)
        return _Found.NOTHING
    return _Found.CURRENT if STEPS.is_up_to_date(connection, f"{address.place}: the ledger") else _Found.OLDER


def _require_usage(connection: Connection, address: Address) -> None:
    """Raise `FatalError` without USAGE on the schema, which makes its tables appear missing."""
    if isinstance(address, PostgresqlAddress):
        usable = sa.func.has_schema_privilege(sa.column("oid"), "USAGE")
        namespace = sa.select(usable).select_from(sa.table("pg_namespace", sa.column("nspname")))
        if connection.scalar(namespace.where(sa.column("nspname") == address.schema())) is False:
            raise FatalError(
                f"{address.place}: a right is missing: let the owner of schema {address.schema()} grant USAGE on it, or"
                " use a schema of the ledger's own"
            )


def _identity(connection: Connection) -> str | None:
    return connection.execute(sa.select(tables.ledger.c.id)).scalar()
