"""A fresh ledger beside the live one on PostgreSQL alone: locks, rights, views, and connections that are cut."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.address import address_of
from consumers.ledger.opening import open_engine
from consumers.replay.postgresql import open_postgresql_target
from consumers.replay.replay import open_replay_target
from tests.kit.stages.swap_stage import PLAN, TOPIC, SwapStage, write
from trekkpaalegg.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.postgresql import EmbeddedPostgresql


@pytest.fixture
def on_postgresql(postgresql: EmbeddedPostgresql) -> Iterator[SwapStage]:
    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    with SwapStage(f"{postgresql.url}?options=-csearch_path%3D{schema}", schema) as made:
        yield made


@pytest.mark.parametrize("held", ["read", "written"])
def test_a_swap_waits_for_who_uses_the_ledger_and_gives_up_in_time(on_postgresql: SwapStage, held: str) -> None:
    """Nothing is changed then, and the next attempt can succeed."""
    stage = on_postgresql
    write(stage.live, 0, 1)
    target = open_postgresql_target(address_of(stage.url), PLAN, {}, copy=False, lock_seconds_max=0.3)
    write(target.ledger, 0, 2)
    with open_engine(stage.url).connect() as connection:
        if held == "read":
            connection.execute(sa.select(tables.trekkpaalegg))
        else:
            connection.execute(sa.update(tables.ledger_offset).values(next_offset=5))
        with pytest.raises(RetryableError, match="LockNotAvailable"):
            target.swap()
        if held == "written":
            connection.rollback()
        write(stage.live, 1, 2)
    target.swap()
    target.close()
    assert stage.live.next_offsets(TOPIC, [0]) == {0: 2}


def test_rights_go_along_and_the_former_tables_are_kept_until_the_next_swap(on_postgresql: SwapStage) -> None:
    stage, schema = on_postgresql, on_postgresql.schema
    reader = f"reader_{schema}"
    stage.execute(
        sa.text(f"CREATE ROLE {reader}"),
        sa.text(f"GRANT SELECT ON {schema}.trekkpaalegg TO {reader}, PUBLIC"),
        sa.text(f"GRANT UPDATE ON {schema}.trekkpaalegg TO {reader} WITH GRANT OPTION"),
    )
    try:
        rights = sa.text("SELECT relacl::text[] FROM pg_class WHERE oid = to_regclass('trekkpaalegg')")
        with open_engine(stage.url).connect() as connection:
            before = sorted(connection.execute(rights).scalar_one())
        write(stage.live, 0, 1)
        kept = sa.select(sa.func.count()).select_from(sa.table("trekkpaalegg", schema=f"{schema}_former"))
        for former in (1, 5):
            target = stage.target()
            write(target.ledger, 0, 5)
            target.swap()
            target.close()
            with open_engine(stage.url).connect() as connection:
                assert sorted(connection.execute(rights).scalar_one()) == before
                assert connection.execute(kept).scalar_one() == former
    finally:
        stage.execute(sa.text(f"DROP OWNED BY {reader}"), sa.text(f"DROP ROLE {reader}"))


def test_views_on_the_live_tables_are_reported_before_the_swap(on_postgresql: SwapStage) -> None:
    """At the start, and again at the swap."""
    stage = on_postgresql
    view = sa.text(f"CREATE VIEW {stage.schema}.mine AS TABLE {stage.schema}.trekkpaalegg")
    drop = sa.text(f"DROP VIEW {stage.schema}.mine")
    stage.execute(view)
    with pytest.raises(FatalError, match="drop mine, run the replay again"):
        stage.target()
    stage.execute(drop)
    target = stage.target()
    stage.execute(view)
    with pytest.raises(FatalError, match="drop mine, run the replay again"):
        target.swap()
    stage.execute(drop)
    target.swap()


def test_a_missing_right_to_swap_is_reported_before_the_replay(on_postgresql: SwapStage) -> None:
    stage = on_postgresql
    role = f"clerk_{stage.schema}"
    stage.execute(
        sa.text(f"CREATE ROLE {role} LOGIN"),
        sa.text(f"GRANT USAGE ON SCHEMA {stage.schema} TO {role}"),
        sa.text(f"GRANT ALL ON ALL TABLES IN SCHEMA {stage.schema} TO {role}"),
    )
    try:
        with pytest.raises(FatalError, match="grant CREATE on the database, and run it as the tables' owner"):
            open_replay_target(stage.url.replace("postgres@", f"{role}@"), PLAN)
    finally:
        stage.execute(sa.text(f"DROP OWNED BY {role}"), sa.text(f"DROP ROLE {role}"))


def test_a_replay_whose_connections_are_cut_swaps_nothing_and_is_continued(
    on_postgresql: SwapStage, postgresql: EmbeddedPostgresql
) -> None:
    """The lock went with the connection: another replay may have begun since."""
    stage = on_postgresql
    stage.url += f"&application_name={stage.schema}"
    target = stage.target()
    write(target.ledger, 0, 2)
    with psycopg.connect(postgresql.url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = %s", [stage.schema]
        )
    with pytest.raises(RetryableError):
        target.swap()
    target.close()
    assert stage.rows(tables.trekkpaalegg) == []
    again = stage.target()
    assert (again.continued, again.ledger.next_offsets(TOPIC, [0])) == (True, {0: 2})
