"""A fresh ledger beside the live one: continued or dropped, compared, and swapped in under live consumers."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa

from consumers.errors import FatalError, OvertakenError, RetryableError
from consumers.event import Betalingsinformasjon, Foedselsnummer, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from consumers.incoming import Coordinates, Incoming, UndecodableMessage
from consumers.ledger import tables
from consumers.ledger.address import address_of
from consumers.ledger.opening import ledger_id, open_engine, open_ledger
from consumers.ledger.port import Advance, Changes, StoredVersion
from consumers.ledger.staging.opening import open_replay_target
from consumers.ledger.staging.port import TableDifference
from consumers.ledger.staging.postgresql import open_postgresql_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumers.ledger.port import Ledger
    from consumers.ledger.staging.port import ReplayTarget
    from sandbox.postgresql import EmbeddedPostgresql

TOPIC = "orders-versjoner"
PLAN = "orders-versjoner from the beginning"
EVENT = TrekkpaaleggVersjon(
    trekkid="order",
    trekkversjon=1,
    sekvensnummer=1,
    opprettet=datetime(2026, 1, 1, tzinfo=UTC),
    saksnummer=None,
    trekkpliktig="312345678",
    skyldner=Foedselsnummer("01810112345"),
    trekkstatus="aktiv",
    trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal("5000.00"), None, {}),),
    betalingsinformasjon=Betalingsinformasjon("314159265", "1234567897", "99990512345", {}),
    ukjente_felter={"nytt": "1"},
)


class Stage:
    """One live ledger, and targets beside it, all closed at the end."""

    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.schema = schema
        self._opened = ExitStack()
        self.live = self.open()

    def open(self) -> Ledger:
        ledger = open_ledger(self.url)
        self._opened.callback(ledger.close)
        return ledger

    def target(self, plan: str = PLAN, *, copy: bool = False) -> ReplayTarget:
        target = open_replay_target(self.url, plan, copy=copy)
        self._opened.callback(target.close)
        return target

    def close(self) -> None:
        self._opened.close()

    def rows(self, table: sa.Table) -> list[Any]:
        with open_engine(self.url, read_only=True).connect() as connection:
            return list(connection.execute(sa.select(table).order_by(*table.primary_key)))

    def execute(self, *statements: Any) -> None:
        with open_engine(self.url).begin() as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
        url = f"{server.url}?options=-csearch_path%3D{schema}"
    made = Stage(url, schema)
    yield made
    made.close()


@pytest.fixture
def on_postgresql(postgresql: EmbeddedPostgresql) -> Iterator[Stage]:
    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    made = Stage(f"{postgresql.url}?options=-csearch_path%3D{schema}", schema)
    yield made
    made.close()


def write(ledger: Ledger, before: int, after: int, **changed: Any) -> None:
    """Versions 1… of as many orders as there are offsets."""
    incomings = [
        Incoming(
            Coordinates(TOPIC, 0, offset), msgspec.structs.replace(EVENT, **({"trekkid": f"order-{offset}"} | changed))
        )
        for offset in range(before, after)
    ]
    with ledger.transaction({(TOPIC, 0): Advance(before, after)}) as transaction:
        transaction.write(Changes(inserted=incomings, newest={each.event.trekkid: each for each in incomings}))


def undecodable(ledger: Ledger, offset: int) -> UndecodableMessage:
    message = UndecodableMessage(Coordinates(TOPIC, 0, offset), b"key", b"\x00", {}, "cut off")
    with ledger.transaction({}) as transaction:
        transaction.write(Changes(), [message])
    return message


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


def test_a_swap_puts_the_fresh_tables_in_the_live_ones_place_and_leaves_the_rest(stage: Stage) -> None:
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


def test_a_live_consumer_goes_on_after_a_swap_whichever_side_was_ahead(stage: Stage) -> None:
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


def test_an_interrupted_replay_is_continued_by_its_like_and_dropped_by_another(stage: Stage) -> None:
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


def test_a_copy_begins_where_the_live_ledger_stands(stage: Stage) -> None:
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


def test_a_replay_begins_with_a_copy_while_the_live_ledger_is_written(stage: Stage) -> None:
    """Of what is committed; neither waits for the other."""
    write(stage.live, 0, 2)
    with stage.live.transaction({(TOPIC, 0): Advance(2, 3)}) as transaction:
        target = stage.target(copy=True)
        transaction.write(Changes())
    assert target.ledger.next_offsets(TOPIC, [0]) == {0: 2}
    assert stage.live.next_offsets(TOPIC, [0]) == {0: 3}


def test_two_replays_of_one_ledger_refuse_one_another(stage: Stage) -> None:
    target = stage.target()
    with pytest.raises(FatalError, match="another replay of this ledger is running: wait for it, or stop it"):
        stage.target()
    target.close()
    stage.target()


def test_differences_are_counted_and_named_by_key_without_values(stage: Stage) -> None:
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


def test_what_is_no_replays_is_left_alone(stage: Stage, tmp_path: Path) -> None:
    if stage.url.startswith("sqlite"):
        with closing(sqlite3.connect(tmp_path / "ledger.db.replay")) as connection:
            connection.execute("CREATE TABLE accounts (amount)")
            connection.commit()
    else:
        stage.execute(
            sa.schema.CreateSchema(f"{stage.schema}_replay"),
            sa.text(f"CREATE TABLE {stage.schema}_replay.accounts (amount int)"),
        )
    with pytest.raises(FatalError, match="is there and is no replay's: rename it"):
        stage.target()


@pytest.mark.parametrize("held", ["read", "written"])
def test_a_swap_waits_for_who_uses_the_ledger_and_gives_up_in_time(on_postgresql: Stage, held: str) -> None:
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


def test_rights_go_along_and_the_former_tables_are_kept_until_the_next_swap(on_postgresql: Stage) -> None:
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


def test_views_on_the_live_tables_are_told_before_they_would_lie(on_postgresql: Stage) -> None:
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


def test_who_could_not_swap_is_told_before_the_replay(on_postgresql: Stage) -> None:
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
    on_postgresql: Stage, postgresql: EmbeddedPostgresql
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
