"""A fresh ledger beside the live one: continued or dropped, compared, and swapped in under live consumers."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.opening import ledger_id
from consumers.ledger.port import Changes, StoredVersion
from consumers.replay.target import TableDifference
from tests.kit.stages.swap_stage import EVENT, TOPIC, SwapStage, undecodable, write
from trekkpaalegg.errors import FatalError, OvertakenError
from trekkpaalegg.incoming import Advance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.postgresql import EmbeddedPostgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SwapStage]:
    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
        url = f"{server.url}?options=-csearch_path%3D{schema}"
    with SwapStage(url, schema) as made:
        yield made


def postering(trekkid: str) -> sa.Insert:
    return sa.insert(tables.postering).values(
        utbetalingsdato=date(2026, 1, 31),
        utbetaling="",
        trekkid=trekkid,
        trekkversjon=1,
        trekkpliktig="312345678",
        skyldner=EVENT.skyldner.reveal(),
        brutto=Decimal(30000),
        beloep=Decimal(5000),
        allerede_trukket=Decimal(0),
        grunnlag="beloep",
        varsler=[],
        betalingsmottaker="314159265",
        kidnummer="1234567897",
        kontonummer="99990512345",
        forfallsdato=date(2026, 2, 2),
        recorded=datetime(2026, 1, 31, tzinfo=UTC),
    )


def test_a_swap_puts_the_fresh_tables_in_the_live_ones_place_and_leaves_the_rest(stage: SwapStage) -> None:
    write(stage.live, 0, 5, sekvensnummer=1)
    kept, merged = undecodable(stage.live, 90), undecodable(stage.live, 91)
    stage.execute(postering("order-1"))
    before = {table: stage.rows(table) for table in (tables.postering, tables.ledger)}
    target = stage.target()
    assert target.continued is False
    write(target.ledger, 0, 3, sekvensnummer=2)
    undecodable(target.ledger, 91)
    added = undecodable(target.ledger, 92)
    stage.execute(postering("order-2"))
    target.swap()
    target.close()
    assert [(row.trekkid, row.sekvensnummer) for row in stage.rows(tables.trekkpaalegg)] == [
        (f"order-{number}", 2) for number in range(3)
    ]
    assert len(stage.rows(tables.trekkpaalegg_versjon)) == len(stage.rows(tables.trekkstoerrelse_for_periode)) == 3
    assert stage.live.next_offsets(TOPIC, [0]) == {0: 3}
    assert stage.live.undecodable() == [kept, merged, added]
    assert len(stage.rows(tables.postering)) == 2
    assert stage.rows(tables.ledger) == before[tables.ledger]
    assert ledger_id(stage.url) == stage.live.id
    assert stage.target().continued is False


def test_a_live_consumer_continues_after_a_swap_whichever_side_was_ahead(stage: SwapStage) -> None:
    """With the connections that it had: its next claim fits exactly, or it is told to read the offsets again."""
    other = stage.open()
    for live_end, fresh_end in ((3, 3), (6, 4), (7, 9)):
        begin = stage.live.next_offsets(TOPIC, [0])[0]
        write(stage.live, begin, live_end)
        target = stage.target()
        write(target.ledger, 0, fresh_end)
        target.swap()
        target.close()
        if live_end == fresh_end:
            write(stage.live, live_end, live_end + 1)
        else:
            for ledger in (stage.live, other):
                with pytest.raises(OvertakenError):
                    write(ledger, live_end, live_end + 1)
            assert stage.live.next_offsets(TOPIC, [0]) == {0: fresh_end}
            write(other, fresh_end, fresh_end + 1)
        stands = fresh_end + 1
        with other.transaction({}) as transaction:
            assert len(transaction.newest([f"order-{number}" for number in range(20)])) == stands
        assert len(stage.rows(tables.trekkpaalegg)) == stands


def test_an_interrupted_replay_is_continued_by_its_like_and_dropped_by_another(stage: SwapStage) -> None:
    target = stage.target()
    write(target.ledger, 0, 4)
    target.close()
    assert len(stage.rows(tables.trekkpaalegg)) == 0
    again = stage.target()
    assert (again.continued, again.ledger.next_offsets(TOPIC, [0])) == (True, {0: 4})
    again.close()
    other = stage.target("orders-gjeldende")
    assert (other.continued, other.ledger.next_offsets(TOPIC, [0])) == (False, {0: 0})
    other.drop()
    other.close()
    assert stage.target("orders-gjeldende").continued is False


def test_a_copy_begins_at_the_offsets_of_the_live_ledger(stage: SwapStage) -> None:
    write(stage.live, 0, 5)
    undecodable(stage.live, 90)
    target = stage.target("from a time", copy=True)
    write(stage.live, 5, 6)
    assert target.ledger.next_offsets(TOPIC, [0]) == {0: 5}
    with target.ledger.transaction({(TOPIC, 0): Advance(5, 2)}) as transaction:
        stored = transaction.versions([("order-4", 1), ("order-5", 1)])
    assert stored == {("order-4", 1): StoredVersion(msgspec.structs.replace(EVENT, trekkid="order-4"), False, 0)}
    assert target.ledger.count_undecodable() == 0
    target.close()
    again = stage.target("from a time", copy=True)
    assert (again.continued, again.ledger.next_offsets(TOPIC, [0])) == (True, {0: 2})


def test_a_replay_begins_with_a_copy_while_the_live_ledger_is_written(stage: SwapStage) -> None:
    """Of what is committed; neither waits for the other."""
    write(stage.live, 0, 2)
    with stage.live.transaction({(TOPIC, 0): Advance(2, 3)}) as transaction:
        target = stage.target(copy=True)
        transaction.write(Changes())
    assert target.ledger.next_offsets(TOPIC, [0]) == {0: 2}
    assert stage.live.next_offsets(TOPIC, [0]) == {0: 3}


def test_two_replays_of_one_ledger_refuse_one_another(stage: SwapStage) -> None:
    target = stage.target()
    with pytest.raises(FatalError, match="another replay of this ledger is running: wait for it, or stop it"):
        stage.target()
    target.close()
    stage.target()


def test_differences_are_counted_and_named_by_key_without_values(stage: SwapStage) -> None:
    target = stage.target()
    write(stage.live, 0, 6)
    write(target.ledger, 0, 6)
    assert not target.differences(10)
    write(stage.live, 6, 9)
    write(target.ledger, 6, 7, sekvensnummer=77)
    write(target.ledger, 7, 8, trekkid="order-only-fresh", trekkstoerrelse_for_periode=())
    stage.execute(
        sa.update(tables.trekkpaalegg).where(tables.trekkpaalegg.c.trekkid == "order-2").values(saksnummer="changed"),
        sa.update(tables.trekkstoerrelse_for_periode)
        .where(tables.trekkstoerrelse_for_periode.c.trekkid == "order-3")
        .values(trekkbeloep=None, ukjente_felter={"by": "hand"}),
    )
    found = target.differences(100)
    assert found.counts == (
        TableDifference("trekkpaalegg", 2, 1, 2),
        TableDifference("trekkpaalegg_versjon", 2, 1, 1),
        TableDifference("trekkstoerrelse_for_periode", 2, 0, 1),
    )
    assert found.shown[:5] == (
        "trekkpaalegg (trekkid order-7): only in the live ledger",
        "trekkpaalegg (trekkid order-8): only in the live ledger",
        "trekkpaalegg (trekkid order-only-fresh): only in the replayed one",
        "trekkpaalegg (trekkid order-2): differs in saksnummer",
        "trekkpaalegg (trekkid order-6): differs in sekvensnummer",
    )
    assert found.shown[-1] == (
        "trekkstoerrelse_for_periode (trekkid order-3, nummer 1): differs in trekkbeloep, ukjente_felter"
    )
    assert len(target.differences(2).shown) == 2
    assert target.differences(0).counts == found.counts
    newest = target.differences(100, newest_only=True)
    assert [count.table for count in newest.counts] == ["trekkpaalegg", "trekkstoerrelse_for_periode"]
    target.swap()


def test_tables_of_others_are_left_alone(stage: SwapStage, tmp_path: Path) -> None:
    if stage.url.startswith("sqlite"):
        with closing(sqlite3.connect(tmp_path / "ledger.db.replay")) as connection:
            connection.execute("CREATE TABLE accounts (amount)")
            connection.commit()
    else:
        stage.execute(
            sa.schema.CreateSchema(f"{stage.schema}_replay"),
            sa.text(f"CREATE TABLE {stage.schema}_replay.accounts (amount int)"),
        )
    with pytest.raises(FatalError, match="exists and is not a replay's: rename it"):
        stage.target()
