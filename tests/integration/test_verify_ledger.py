"""`verify --ledger` on real databases and a real Kafka: rows changed by hand, ledgers behind or filled otherwise."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from confluent_kafka import Consumer, TopicPartition

from consumers.apply.worker import apply
from consumers.ledger import tables
from consumers.ledger.opening import open_engine, open_ledger
from consumers.settings.model import Settings
from consumers.verify.findings import Difference
from consumers.verify.proof import ProofOptions, prove
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.stages.ledger_stage import by_hand, every_row
from tests.kit.waiting import Unseen
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Advance, IncomingEvent, incoming_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

    from consumers.verify.findings import Proof
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.postgresql import EmbeddedPostgresql

pytestmark = pytest.mark.kafka

PARTITIONS = 2
STREAM = make_stream(11, 40, roughness=ROUGH)
CHECK_OF = {
    "trekkpaalegg": "ledger_newest",
    "trekkpaalegg_versjon": "ledger_history",
    "trekkpaalegg_versjon_replaced": "ledger_replaced",
    "trekkstoerrelse_for_periode": "ledger_periods",
}
PRESENT = {each.trekkpaalegg.trekkid for each in STREAM}
TABLES = (
    tables.trekkpaalegg,
    tables.trekkpaalegg_versjon,
    tables.trekkpaalegg_versjon_replaced,
    tables.trekkstoerrelse_for_periode,
)


class Stage:
    """One stream in a topic, and ledgers that are filled from it."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str) -> None:
        self.prefix = prefix
        self.settings = Settings(kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix)
        self.topics = EventTopics(kafka.bootstrap_servers, prefix, partitions=PARTITIONS)
        self.topics.write(STREAM)
        self._read: dict[tuple[str, int], list[Message]] = {}

    def fill(self, url: str, role: str = "versjoner", share: float = 1.0) -> None:
        """Apply the first part of each partition, as the consumer does."""
        topic, decode = f"{self.prefix}-{role}", Decoder().decode_trekkpaalegg_versjon
        with contextlib.closing(open_ledger(url)) as ledger:
            for partition in range(PARTITIONS):
                messages = self._messages(topic, partition)
                messages = messages[: int(len(messages) * share)]
                batch = [incoming_of(message, topic, decode) for message in messages]
                assert all(isinstance(each, IncomingEvent) for each in batch)
                end = (messages[-1].offset() or 0) + 1
                with ledger.transaction({(topic, partition): Advance(0, end)}) as transaction:
                    apply(transaction, batch, newest_only=role == "gjeldende")

    def prove(self, url: str) -> Proof:
        return prove(self.settings, ProofOptions(ledger_url=url), Unseen())

    def _messages(self, topic: str, partition: int) -> list[Message]:
        if (topic, partition) not in self._read:
            self._read[topic, partition] = self._read_messages(topic, partition)
        return self._read[topic, partition]

    def _read_messages(self, topic: str, partition: int) -> list[Message]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_brokers,
                "group.id": self.prefix,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        with contextlib.closing(consumer):
            consumer.assign([TopicPartition(topic, partition, 0)])
            polled = iter(lambda: consumer.poll(10), None)
            return list(itertools.takewhile(lambda message: message.error() is None, polled))


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka) -> Iterator[Stage]:
    made = Stage(kafka, f"test-{uuid.uuid4().hex[:12]}")
    with contextlib.closing(made.topics):
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no ledger is yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
    return f"{server.url}?options=-csearch_path%3Dverify_{uuid.uuid4().hex[:8]}"


def row_of(url: str, table: sa.Table) -> sa.Row:
    engine = open_engine(url, read_only=True)
    with engine.connect() as connection:
        row = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).first()
        assert row is not None
        return row


def at(table: sa.Table, row: sa.Row) -> sa.ColumnElement[bool]:
    return sa.and_(*[column == row._mapping[column] for column in table.primary_key.columns])  # noqa: SLF001 - public by SQLAlchemy's documentation


