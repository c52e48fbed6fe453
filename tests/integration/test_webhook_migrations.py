"""The forwarder's tables are made by steps, equal to their definition, also from those of a version without steps."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from consumers.ledger.address import make_engine
from consumers.webhook import tables
from consumers.webhook.cloudevent import EventMessage
from consumers.webhook.opening import STEPS, open_store, state_address
from consumers.webhook.schedule import PendingEvent
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from sandbox.servers.postgresql import EmbeddedPostgresql

TOPIC = "test-versjoner"
BEFORE_STEPS = """
CREATE TABLE webhook_event (
    sequence {big} NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" {big} NOT NULL,
    trekkid TEXT NOT NULL, value {bytes}, headers JSON NOT NULL, tries INTEGER NOT NULL, failures INTEGER NOT NULL,
    due_seconds {double} NOT NULL, parked_seconds {double}, reason TEXT,
    PRIMARY KEY (sequence), UNIQUE (topic, partition, "offset")
);
CREATE INDEX webhook_event_parked ON webhook_event (sequence) WHERE parked_seconds IS NOT NULL;
CREATE INDEX webhook_event_by_order ON webhook_event (trekkid, sequence);
CREATE TABLE webhook_offset (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset {big} NOT NULL, PRIMARY KEY (topic, partition)
);
CREATE TABLE webhook_forwarder (id INTEGER NOT NULL, token TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO webhook_event VALUES (7, 'test-versjoner', 0, 3, '10001', NULL, '{{}}', 2, 1, 1.5, NULL, 'the answer 500');
INSERT INTO webhook_event VALUES (8, 'test-versjoner', 0, 4, '10002', NULL, '{{}}', 2, 1, 1.5, 9.5, 'the answer 422');
INSERT INTO webhook_offset VALUES ('test-versjoner', 0, 5);
INSERT INTO webhook_forwarder VALUES (1, 'token');
"""
"""What the version before made, and what it left: an event that waits, one that is parked."""


class State:
    """A place for a state, where there is none yet."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = state_address(url)

    @property
    def is_postgresql(self) -> bool:
        return self.url.startswith("postgresql")

    def engine(self) -> Engine:
        return make_engine(self.address)

    def run(self, script: str) -> None:
        """SQL of the dialect."""
        if not self.is_postgresql:
            with closing(sqlite3.connect(Path(self.url.removeprefix("sqlite:///")))) as connection:
                connection.executescript(script)
            return
        with psycopg.connect(self.url, autocommit=True) as connection:
            schema = self.address.schema()
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
            connection.execute(script.encode())

    def make_before_steps(self) -> None:
        dialect = {"big": "BIGINT", "bytes": "BYTEA", "double": "DOUBLE PRECISION"}
        if not self.is_postgresql:
            dialect = {"big": "INTEGER", "bytes": "BLOB", "double": "DOUBLE"}
        self.run(BEFORE_STEPS.format_map(dialect))

    def differences(self, *, comments: bool = True) -> list[object]:
        """From the definition: types, nullability, keys, indexes and, where the database has them, comments."""
        with self.engine().connect() as connection:
            options = {"compare_type": True, "version_table": STEPS.version_table}
            found = compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata)
            inspector = sa.inspect(connection)
            for table in tables.metadata.sorted_tables:
                key = inspector.get_pk_constraint(table.name)["constrained_columns"]
                assert key == [column.name for column in table.primary_key.columns], table.name
        return [each for each in found if comments or "comment" not in str(each)]


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    if request.param == "sqlite":
        return State(f"sqlite:///{tmp_path}/webhook.db")
    server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
    return State(f"{server.url}?options=-csearch_path%3Dwebhook_{uuid.uuid4().hex[:12]}")


def message(offset: int) -> EventMessage:
    return EventMessage(Coordinates(TOPIC, 0, offset), "10001", b"value", {})


def test_the_migrations_create_the_defined_tables(state: State) -> None:
    open_store(state.address, make=True).close()
    assert state.differences() == []
    open_store(state.address, make=True).close()
    open_store(state.address, make=False).close()
    if state.is_postgresql:
        with state.engine().connect() as connection:
            inspector = sa.inspect(connection)
            for name in tables.metadata.tables:
                assert inspector.get_table_comment(name)["text"], name
                assert [column["name"] for column in inspector.get_columns(name) if not column["comment"]] == []


def test_a_state_of_an_older_version_continues_where_it_was(state: State) -> None:
    state.make_before_steps()
    with pytest.raises(FatalError, match="made by an older version: start `trekkpaalegg-consumer webhook` on it once"):
        open_store(state.address, make=False)
    store = open_store(state.address, make=True)
    assert state.differences(comments=False) == []
    store.claim_ownership()
    assert store.pending() == [PendingEvent(7, "10001", 2, 1, 1.5)]
    assert [(each.order, each.reason) for each in store.parked()] == [("10002", "the answer 422")]
    assert store.next_offsets(TOPIC) == {0: 5}
    assert store.add([message(4), message(5)]) == [PendingEvent(9, "10001")]
    store.close()


def test_forwarders_started_at_once_make_one_state(state: State) -> None:
    state.make_before_steps()
    failed: list[BaseException] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait(30)
        try:
            open_store(state.address, make=True).close()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert state.differences(comments=False) == []


def test_tables_of_the_same_names_that_are_not_ours_are_left_alone(state: State) -> None:
    state.run("CREATE TABLE webhook_event (sequence INTEGER)")
    for make in (True, False):
        with pytest.raises(FatalError, match="the table webhook_event exists and is not a forwarder's: give a schema"):
            open_store(state.address, make=make)
    with state.engine().connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["webhook_event"]


def test_a_state_of_a_newer_version_is_left_alone(state: State) -> None:
    open_store(state.address, make=True).close()
    with state.engine().begin() as connection:
        version = sa.table(STEPS.version_table, sa.column("version_num"))
        connection.execute(sa.update(version).values(version_num="9999"))
    for make in (True, False):
        with pytest.raises(FatalError, match="newer version of this program: install that one"):
            open_store(state.address, make=make)


def test_a_schema_that_may_not_be_made_is_told_with_what_to_do(postgresql: EmbeddedPostgresql) -> None:
    schema = f"webhook_{uuid.uuid4().hex[:12]}"
    stranger = f"stranger_{schema}"
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {stranger} LOGIN".encode())
        try:
            url = f"{postgresql.url.replace('postgres@', f'{stranger}@')}?options=-csearch_path%3D{schema}"
            with pytest.raises(FatalError, match=f"the schema {schema} is missing, and so is the right to create it"):
                open_store(state_address(url), make=True)
        finally:
            connection.execute(f"DROP ROLE {stranger}".encode())
