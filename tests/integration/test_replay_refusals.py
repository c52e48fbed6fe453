"""`replay` on a real Kafka: what it refuses, leaving the ledger as it was, and what it takes to have it anyway."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
NEWEST = tables.trekkpaalegg


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
def place(make_place: Callable[..., ReplayStage]) -> ReplayStage:
    """The same on SQLite alone: for what no database has a part in."""
    place = make_place()
    place.run()
    return place


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


def test_a_topic_that_ends_before_the_live_ledger_is_refused(place: ReplayStage) -> None:
    offset = tables.ledger_offset
    place.by_hand(sa.update(offset).where(offset.c.partition == 0).values(next_offset=9_000))
    code, told = refused(place)
    assert (code, "the live ledger has come to offset 9000" in told) == (1, True)
    assert "the topic was created again" in told
    assert place.outcome("--from", "2020-01-01")["losses"] == []
    assert place.faults() == {}


def test_a_ledger_of_another_prefix_is_refused(
    place: ReplayStage, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{place.topics.prefix}-other"
    with EventTopics(kafka.bootstrap_servers, other) as topics:
        topics.write(STREAM[:10])
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", other)
    code, told = refused(place)
    assert (code, f"was filled from {place.topics.prefix}-versjoner, and not from {other}-versjoner" in told) == (
        1,
        True,
    )


def test_too_many_undecodable_messages_end_a_replay_before_the_swap(place: ReplayStage) -> None:
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