def found(proof: Proof) -> dict[str, list[tuple[str, str | None, int | None, tuple[str, ...]]]]:
    """What is not as it should be; holes of the stream, for which no positions stand, aside."""
    return {
        check.name: [(each.what, each.trekkid, each.trekkversjon, each.fields) for each in check.differences]
        for check in proof.checks
        if not check.ok and check.name != "complete"
    }


def expected(table: sa.Table, row: sa.Row, what: str, field: str | None) -> dict[str, list]:
    """The difference that a change to this row must be told as; a period is told with its place."""
    mapping = row._mapping  # noqa: SLF001 - as above
    fields: tuple[str, ...] = (field,) if field else ()
    version = mapping.get("trekkversjon")
    if table is tables.trekkstoerrelse_for_periode:
        place = f"[{mapping['nummer']}]"
        fields = (f"{place}.{field}" if field else place,)
        version = newest_version(mapping["trekkid"])
    return {CHECK_OF[table.name]: [(what, mapping["trekkid"], version, fields)]}


def newest_version(trekkid: str) -> int:
    return max(each.trekkpaalegg.trekkversjon for each in STREAM if each.trekkpaalegg.trekkid == trekkid)


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


def test_rows_that_were_edited_by_hand_are_found_with_their_field(stage: Stage, filled: str) -> None:
    wanted = {}
    for table in TABLES:
        row = row_of(filled, table)
        field, value = ("kontonummer", "12345678903")
        if table is tables.trekkstoerrelse_for_periode:
            field, value = "startdato", sa.func.date("2001-02-03") if filled.startswith("sqlite") else "2001-02-03"
        assert by_hand(filled, sa.update(table).where(at(table, row)).values({field: value})) == 1
        wanted |= expected(table, row, "differs from the topic", field)
    assert found(stage.prove(filled)) == wanted


def test_deleted_rows_are_found(stage: Stage, filled: str) -> None:
    wanted = {}
    for table in TABLES:
        row = row_of(filled, table)
        assert by_hand(filled, sa.delete(table).where(at(table, row))) == 1
        wanted |= expected(table, row, "missing from the ledger", None)
    assert found(stage.prove(filled)) == wanted


def test_surplus_rows_are_found(stage: Stage, filled: str) -> None:
    for table in TABLES:
        values = dict(row_of(filled, table)._mapping) | {"trekkid": "77"}  # noqa: SLF001 - public by SQLAlchemy's documentation
        by_hand(filled, sa.insert(table).values(values))
    differences = found(stage.prove(filled))
    assert set(differences) == {CHECK_OF[table.name] for table in TABLES}
    for ((what, trekkid, _, _),) in differences.values():
        assert (what, trekkid) == ("in the ledger, but not in the topic", "77")


def test_every_field_of_the_history_counts(stage: Stage, sqlite_template: Path, tmp_path: Path) -> None:
    """Each in a row of its own."""
    table, url = tables.trekkpaalegg_versjon, f"sqlite:///{tmp_path / 'ledger.db'}"
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    changes = {
        "sekvensnummer": 1,
        "skyldner": "12928312345",
        "trekkstatus": "ukjent",
        "correction": 7,
        "late": True,
        "ukjente_felter": {"x": "1"},
        "trekkstoerrelse_for_periode": [],
    }
    rows = [row for row in every_row(url, table) if not row.late and row.trekkstatus != "ukjent"]
    wanted = set()
    for row, (column, value) in zip(rows, changes.items(), strict=False):
        assert by_hand(url, sa.update(table).where(at(table, row)).values({column: value})) == 1
        wanted.add((row.trekkid, row.trekkversjon, (column,)))
    assert len(wanted) == len(changes)
    proof = stage.prove(url)
    assert {(trekkid, version, fields) for _, trekkid, version, fields in found(proof)["ledger_history"]} == wanted
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


# Ledgers that are behind, or filled from elsewhere.


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
