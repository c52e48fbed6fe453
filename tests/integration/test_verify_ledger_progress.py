"""`verify --ledger` on real databases and a real Kafka: ledgers that are behind, or filled from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from tests.integration.proved_ledger import (
    STREAM,
    Stage,
    at,
    expected,
    found,
    row_of,
    stage_on,
    url_of_no_ledger,
)
from tests.kit.stages.ledger_stage import by_hand
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka) -> Iterator[Stage]:
    with stage_on(kafka) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_no_ledger(request, tmp_path)


def test_a_ledger_that_is_behind_is_compared_up_to_its_own_offsets(stage: Stage, empty: str) -> None:
    stage.fill(empty, share=0.5)
    proof = stage.prove(empty)
    assert found(proof) == {}
    (offsets,) = [check for check in proof.checks if check.name == "ledger_offsets"]
    behind = int(offsets.notes[0].split()[0])
    assert len(STREAM) * 0.4 < behind < len(STREAM) * 0.6
    assert offsets.notes[0].endswith("events are not in the ledger yet: compared up to the ledger's own offsets")


def test_an_offset_that_was_moved_without_its_rows_is_found(stage: Stage, empty: str) -> None:
    stage.fill(empty, share=0.5)
    table = tables.ledger_offset
    by_hand(empty, sa.update(table).where(table.c.partition == 0).values(next_offset=table.c.next_offset + 1))
    assert "ledger_history" in found(stage.prove(empty))


def test_a_ledger_of_newest_versions_is_compared_with_gjeldende(stage: Stage, empty: str) -> None:
    stage.fill(empty, "gjeldende")
    proof = stage.prove(empty)
    assert found(proof) == {}
    names = [check.name for check in proof.checks]
    assert "ledger_newest" in names
    assert "ledger_history" not in names
    table = tables.trekkpaalegg
    row = row_of(empty, table)
    by_hand(empty, sa.update(table).where(at(table, row)).values(trekkstatus="ukjent"))
    assert found(stage.prove(empty)) == expected(table, row, "differs from the topic", "trekkstatus")


def test_a_ledger_that_went_on_after_a_replay_of_the_current_state_is_compared_with_both(
    stage: Stage, empty: str
) -> None:
    stage.fill(empty, "gjeldende", share=0.5)
    stage.fill(empty)
    proof = stage.prove(empty)
    assert found(proof) == {}
    (offsets,) = [check for check in proof.checks if check.name == "ledger_offsets"]
    assert offsets.notes == ["the ledger was filled from gjeldende: only its newest versions are compared"]
    table = tables.trekkpaalegg
    row = row_of(empty, table)
    by_hand(empty, sa.update(table).where(at(table, row)).values(trekkstatus="ukjent"))
    assert found(stage.prove(empty)) == expected(table, row, "differs from the topic", "trekkstatus")


def test_a_ledger_that_is_not_there_is_no_equal_ledger(stage: Stage, empty: str) -> None:
    with pytest.raises(FatalError):
        stage.prove(empty)
