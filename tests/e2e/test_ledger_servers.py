"""A ledger whose database fails, and replays, interrupted or beside live consumers: each event is in it once."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.opening import open_engine
from tests.kit.event_stream import Roughness, make_stream
from trekkpaalegg.errors import TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sandbox.servers.postgresql import EmbeddedPostgresql
    from tests.kit.processes import ConsumerProcess
    from tests.kit.stages.ledger_stage import LedgerStage

pytestmark = pytest.mark.kafka

ROUGH = Roughness(late=0.1, corrected=0.15)
CUTS = 6
SWAPS = 2
SLOWLY = ("--batch-max", "4")
"""So small that a replay can be met in the middle."""

MIDDLE = 40
GOES_ON = "continuing a replay that was interrupted"
END_SECONDS_MAX = 60.0


def beside(stage: LedgerStage) -> str:
    """The URL of the fresh ledger."""
    return f"{stage.ledger}.replay" if stage.ledger.startswith("sqlite") else f"{stage.ledger}_replay"


def rows(url: str, table: sa.Table) -> list[Any]:
    """Those of the table; none while there is no such ledger."""
    engine = None
    try:
        engine = open_engine(url, read_only=True)
        with engine.connect() as connection:
            return list(connection.execute(sa.select(table).order_by(*table.primary_key)))
    except (TrekkpaaleggError, sa.exc.SQLAlchemyError):
        return []
    finally:
        if engine is not None:
            engine.dispose()


def begin_and_meet(stage: LedgerStage, *options: str) -> ConsumerProcess:
    """Start a replay and return when it has come so far that it has not much more than begun."""
    before = sum(row.next_offset for row in rows(beside(stage), tables.ledger_offset))
    process = stage.begin("replay", *SLOWLY, *options)

    def has_come() -> bool:
        if not process.is_running():
            raise AssertionError(process.last_lines())
        return sum(row.next_offset for row in rows(beside(stage), tables.ledger_offset)) >= before + MIDDLE

    stage.wait_until(has_come, "the replay is in the middle")
    return process


def end_of(process: ConsumerProcess) -> tuple[int, str]:
    return process.wait(END_SECONDS_MAX), process.log_file.read_text(encoding="utf-8")


def test_connections_cut_by_the_database_are_made_again(
    make_ledger_stage: Callable[..., LedgerStage], postgresql: EmbeddedPostgresql
) -> None:
    stage = make_ledger_stage("postgresql")
    stage.ledger += f"&application_name={stage.topics.prefix}"
    process = stage.begin("run")
    with stage.traffic(make_stream(4, 400, roughness=ROUGH)), psycopg.connect(postgresql.url, autocommit=True) as boss:
        cut = 0

        def cut_again() -> bool:
            nonlocal cut
            cut += len(
                boss.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    [stage.topics.prefix],
                ).fetchall()
            )
            time.sleep(0.1)
            return cut >= CUTS

        stage.wait_until(lambda: stage.owned_by(process), "it has begun")
        stage.wait_until(cut_again, f"it was cut off {CUTS} times")
    stage.wait_until(stage.is_applied, "all is applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()
    assert process.has_logged("call failed; retrying")
    assert process.has_logged("retry succeeded")
    stage.prove()


def test_a_database_that_is_stopped_and_killed_is_waited_for(
    make_ledger_stage: Callable[..., LedgerStage], own_postgresql: EmbeddedPostgresql
) -> None:
    stage = make_ledger_stage("postgresql")
    stage.ledger = f"{own_postgresql.url}?options=-csearch_path%3Drestarted"
    process = stage.begin("run")

    def count(event: str) -> int:
        return sum(entry["event"] == event for entry in process.log_entries())

    with stage.traffic(make_stream(5, 300, roughness=ROUGH)):
        stage.wait_until(stage.next_offsets, "it has begun")
        for end in (own_postgresql.stop, own_postgresql.kill):
            failed, succeeded = count("call failed; retrying"), count("retry succeeded")
            end()
            stage.wait_until(lambda failed=failed: count("call failed; retrying") > failed, "it has seen the trouble")
            own_postgresql.start()
            stage.wait_until(lambda succeeded=succeeded: count("retry succeeded") > succeeded, "it goes on")
    stage.wait_until(stage.is_applied, "all is applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()
    stage.prove()


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_swaps_under_a_live_consumer_lose_and_double_nothing(
    make_ledger_stage: Callable[..., LedgerStage], database: str
) -> None:
    stage = make_ledger_stage(database)
    stream = make_stream(1, 400, roughness=ROUGH)
    stage.topics.write(stream[:200])
    live = stage.begin("run")
    stage.wait_until(stage.is_applied, "the first part is applied")
    with stage.traffic(stream[200:]):
        for _ in range(SWAPS):
            code, told = end_of(stage.begin("replay"))
            assert code == 0, told
            assert told.endswith("swapped in\n")
    stage.wait_until(stage.is_applied, "all is applied")
    live.send_signal(signal.SIGTERM)
    assert live.wait(15) == 0, live.last_lines()
    stage.prove()


@pytest.mark.parametrize(("database", "sign"), [("postgresql", signal.SIGINT), ("sqlite", signal.SIGTERM)])
def test_an_interrupted_replay_leaves_the_live_ledger_and_continues_the_next_time(
    make_ledger_stage: Callable[..., LedgerStage], database: str, sign: signal.Signals
) -> None:
    """Stopped by a signal, then killed while it keeps another one out."""
    stage = make_ledger_stage(database)
    stage.topics.write(make_stream(2, 800, roughness=ROUGH))
    stage.apply_all()
    table = tables.trekkpaalegg
    with open_engine(stage.ledger).begin() as connection:
        connection.execute(sa.update(table).values(saksnummer="changed by hand"))
    before = [rows(stage.ledger, each) for each in tables.REPLAYED]
    stopped = begin_and_meet(stage)
    stopped.send_signal(sign)
    code, told = end_of(stopped)
    assert code == 4, told
    assert "a replay with the same options continues this one" in told
    assert GOES_ON not in told
    killed = begin_and_meet(stage)
    killed.pause()
    code, told = end_of(stage.begin("replay"))
    assert (code, "another replay of this ledger is running: wait for it, or stop it" in told) == (1, True)
    killed.kill()
    assert GOES_ON in killed.log_file.read_text(encoding="utf-8")
    assert [rows(stage.ledger, each) for each in tables.REPLAYED] == before
    code, told = end_of(stage.begin("replay"))
    assert code == 0, told
    assert GOES_ON in told
    stage.prove()


def test_a_database_that_is_restarted_is_waited_for_and_the_replay_ends_well(
    make_ledger_stage: Callable[..., LedgerStage], own_postgresql: EmbeddedPostgresql
) -> None:
    """The lock that keeps other replays out goes with the connection: it is taken again before the swap."""
    stage = make_ledger_stage("postgresql")
    stage.ledger = f"{own_postgresql.url}?options=-csearch_path%3Dledger"
    stage.topics.write(make_stream(4, 600, roughness=ROUGH))
    stage.apply_all()
    process = begin_and_meet(stage)
    own_postgresql.stop()
    stage.wait_until(lambda: "call failed; retrying" in process.log_file.read_text(), "it has seen the trouble")
    own_postgresql.start()
    code, told = end_of(process)
    assert code == 0, told
    assert told.endswith("swapped in\n")
    stage.prove()
