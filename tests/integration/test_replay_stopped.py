"""Replays stopped where a test wants: continued by their like, dropped by others, held up; and payouts after them."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from consumers.cli.main import run_command
from consumers.ledger import tables
from consumers.ledger.opening import open_engine
from consumers.replay.replay import Replay, ReplayOptions, ReplayOutcome, Stream
from consumers.replay.topic import TopicExtents
from sandbox.servers.server import free_port
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.waiting import until
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import RetryableError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.postgresql import EmbeddedPostgresql

pytestmark = pytest.mark.kafka

STREAM = make_stream(5, 60, roughness=ROUGH)
BATCH = 10


class Watch:
    """Remembers what it is told; it stops the replay at so many offsets in the fresh ledger, or when it is told so."""

    def __init__(self, stop_at: int | None = None, stop_when_told: str | None = None) -> None:
        self.stopping = threading.Event()
        self.expected = self.advanced = 0
        self.continued: bool | None = None
        self.told: list[str] = []
        self._stop_at = stop_at
        self._stop_when_told = stop_when_told

    def begin(self, *, continued: bool) -> None:
        self.continued = continued

    def expect(self, offsets: int) -> None:
        self.expected += offsets

    def advance(self, offsets: int) -> None:
        self.advanced += offsets
        if self._stop_at is not None and self.advanced >= self._stop_at:
            self.stopping.set()

    def report(self, event: str, **_details: object) -> None:
        self.told.append(event)
        if event == self._stop_when_told:
            self.stopping.set()


class Place:
    """The topics of a prefix and a ledger that has applied them."""

    def __init__(self, topics: EventTopics, url: str) -> None:
        self.topics = topics
        self.url = url

    def replay(self, watch: Watch, **options: Any) -> ReplayOutcome:
        names = self.topics.topics
        stream = Stream({"bootstrap.servers": self.topics.bootstrap_servers}, names.versjoner, names.gjeldende)
        chosen = ReplayOptions(batch_records_max=BATCH, **options)
        return Replay(stream, Decoder(), chosen, watch.stopping, watch).run(self.url)

    def everything(self) -> dict[str, list[Any]]:
        with open_engine(self.url, read_only=True).connect() as connection:
            return {
                table.name: list(connection.execute(sa.select(table).order_by(*table.primary_key)))
                for table in tables.metadata.sorted_tables
            }


def fill(topics: EventTopics, url: str) -> None:
    """Apply the whole stream to a ledger."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in topics.settings.items():
            patch.setenv(name, value)
        assert run_command(["run", "--until-end", "--ledger", url]) == 0


@pytest.fixture(scope="module")
def topics(kafka: EmbeddedKafka) -> Iterator[EventTopics]:
    """The stream, which all tests read and none adds to."""
    with EventTopics(kafka.bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}") as made:
        made.write(STREAM)
        yield made


