"""The sample in Python, killed again and again: its own tables hold each event once, on every database."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.kit.event_stream import Roughness, make_stream
from tests.kit.stages.ledger_stage import LedgerStage

if TYPE_CHECKING:
    from sandbox.servers.kafka import EmbeddedKafka
    from tests.kit.processes import ConsumerProcess

pytestmark = pytest.mark.kafka

SAMPLE = Path(__file__).parents[2] / "consumers" / "samples" / "python" / "payroll.py"
STREAM = make_stream(11, 150, roughness=Roughness(late=0.1, corrected=0.15))
KILLS = 3
WAIT_SECONDS_MAX = 120.0


def count(engine: sa.Engine) -> int:
    """How many events the sample has written; 0 while it has no tables yet."""
    with suppress(sa.exc.DBAPIError), engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM my_history")) or 0
    return 0


def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, engine: sa.Engine
) -> None:
    """Each successor has a group of its own: a member that was killed keeps its partitions until its session ends."""
    url = engine.url.render_as_string(hide_password=False)
    with LedgerStage(kafka.bootstrap_servers, topic_prefix, url, tmp_path) as stage:

        def start(number: int) -> ConsumerProcess:
            return stage.begin(
                program=(sys.executable, str(SAMPLE)),
                DATABASE_URL=url,
                TOPIC=stage.topics.topics.versjoner,
                GROUP=f"{topic_prefix}-{number}",
            )

        size = len(STREAM) // (KILLS + 1)
        for number in range(KILLS):
            with stage.traffic(STREAM[number * size : (number + 1) * size]):
                enough = count(engine) + size // 3
                process = start(number)
                stage.wait_until(lambda: count(engine) >= enough, "some events are written", WAIT_SECONDS_MAX)  # noqa: B023 - called at once
                process.kill()
        stage.topics.write(STREAM[KILLS * size :])
        process = start(KILLS)
        stage.wait_until(lambda: count(engine) >= len(STREAM), "all events are written", WAIT_SECONDS_MAX)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS_MAX) == 0, process.last_lines()
    with engine.connect() as connection:
        written = Counter(
            map(tuple, connection.execute(sa.text("SELECT trekkid, trekkversjon, correction FROM my_history")))
        )
        newest = dict(map(tuple, connection.execute(sa.text("SELECT trekkid, trekkversjon FROM my_orders"))))
    numbers = [(each.trekkpaalegg.trekkid, each.trekkpaalegg.trekkversjon, each.correction or 0) for each in STREAM]
    assert written == Counter(numbers)
    assert newest == {
        trekkid: max(number for order, number, _ in numbers if order == trekkid) for trekkid, *_ in numbers
    }
