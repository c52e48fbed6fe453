"""`replay` on a real Kafka and both databases: what it rebuilds, names, keeps, mends, refuses and says."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from tests.kit.event_stream import ROUGH, make_stream
from tests.kit.stages.replay_stage import ReplayStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication
    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

STREAM = make_stream(3, 60, roughness=ROUGH)
HALF = len(STREAM) // 2
BY_HAND = "changed by hand"
NEWEST = tables.trekkpaalegg
HISTORY = tables.trekkpaalegg_versjon
PERIODS = tables.trekkstoerrelse_for_periode
REPLACED = tables.trekkpaalegg_versjon_replaced
ORDERS = {each.trekkpaalegg.trekkid for each in STREAM}


@pytest.fixture
def make_place(
    kafka: EmbeddedKafka,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., ReplayStage]]:
    with ExitStack() as opened:

        def make(database: str = "sqlite", stream: Sequence[Publication] = STREAM) -> ReplayStage:
            url = f"sqlite:///{tmp_path / 'ledger.db'}"
            if database == "postgresql":
                server = request.getfixturevalue("postgresql")
                url = f"{server.url}?options=-csearch_path%3Dreplay_{uuid.uuid4().hex[:8]}"
            place = opened.enter_context(ReplayStage(kafka.bootstrap_servers, topic_prefix, url, stream))
            for name, value in place.topics.settings.items():
                monkeypatch.setenv(name, value)
            return place

        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def filled(database: str, make_place: Callable[..., ReplayStage]) -> ReplayStage:
    """A ledger that has applied the whole stream."""
    place = make_place(database)
    place.run()
    return place


@pytest.fixture
def place(make_place: Callable[..., ReplayStage]) -> ReplayStage:
    """The same on SQLite alone: for what no database has a part in."""
    place = make_place()
    place.run()
    return place


def edited(table: sa.Table, row: Any, **values: Any) -> sa.Update:
    return sa.update(table).where(same(table, row)).values(**values)


def same(table: sa.Table, row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(*[column == row._mapping[column] for column in table.primary_key])  # noqa: SLF001 - public by SQLAlchemy's documentation


def added(table: sa.Table, row: Any, **values: Any) -> sa.Insert:
    return sa.insert(table).values(dict(row._mapping) | values)  # noqa: SLF001 - as above


def test_rows_that_were_changed_deleted_and_added_by_hand_are_named_and_set_right(filled: ReplayStage) -> None:
    filled.topics.write_raw(b"\x00\x01")
    filled.run()
    right = filled.everything()
    newest, history, periods, replaced = (right[table.name] for table in (NEWEST, HISTORY, PERIODS, REPLACED))
    filled.by_hand(
        edited(NEWEST, newest[0], saksnummer=BY_HAND),
        sa.delete(HISTORY).where(same(HISTORY, history[5])),
        added(PERIODS, periods[0], nummer=99),
        edited(REPLACED, replaced[0], kidnummer="00"),
        edited(NEWEST, newest[7], trekkversjon=77),
        sa.delete(NEWEST).where(same(NEWEST, newest[9])),
    )
    outcome = filled.outcome()
    counts = {
        each["table"]: (each["only_live"], each["only_fresh"], each["changed"])
        for each in outcome["differences"]["counts"]
    }
    assert counts == {
        "trekkpaalegg": (0, 1, 2),
        "trekkpaalegg_versjon": (0, 1, 0),
        "trekkpaalegg_versjon_replaced": (0, 0, 1),
        "trekkstoerrelse_for_periode": (1, 0, 0),
    }
    assert f"trekkpaalegg (trekkid {newest[0].trekkid}): differs in saksnummer" in outcome["differences"]["shown"]
    assert (outcome["swapped"], outcome["live_ahead"], outcome["live_behind"]) == (True, 0, 0)
    assert outcome["undecodable"] == len(right["undecodable_message"]) == 1
    assert filled.everything() == right
    assert list(filled.faults()) == ["headers"], "the undecodable message alone"


def test_an_equal_ledger_is_told_to_be_equal(filled: ReplayStage) -> None:
    before = filled.everything()
    told = filled.replay()
    assert f"{len(STREAM)} events replayed\n" in told
    assert "equal in every replayed row" in told
    assert told.endswith("swapped in\n")
    assert filled.everything() == before


def test_comparing_leaves_everything_as_it_was(filled: ReplayStage, tmp_path: Path) -> None:
    filled.by_hand(edited(NEWEST, filled.rows(NEWEST)[3], saksnummer=BY_HAND))
    before = filled.everything()
    told = filled.replay("--compare")
    assert "trekkpaalegg: 0 rows only in the live ledger, 0 only in the replayed one, 1 differ" in told
    assert told.endswith("not swapped in: the live ledger is unchanged\n")
    assert filled.everything() == before
    assert not list(tmp_path.glob("*.replay"))
    assert "continuing" not in filled.replay()


@pytest.mark.parametrize("options", [(), ("--newest-only",)])
def test_a_ledger_that_is_not_there_is_made_and_filled(
    make_place: Callable[..., ReplayStage], database: str, options: tuple[str, ...]
) -> None:
    place = make_place(database)
    told = place.replay(*options)
    assert f"trekkpaalegg: 0 rows only in the live ledger, {len(ORDERS)} only in the replayed one, 0 differ" in told
    assert "behind it then, which may explain all differences" in told
    place.run()
    assert len(place.rows(NEWEST)) == len(ORDERS)
    assert place.faults() == {}


def test_from_a_time_on_the_topics_word_replaces_what_stands_otherwise(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    place = make_place(database, STREAM[:HALF])
    place.run()
    begin = time_between()
    place.topics.write(STREAM[HALF:])
    place.run()
    right = place.everything()
    later = {spoken_of(each) for each in STREAM[HALF:]}
    newest = [row for row in right["trekkpaalegg"] if spot(row) in later]
    history = [row for row in right["trekkpaalegg_versjon"] if spot(row) in later]
    earlier = next(row for row in right["trekkpaalegg"] if spot(row) not in later)
    place.by_hand(
        edited(NEWEST, newest[0], saksnummer=BY_HAND),
        sa.delete(NEWEST).where(same(NEWEST, newest[1])),
        edited(NEWEST, newest[2], trekkversjon=0),
        edited(HISTORY, history[4], saksnummer=BY_HAND),
        sa.delete(HISTORY).where(same(HISTORY, history[8])),
        edited(NEWEST, earlier, saksnummer=BY_HAND),
    )
    outcome = place.outcome("--from", begin)
    assert outcome["events"] == len(STREAM) - HALF
    assert [row.trekkid for row in place.rows(NEWEST) if row.saksnummer == BY_HAND] == [earlier.trekkid]
    place.by_hand(edited(NEWEST, earlier, saksnummer=earlier.saksnummer))
    assert place.everything() == right
    assert place.faults() == {}


def test_from_a_time_on_a_conflict_stays_one(place: ReplayStage) -> None:
    """Two events say other things of one version: the first stands, whether or not both are read again."""
    first = next(each for each in STREAM if not each.late and each.correction is None and each.current)
    other = msgspec.structs.replace(first.trekkpaalegg, saksnummer="another")
    before = time_between()
    place.topics.write([msgspec.structs.replace(first, trekkpaalegg=other)])
    place.run()
    right = place.everything()
    assert len(right["trekkpaalegg_conflict"]) == 1
    for begin in (before, "2020-01-01"):
        place.replay("--from", begin, "--batch-max", "10")
        assert place.everything() == right


def test_from_a_time_on_what_the_live_ledger_has_not_read_yet_is_read(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    place = make_place(database, STREAM[:HALF])
    place.run()
    place.topics.write(STREAM[HALF:])
    begin = time_between()
    outcome = place.outcome("--from", begin)
    assert outcome["events"] == len(STREAM) - HALF
    assert place.faults() == {}
    assert {spot(row) for row in place.rows(NEWEST)} == newest_of(STREAM)


def test_the_current_state_alone_suits_a_ledger_that_keeps_no_history(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    place = make_place(database, STREAM[:HALF])
    place.run("--newest-only")
    place.by_hand(edited(NEWEST, place.rows(NEWEST)[0], saksnummer=BY_HAND))
    told = place.replay("--newest-only")
    assert "trekkpaalegg: 0 rows only in the live ledger, 0 only in the replayed one, 1 differ" in told
    assert "newest versions only: the replayed ledger has no history" in told
    place.topics.write(STREAM[HALF:])
    place.run("--newest-only")
    assert {spot(row) for row in place.rows(NEWEST)} == newest_of(STREAM)
    assert place.rows(HISTORY) == []
    assert place.faults() == {}


def test_a_ledger_that_keeps_history_goes_on_from_the_current_state(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    """Its offsets of versjoner are those from before the reading: no event is passed over, and none reapplied."""
    place = make_place(database, STREAM[:HALF])
    place.run()
    before = place.offsets("versjoner")
    place.by_hand(edited(NEWEST, place.rows(NEWEST)[0], saksnummer=BY_HAND))
    place.replay("--newest-only")
    assert place.offsets("versjoner") == before
    assert place.rows(HISTORY) == []
    assert place.faults() == {}
    place.topics.write(STREAM[HALF:])
    place.run()
    assert {spot(row) for row in place.rows(NEWEST)} == newest_of(STREAM)
    assert len(place.rows(HISTORY)) == len({spoken_of(each)[:2] for each in STREAM[HALF:]})
    assert place.faults() == {}
    place.by_hand(edited(NEWEST, place.rows(NEWEST)[4], saksnummer=BY_HAND))
    assert list(place.faults()) == ["ledger_newest"]


def time_between() -> str:
    """A time after all that was written before, and before all that is written from now on."""
    time.sleep(0.05)
    now = datetime.now(UTC).isoformat()
    time.sleep(0.05)
    return now


def spoken_of(publication: Publication) -> tuple[str, int, int]:
    """trekkid, trekkversjon and correction."""
    return publication.trekkpaalegg.trekkid, publication.trekkpaalegg.trekkversjon, publication.correction or 0


def spot(row: Any) -> tuple[str, int, int]:
    return row.trekkid, row.trekkversjon, row.correction


def newest_of(stream: Sequence[Publication]) -> set[tuple[str, int, int]]:
    newest: dict[str, tuple[str, int, int]] = {}
    for each in stream:
        newest[each.trekkpaalegg.trekkid] = max(newest.get(each.trekkpaalegg.trekkid, ("", 0, 0)), spoken_of(each))
    return set(newest.values())