@pytest.fixture(scope="module")
def filled(topics: EventTopics, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that has applied it, to copy."""
    path = tmp_path_factory.mktemp("ledger") / "filled.db"
    fill(topics, f"sqlite:///{path}")
    return path


@pytest.fixture
def on_postgresql(topics: EventTopics, postgresql: EmbeddedPostgresql) -> Place:
    url = f"{postgresql.url}?options=-csearch_path%3Dreplay_{uuid.uuid4().hex[:8]}"
    fill(topics, url)
    return Place(topics, url)


@pytest.fixture
def place(topics: EventTopics, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in topics.settings.items():
        monkeypatch.setenv(name, value)
    shutil.copy(filled, tmp_path / "ledger.db")
    return Place(topics, f"sqlite:///{tmp_path / 'ledger.db'}")


def stopped(place: Place, **options: Any) -> Watch:
    """A replay that was stopped after its first batches."""
    before = place.everything()
    watch = Watch(stop_at=2 * BATCH)
    with pytest.raises(StoppedError):
        place.replay(watch, **options)
    assert 0 < watch.advanced < watch.expected
    assert place.everything() == before
    return watch


def test_what_was_read_before_an_interruption_is_not_read_again(place: Place) -> None:
    first = stopped(place)
    again = Watch()
    outcome = place.replay(again)
    assert (first.continued, again.continued, outcome.continued) == (False, True, True)
    assert first.advanced + again.advanced == first.expected
    assert not outcome.differences


def test_another_plan_drops_what_was_left(place: Place) -> None:
    stopped(place)
    assert stopped(place, newest_only=True).continued is False
    assert place.replay(Watch(), newest_only=True).continued is True
    assert place.replay(Watch()).continued is False


@pytest.mark.parametrize("phase", ["comparing", "swapping"])
def test_stopping_before_the_swap_keeps_the_live_ledger(place: Place, phase: str) -> None:
    before = place.everything()
    with pytest.raises(StoppedError):
        place.replay(Watch(stop_when_told=phase))
    assert place.everything() == before
    outcome = place.replay(Watch())
    assert (outcome.events, outcome.continued, outcome.swapped) == (0, True, True)


def test_a_swap_that_others_hold_up_is_tried_again_and_can_be_stopped(on_postgresql: Place) -> None:
    place = on_postgresql
    watch = Watch()
    before = place.everything()
    ended: list[BaseException | ReplayOutcome] = []

    def work() -> None:
        try:
            ended.append(place.replay(watch))
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            ended.append(error)

    with open_engine(place.url).connect() as holder:
        holder.execute(sa.select(tables.trekkpaalegg).limit(1))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        until(lambda: "call failed; retrying" in watch.told or ended, 40)
        assert not ended
        began = time.monotonic()
        watch.stopping.set()
        thread.join(20)
        assert time.monotonic() - began < 10
    assert isinstance(ended[0], StoppedError)
    assert place.everything() == before
    assert place.replay(Watch()).continued is True


def test_a_swap_after_the_lock_was_lost_takes_it_again(on_postgresql: Place, postgresql: EmbeddedPostgresql) -> None:
    """Every connection is cut in the middle, also the one that held the lock."""
    place = on_postgresql
    place.url += f"&application_name={place.topics.prefix}"

    class Cutting(Watch):
        cut = 0

        def advance(self, offsets: int) -> None:
            super().advance(offsets)
            if not self.cut:
                with psycopg.connect(postgresql.url, autocommit=True) as boss:
                    found = boss.execute(
                        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
                        [place.topics.prefix],
                    ).fetchall()
                self.cut = len(found)

    watch = Cutting()
    outcome = place.replay(watch)
    assert watch.cut >= 1
    assert "call failed; retrying" in watch.told
    assert (outcome.swapped, bool(outcome.differences)) == (True, False)


def test_kafka_that_does_not_answer_is_told_in_time_and_can_be_stopped() -> None:
    stopping = threading.Event()
    desk = TopicExtents({"bootstrap.servers": f"127.0.0.1:{free_port()}"}, stopping)
    threading.Timer(0.5, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        desk.extent_of("test-versjoner")
    assert time.monotonic() - began < 5
    impatient = TopicExtents({"bootstrap.servers": f"127.0.0.1:{free_port()}"}, threading.Event(), seconds_max=1.0)
    with pytest.raises(RetryableError, match="check that KAFKA_BROKERS is right"):
        impatient.extent_of("test-versjoner")


def test_a_payout_after_a_replay_withholds_nothing_twice(place: Place, tmp_path: Path, capfd: Any) -> None:
    employer = STREAM[0].trekkpaalegg.trekkpliktig
    people = {each.trekkpaalegg.skyldner for each in STREAM if each.trekkpaalegg.trekkpliktig == employer}
    gross = tmp_path / "gross.csv"
    gross.write_text("skyldner,brutto\n" + "".join(f"{each.reveal()},60000\n" for each in sorted(people)))

    def pay(*options: str) -> dict[str, Any]:
        capfd.readouterr()
        arguments = ["payout", "--ledger", place.url, "--date", "2026-12-15", "--gross", str(gross), "--json"]
        assert run_command([*arguments, "--trekkpliktig", employer, *options]) == 0
        return json.loads(capfd.readouterr().out)

    first = pay()
    recorded = place.everything()
    assert sum(float(each["beloep"]) for each in first["trekk"]) > 0
    assert place.replay(Watch()).swapped
    assert pay() == first
    assert place.everything() == recorded
    by_amount = {row.trekkid for row in recorded["postering"] if row.trekkbeloep and row.beloep == row.trekkbeloep}
    extra = {each["trekkid"]: float(each["beloep"]) for each in pay("--payout", "extra")["trekk"]}
    assert by_amount
    assert [extra[trekkid] for trekkid in by_amount] == [0.0] * len(by_amount)
