"""`replay` on a real Kafka and both databases: what it rebuilds, names, keeps, mends, refuses and says."""

from __future__ import annotations

import shutil
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sa

from consumers.cli.main import run_command
from consumers.ledger import tables
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
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


@pytest.fixture(scope="module")
def whole(kafka: EmbeddedKafka) -> Iterator[EventTopics]:
    """The whole stream, for tests that do not add to it."""
    with EventTopics(kafka.bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}") as topics:
        topics.write(STREAM)
        yield topics


@pytest.fixture(scope="module")
def template(whole: EventTopics, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite ledger that has applied the whole stream, to copy."""
    path = tmp_path_factory.mktemp("ledger") / "filled.db"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in whole.settings.items():
            patch.setenv(name, value)
        ReplayStage(whole, f"sqlite:///{path}", STREAM).run()
    return path


def url_of(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a ledger that is not there yet."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server = request.getfixturevalue("postgresql")
    return f"{server.url}?options=-csearch_path%3Dreplay_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_place(
    kafka: EmbeddedKafka,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., ReplayStage]]:
    """Makes topics of the test's own, with a stream, and a ledger that is not there yet."""
    with ExitStack() as opened:

        def make(database: str = "sqlite", stream: Sequence[Publication] = STREAM) -> ReplayStage:
            topics = opened.enter_context(EventTopics(kafka.bootstrap_servers, topic_prefix))
            topics.write(stream)
            for name, value in topics.settings.items():
                monkeypatch.setenv(name, value)
            return ReplayStage(topics, url_of(database, request, tmp_path), stream)

        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def unfilled(
    database: str, whole: EventTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ReplayStage:
    """The whole stream, and a ledger that is not there yet."""
    for name, value in whole.settings.items():
        monkeypatch.setenv(name, value)
    return ReplayStage(whole, url_of(database, request, tmp_path), STREAM)


@pytest.fixture
def filled(unfilled: ReplayStage, database: str, template: Path, tmp_path: Path) -> ReplayStage:
    """The whole stream, and a ledger that has applied it."""
    if database == "sqlite":
        shutil.copy(template, tmp_path / "ledger.db")
    else:
        unfilled.run()
    return unfilled


@pytest.fixture
def on_sqlite(whole: EventTopics, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplayStage:
    """As `filled`, on SQLite alone: for what no database has a part in."""
    for name, value in whole.settings.items():
        monkeypatch.setenv(name, value)
    shutil.copy(template, tmp_path / "ledger.db")
    return ReplayStage(whole, f"sqlite:///{tmp_path / 'ledger.db'}", STREAM)


def edited(table: sa.Table, row: Any, **values: Any) -> sa.Update:
    return sa.update(table).where(same(table, row)).values(**values)


def same(table: sa.Table, row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(*[column == row._mapping[column] for column in table.primary_key])  # noqa: SLF001 - public by SQLAlchemy's documentation


def added(table: sa.Table, row: Any, **values: Any) -> sa.Insert:
    return sa.insert(table).values(dict(row._mapping) | values)  # noqa: SLF001 - as above


def test_rows_that_were_changed_deleted_and_added_by_hand_are_named_and_set_right(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    filled = make_place(database)
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


def test_an_equal_ledger_is_reported_as_equal(filled: ReplayStage) -> None:
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
def test_a_ledger_that_is_not_there_is_made_and_filled(unfilled: ReplayStage, options: tuple[str, ...]) -> None:
    place = unfilled
    told = place.replay(*options)
    assert f"trekkpaalegg: 0 rows only in the live ledger, {len(ORDERS)} only in the replayed one, 0 differ" in told
    assert "behind it then, which may explain all differences" in told
    place.run()
    assert len(place.rows(NEWEST)) == len(ORDERS)
    assert place.faults() == {}


def test_from_a_time_on_the_topic_replaces_contradicting_versions(
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


def test_from_a_time_on_a_conflict_stays_one(make_place: Callable[..., ReplayStage]) -> None:
    """Two events say other things of one version: the first stands, whether or not both are read again."""
    place = make_place()
    place.run()
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


def test_a_ledger_with_history_continues_from_the_current_state(
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


# What is refused, leaving the ledger as it was, and what it takes to have it anyway.


def refused(place: ReplayStage, *options: str) -> tuple[int, str]:
    """Exit code and words of a replay that leaves the ledger as it was."""
    before = place.everything()
    code, told = place.command("replay", *options)
    assert place.everything() == before
    return code, told


def test_a_topic_that_no_longer_has_its_beginning_is_refused_unless_the_loss_is_accepted(
    make_place: Callable[..., ReplayStage], database: str
) -> None:
    place = make_place(database)
    place.run()
    orders = len(place.rows(NEWEST))
    place.delete_messages("versjoner", 1, 20)
    code, told = refused(place)
    assert code == 1
    assert "orders would be lost: " in told
    assert f"{place.topics.prefix}-versjoner/1 begins at offset 20, and is to be read from 0" in told
    assert refused(place)[0] == 1
    assert place.outcome("--from", datetime.now(UTC).isoformat(), "--compare")["losses"] == []
    outcome = place.outcome("--accept-loss")
    assert len(outcome["losses"]) == 1
    assert len(place.rows(NEWEST)) < orders
    assert place.outcome("--newest-only")["losses"] == []
    assert len(place.rows(NEWEST)) == orders


def test_a_topic_that_ends_before_the_live_ledger_is_refused(on_sqlite: ReplayStage) -> None:
    place = on_sqlite
    offset = tables.ledger_offset
    place.by_hand(sa.update(offset).where(offset.c.partition == 0).values(next_offset=9_000))
    code, told = refused(place)
    assert (code, "the live ledger has come to offset 9000" in told) == (1, True)
    assert "the topic was created again" in told
    assert place.outcome("--from", "2020-01-01")["losses"] == []
    assert place.faults() == {}


def test_a_ledger_of_another_prefix_is_refused(
    on_sqlite: ReplayStage, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = on_sqlite
    other = f"{place.topics.prefix}-other"
    with EventTopics(kafka.bootstrap_servers, other) as topics:
        topics.write(STREAM[:10])
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", other)
    code, told = refused(place)
    assert (code, f"was filled from {place.topics.prefix}-versjoner, and not from {other}-versjoner" in told) == (
        1,
        True,
    )


def test_too_many_undecodable_messages_end_a_replay_before_the_swap(make_place: Callable[..., ReplayStage]) -> None:
    place = make_place()
    place.run()
    for _ in range(3):
        place.topics.write_raw(b"\x00\x01")
    code, told = refused(place, "--undecodable-max", "2")
    assert (code, "more than --undecodable-max 2 allows" in told) == (1, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "yesterday"), "--from: give `beginning`, or a time such as"),
        (("--from", "01.11.2026"), "--from: give `beginning`, or a time such as"),
        (("--from", "1793491200"), "--from: give `beginning`, or a time such as"),
        (("--from", "2999-01-01"), "--from: give a time between 1970 and now"),
        (("--from", "0001-01-01T00:00+14:00"), "--from: give a time between 1970 and now"),
        (("--from", "2026-01-01", "--newest-only"), "leave --newest-only or --from"),
        (("--ledger", "mysql://u:hemmelig@h/d"), "there is no ledger on mysql"),
        (("--ledger", "postgresql://u:hemmelig@h:x/d"), "percent-encoded"),
        (("--batch-max", "0"), "--batch-max"),
        (("--undecodable-max", "-1"), "--undecodable-max"),
    ],
)
def test_options_of_another_form_are_refused(
    options: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    given = ["replay", *options, *(() if "--ledger" in options else ("--ledger", f"sqlite:///{tmp_path / 'l.db'}"))]
    assert run_command(given) == 2
    told = capfd.readouterr().err
    assert words in told
    assert "hemmelig" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_topic_that_is_not_there_makes_no_ledger(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", kafka.bootstrap_servers)
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", "test-nowhere")
    for options in ((), ("--newest-only",), ("--from", "2026-01-01")):
        assert run_command(["replay", "--ledger", f"sqlite:///{tmp_path / 'ledger.db'}", *options]) == 1
        assert "no such topic; set TREKKPAALEGG_TOPIC_PREFIX" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
