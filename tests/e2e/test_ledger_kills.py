"""A consumer dies, or sleeps too long, at every single step of a batch: the ledger holds each event once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.event_stream import Roughness, make_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.stages.ledger_stage import LedgerStage

pytestmark = pytest.mark.kafka

FAULTY_CONSUMER = (sys.executable, str(Path(__file__).with_name("faulty_consumer.py")))
ROUGH = Roughness(late=0.1, corrected=0.15)
BATCHES_BEFORE = 2
KILLS = (
    "kill-before-claim",
    "kill-after-claim",
    "kill-before-rows",
    "kill-after-rows",
    "kill-before-commit",
    "kill-during-commit",
    "kill-after-commit",
)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_a_kill_at_any_step_of_a_batch_loses_and_doubles_nothing(
    make_ledger_stage: Callable[..., LedgerStage], database: str
) -> None:
    """Each successor takes over what the one before it left, and dies at the next step."""
    stage = make_ledger_stage(database)
    stage.topics.write(make_stream(1, 400, roughness=ROUGH))
    process = stage.begin(str(BATCHES_BEFORE), *KILLS, "none", program=FAULTY_CONSUMER)
    stage.wait_until(lambda: stage.is_applied() or not process.is_running(), "all is applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()
    struck = [line for line in process.log_file.read_text().splitlines() if line.startswith("struck")]
    assert struck == [f"struck: {fault}" for fault in KILLS]
    stage.prove()
