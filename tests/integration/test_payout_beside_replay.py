"""A payout that begins while a replay swaps its tables in reads either the old ones or the new ones, never none."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import date
from typing import TYPE_CHECKING

import psycopg
import pytest

from consumers.ledger.opening import open_engine
from consumers.ledger.payroll import payroll_transaction
from tests.kit.payroll_desk import PayrollDesk, example

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.ledger.payroll import PayrollView
    from sandbox.servers.postgresql import EmbeddedPostgresql

DEADLINE_SECONDS = 60
TABLES = ("trekkpaalegg", "trekkstoerrelse_for_periode")


@pytest.fixture
def schema(postgresql: EmbeddedPostgresql) -> Iterator[str]:
    name = f"payout_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        connection.execute(f"DROP SCHEMA IF EXISTS {name}_old CASCADE")


def wait_for_a_waiter(url: str) -> None:
    """Until somebody waits for a lock."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert time.monotonic() < deadline, "the payout does not wait for the swap"
            time.sleep(0.02)


def swap_all(connection: psycopg.Connection, schema: str) -> None:
    """Move the tables away and put equal ones, written by this very transaction, in their place."""
    connection.execute(f"CREATE SCHEMA {schema}_old")
    for table in TABLES:
        connection.execute(f"ALTER TABLE {schema}.{table} SET SCHEMA {schema}_old")
        connection.execute(f"CREATE TABLE {schema}.{table} (LIKE {schema}_old.{table} INCLUDING ALL)")
        connection.execute(f"INSERT INTO {schema}.{table} SELECT * FROM {schema}_old.{table}")  # noqa: S608 - our names


@pytest.mark.parametrize("read_only", [False, True], ids=["payout", "dry run"])
def test_the_swap_is_seen_whole(postgresql: EmbeddedPostgresql, schema: str, *, read_only: bool) -> None:
    url = f"{postgresql.url}?options=-csearch_path%3D{schema}"
    with PayrollDesk(url) as desk:
        desk.receive(example("10001", 1), example("10002", 1))
    engine = open_engine(url, read_only=read_only)
    views: list[PayrollView] = []

    def read() -> None:
        with payroll_transaction(engine, read_only=read_only) as transaction:
            views.append(transaction.read(date(2025, 8, 20), "", (), "digest"))

    with psycopg.connect(postgresql.url) as connection:
        swap_all(connection, schema)
        payout = threading.Thread(target=read)
        payout.start()
        wait_for_a_waiter(postgresql.url)
        connection.commit()
    payout.join(DEADLINE_SECONDS)
    (view,) = views
    assert [(order.trekkid, len(order.periods)) for order in view.orders] == [("10001", 1), ("10002", 1)]
