"""Tables are made once, equal to their definition, by whoever comes first, and never over somebody else's."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateSchema

from consumers.ledger import tables
from consumers.ledger.address import PostgresqlAddress, address_of, make_engine
from consumers.ledger.migrating import STEPS, VERSION_TABLE, Steps
from consumers.ledger.opening import ledger_id, open_engine, open_ledger
from consumers.webhook.opening import STEPS as FORWARDER_STEPS
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.servers.postgresql import EmbeddedPostgresql


@pytest.fixture
def schema() -> str:
    return f"Ledger {uuid.uuid4().hex[:12]}"


@pytest.fixture
def postgresql_url(postgresql: EmbeddedPostgresql, schema: str) -> str:
    return f"{postgresql.url}?options=-csearch_path%3D%22{schema.replace(' ', '%5C%20')}%22"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path / 'ledger 100%.db'}"


def open_and_close(url: str) -> str:
    ledger = open_ledger(url)
    ledger.close()
    return ledger.id


def test_the_migrations_create_the_defined_tables_of_a_ledger(url: str) -> None:
    """Types, nullability, keys, indexes and, where the database has them, comments."""
    open_and_close(url)
    with open_engine(url).connect() as connection:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata)
        assert differences == []
        inspector = sa.inspect(connection)
        for table in tables.metadata.sorted_tables:
            key = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key.columns], table.name


@pytest.mark.parametrize("steps", [STEPS, FORWARDER_STEPS])
def test_the_names_of_the_migrations_are_those_of_their_files(steps: Steps) -> None:
    found = ScriptDirectory(str(steps.folder)).walk_revisions()
    assert [script.revision for script in found] == list(steps.names)


def test_a_ledger_of_any_version_before_is_brought_up_to_date(url: str) -> None:
    """Who only looks is told to start `run`, which does it; the ledger stays the same one."""
    address = address_of(url)
    for step in reversed(STEPS.names[1:]):
        with make_engine(address).begin() as connection:
            if isinstance(address, PostgresqlAddress):
                connection.execute(CreateSchema(address.schema(), if_not_exists=True))
            STEPS.upgrade(connection, step)
            connection.execute(sa.text("DELETE FROM ledger"))
            connection.execute(sa.insert(tables.ledger).values(id="as before", created=datetime.now(UTC)))
        with pytest.raises(FatalError, match="the ledger is of an older version: start `trekkpaalegg-consumer run`"):
            ledger_id(url)
    assert open_and_close(url) == "as before" == ledger_id(url)
    test_the_migrations_create_the_defined_tables_of_a_ledger(url)


def test_every_column_and_table_has_a_comment_on_postgresql(postgresql_url: str) -> None:
    open_and_close(postgresql_url)
    with open_engine(postgresql_url).connect() as connection:
        inspector = sa.inspect(connection)
        for name in tables.metadata.tables:
            assert inspector.get_table_comment(name)["text"], name
            assert [column["name"] for column in inspector.get_columns(name) if not column["comment"]] == []


def test_opening_again_changes_nothing(url: str) -> None:
    identity = open_and_close(url)
    assert open_and_close(url) == identity == ledger_id(url)


def test_ledgers_opened_at_once_are_one_ledger(url: str) -> None:
    """Several consumers are started together on an empty database."""
    found: list[str | BaseException] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait(30)
        try:
            found.append(open_and_close(url))
        except BaseException as error:  # noqa: BLE001 - told below
            found.append(error)

    threads = [threading.Thread(target=start) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == together.parties
    assert set(found) == {ledger_id(url)}


@pytest.mark.parametrize("look", [ledger_id, open_engine])
def test_inspecting_a_ledger_creates_nothing(postgresql_url: str, look: object) -> None:
    with pytest.raises(FatalError, match="there is no ledger: start `trekkpaalegg-consumer run`"):
        look(postgresql_url)  # type: ignore[operator]  # both take an URL
    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("SELECT current_schema()").fetchone() == (None,)


def test_inspecting_a_file_creates_none(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="there is no such file"):
        ledger_id(f"sqlite:///{tmp_path / 'none.db'}")
    (tmp_path / "empty.db").touch()
    with pytest.raises(FatalError, match="there is no ledger"):
        ledger_id(f"sqlite:///{tmp_path / 'empty.db'}")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_a_table_of_the_same_name_that_is_not_ours_is_left_alone(postgresql_url: str, schema: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"')
        connection.execute("CREATE TABLE ledger (account int)")
        with pytest.raises(FatalError, match="the table ledger exists and is not a ledger's: give a schema"):
            open_ledger(postgresql_url)
        there = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]).fetchall()
    assert there == [("ledger",)]


def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE postering (amount)")
        connection.commit()
    with pytest.raises(FatalError, match="the table postering exists and is not a ledger's"):
        open_ledger(f"sqlite:///{path}")


def test_a_ledger_of_a_newer_version_is_left_alone(url: str) -> None:
    open_and_close(url)
    with open_engine(url).begin() as connection:
        connection.execute(sa.update(sa.table(VERSION_TABLE, sa.column("version_num"))).values(version_num="9999"))
    for start in (open_ledger, ledger_id):
        with pytest.raises(FatalError, match="newer version of this program: install that one"):
            start(url)
