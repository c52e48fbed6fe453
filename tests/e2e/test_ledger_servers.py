"""Servers that a consumer stands upon fail and come back: the ledger holds each event once."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.kit.event_stream import Roughness, make_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.servers.postgresql import EmbeddedPostgresql
    from tests.kit.stages.ledger_stage import LedgerStage

pytestmark = pytest.mark.kafka

ROUGH = Roughness(late=0.1, corrected=0.15)
CUTS = 6


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


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_database_that_is_restarted_is_waited_for(
    make_ledger_stage: Callable[..., LedgerStage], own_postgresql: EmbeddedPostgresql, end: str
) -> None:
    stage = make_ledger_stage("postgresql")
    stage.ledger = f"{own_postgresql.url}?options=-csearch_path%3Drestarted_by_{end}"
    process = stage.begin("run")
    with stage.traffic(make_stream(5, 300, roughness=ROUGH)):
        stage.wait_until(stage.next_offsets, "it has begun")
        getattr(own_postgresql, end)()
        stage.wait_until(lambda: process.has_logged("call failed; retrying"), "it has seen the trouble")
        own_postgresql.start()
    stage.wait_until(stage.is_applied, "all is applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()
    stage.prove()
