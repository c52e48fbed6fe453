"""`verify --ledger` on real databases and a real Kafka: rows that were changed by hand are found, exactly."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.verify.findings import Difference
from tests.integration.proved_ledger import (
    CHECK_OF,
    PARTITIONS,
    STREAM,
    Stage,
    at,
    expected,
    found,
    row_of,
    stage_on,
    url_of_no_ledger,
)
from tests.kit.stages.ledger_stage import by_hand, every_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

PRESENT = {each.trekkpaalegg.trekkid for each in STREAM}
TABLES = (
    tables.trekkpaalegg,
    tables.trekkpaalegg_versjon,
    tables.trekkpaalegg_versjon_replaced,
    tables.trekkstoerrelse_for_periode,
)


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka) -> Iterator[Stage]:
    with stage_on(kafka) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_no_ledger(request, tmp_path)


@pytest.fixture(scope="module")
def sqlite_template(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "filled.db"
    stage.fill(f"sqlite:///{path}")
    return path


@pytest.fixture
def filled(empty: str, stage: Stage, sqlite_template: Path) -> str:
    """The URL of a ledger that has taken all of the stream."""
    if empty.startswith("sqlite"):
        shutil.copy(sqlite_template, empty.removeprefix("sqlite:///"))
    else:
        stage.fill(empty)
    return empty


def test_a_ledger_that_was_filled_from_the_topic_passes(stage: Stage, filled: str) -> None:
    proof = stage.prove(filled)
    assert found(proof) == {}
    examined = {check.name: check.examined for check in proof.checks}
    corrections = sum(each.correction is not None for each in STREAM)
    assert examined["ledger_history"] == len(STREAM) - corrections
    assert examined["ledger_replaced"] == corrections > 0
    assert examined["ledger_newest"] == len(PRESENT)
    assert examined["ledger_periods"] > len(PRESENT)
    assert examined["ledger_offsets"] == PARTITIONS


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_that_was_edited_by_hand_is_found_with_its_field(stage: Stage, filled: str, table: sa.Table) -> None:
    row = row_of(filled, table)
    field, value = ("kontonummer", "12345678903")
    if table is tables.trekkstoerrelse_for_periode:
        field, value = "startdato", sa.func.date("2001-02-03") if filled.startswith("sqlite") else "2001-02-03"
    assert by_hand(filled, sa.update(table).where(at(table, row)).values({field: value})) == 1
    assert found(stage.prove(filled)) == expected(table, row, "differs from the topic", field)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_deleted_row_is_found(stage: Stage, filled: str, table: sa.Table) -> None:
    row = row_of(filled, table)
    assert by_hand(filled, sa.delete(table).where(at(table, row))) == 1
    assert found(stage.prove(filled)) == expected(table, row, "missing from the ledger", None)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_surplus_row_is_found(stage: Stage, filled: str, table: sa.Table) -> None:
    row = row_of(filled, table)
    values = dict(row._mapping) | {"trekkid": "77"}  # noqa: SLF001 - public by SQLAlchemy's documentation
    by_hand(filled, sa.insert(table).values(values))
    ((what, trekkid, _, _),) = found(stage.prove(filled))[CHECK_OF[table.name]]
    assert (what, trekkid) == ("in the ledger, but not in the topic", "77")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sekvensnummer", 1),
        ("skyldner", "12928312345"),
        ("trekkstatus", "ukjent"),
        ("correction", 7),
        ("late", True),
        ("ukjente_felter", {"x": "1"}),
        ("trekkstoerrelse_for_periode", []),
    ],
)
def test_every_field_of_the_history_counts(
    stage: Stage, sqlite_template: Path, tmp_path: Path, column: str, value: object
) -> None:
    table, url = tables.trekkpaalegg_versjon, f"sqlite:///{tmp_path / 'ledger.db'}"
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    row = row_of(url, table)
    by_hand(url, sa.update(table).where(at(table, row)).values({column: value}))
    proof = stage.prove(url)
    ((_, _, _, fields),) = found(proof)["ledger_history"]
    assert fields == (column,)
    assert "12928312345" not in repr(proof)


def test_an_amount_that_was_changed_inside_the_history_is_named_with_its_place(stage: Stage, filled: str) -> None:
    table = tables.trekkpaalegg_versjon
    row = next(
        row
        for row in every_row(filled, table)
        if row.trekkstoerrelse_for_periode and row.trekkstoerrelse_for_periode[0]["trekkbeloep"]
    )
    first, *others = row.trekkstoerrelse_for_periode
    changed = [{**first, "trekkbeloep": "1.23"}, *others]
    by_hand(filled, sa.update(table).where(at(table, row)).values(trekkstoerrelse_for_periode=changed))
    ((_, trekkid, trekkversjon, fields),) = found(stage.prove(filled))["ledger_history"]
    assert (trekkid, trekkversjon) == (row.trekkid, row.trekkversjon)
    assert fields == ("trekkstoerrelse_for_periode[1].trekkbeloep",)


def test_text_that_was_only_written_in_another_way_is_no_difference(stage: Stage, filled: str) -> None:
    table = tables.trekkpaalegg_versjon
    row = row_of(filled, table)
    turned = [dict(reversed(each.items())) for each in row.trekkstoerrelse_for_periode]
    assert by_hand(filled, sa.update(table).where(at(table, row)).values(trekkstoerrelse_for_periode=turned)) == 1
    assert found(stage.prove(filled)) == {}


def test_offsets_beyond_the_end_are_found(stage: Stage, filled: str) -> None:
    table = tables.ledger_offset
    by_hand(filled, sa.update(table).where(table.c.partition == 1).values(next_offset=1_000_000))
    ((what, _, _, _),) = found(stage.prove(filled))["ledger_offsets"]
    assert what.startswith("the ledger is at 1000000, beyond the topic's end at ")


def test_a_conflict_that_the_ledger_has_recorded_is_told(stage: Stage, filled: str) -> None:
    row = row_of(filled, tables.trekkpaalegg_versjon)
    values = dict(row._mapping) | {"topic": f"{stage.prefix}-versjoner", "partition": 0, "offset": 3}  # noqa: SLF001 - as above
    by_hand(filled, sa.insert(tables.trekkpaalegg_conflict).values(values))
    proof = stage.prove(filled)
    (check,) = [check for check in proof.checks if check.name == "ledger_conflicts"]
    what = "arrived with content that contradicts the same version"
    place = f"{stage.prefix}-versjoner/0/3"
    assert check.differences == [Difference(what, row.trekkid, row.trekkversjon, place=place)]
