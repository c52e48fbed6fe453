"""What a replay refuses and says, without a database: losses, times, and the text of an outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from consumers.apply.decide import Rewriting, decide
from consumers.cli.replay import moment_of, text_of
from consumers.ledger.port import StoredVersion
from consumers.replay.replay import ReplayOutcome, losses_of, missing_of
from consumers.replay.target import Differences, TableDifference
from consumers.replay.topic import Extent
from tests.kit.event_stream import incoming_of, make_stream
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.incoming import Coordinates

TOPIC = "orders-versjoner"
CURRENT = "orders-gjeldende"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
WHOLE = Extent({0: 0, 1: 0}, {0: 100, 1: 50}, "cluster")
CUT = Extent({0: 30, 1: 0}, {0: 100, 1: 50}, "cluster")
SAME = ReplayOutcome(7, 0, False, [], 0, 0, Differences((), ()), swapped=True)


def losses(extent: Extent, next_offsets: dict[int, int], live: dict[tuple[str, int], int], **how: bool) -> list[str]:
    extents = {TOPIC: extent, CURRENT: WHOLE}
    return losses_of(TOPIC, extents, next_offsets, live, **{"copied": False, **how})


def test_a_whole_topic_loses_nothing_wherever_the_live_ledger_is() -> None:
    for live in ({}, {(TOPIC, 0): 100, (TOPIC, 1): 3}, {(CURRENT, 0): 100}, {(TOPIC, 0): 1, (CURRENT, 0): 1}):
        assert losses(WHOLE, {0: 0, 1: 0}, live) == []


@pytest.mark.parametrize(("next_offset", "lost"), [(0, True), (29, True), (30, False), (90, False)])
def test_messages_that_were_deleted_before_they_were_read_are_lost(next_offset: int, *, lost: bool) -> None:
    assert bool(losses(CUT, {0: next_offset, 1: 0}, {})) == lost
    assert bool(losses(CUT, {0: next_offset, 1: 0}, {}, copied=True)) == lost
    assert missing_of(CUT, {0: next_offset, 1: 0}) == ({0: 30} if lost else {})


def test_a_live_ledger_beyond_the_end_of_a_topic_is_kept_only_by_a_copy() -> None:
    for live in ({(TOPIC, 0): 101}, {(TOPIC, 2): 1}, {(CURRENT, 1): 51}):
        assert len(losses(WHOLE, {0: 0, 1: 0}, live)) == 1
        assert losses(WHOLE, {0: 0, 1: 0}, live, copied=True) == []


def test_a_live_ledger_of_other_topics_alone_is_no_ledger_of_these() -> None:
    (loss,) = losses(WHOLE, {0: 0, 1: 0}, {("other-versjoner", 0): 5}, copied=True)
    assert loss == f"the live ledger was filled from other-versjoner, and not from {TOPIC}"
    assert losses(WHOLE, {0: 0, 1: 0}, {("other-versjoner", 0): 5, (TOPIC, 0): 5}) == []


def test_an_event_is_trusted_if_the_ledger_has_passed_it_without_refusing_it() -> None:
    rewriting = Rewriting({(TOPIC, 0): 10}, frozenset({Coordinates(TOPIC, 0, 4)}))
    trusted = [offset for offset in range(12) if rewriting.trusts(Coordinates(TOPIC, 0, offset))]
    assert trusted == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not rewriting.trusts(Coordinates(TOPIC, 1, 0))


def test_a_trusted_event_replaces_what_is_stored_and_another_is_a_conflict() -> None:
    (event,) = incoming_of(make_stream(1, 1, versions_max=1), topic=TOPIC)
    other = StoredVersion(msgspec.structs.replace(event.event, saksnummer="by hand"), False, 0)
    newest = {event.event.trekkid: (1, 0)}
    changes = decide([event], newest, {event.version: other}, rewriting=Rewriting({(TOPIC, 0): 1}, frozenset()))
    assert (changes.corrected, changes.newest, changes.conflicts) == ([event], {event.event.trekkid: event}, [])
    for refused in (None, Rewriting({(TOPIC, 0): 0}, frozenset())):
        changes = decide([event], newest, {event.version: other}, rewriting=refused)
        assert (changes.corrected, changes.newest, changes.conflicts) == ([], {}, [event])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("beginning", None),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T06:30", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
        ("2026-11-01T00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T00:00+01:00", datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=1)))),
        ("1970-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_without_an_offset_are_utc(text: str, moment: datetime | None) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "now", "1.11.2026", "2026-13-01", "2026-11-24", "1969-12-31", "0001-01-01T00:00+14:00"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--from: give"):
        moment_of(text, NOW)


def test_an_outcome_is_reported_in_lines() -> None:
    assert text_of(SAME, history=True) == (
        "7 events replayed\nthe live ledger was equal in every replayed row\nswapped in\n"
    )
    differing = Differences((TableDifference("trekkpaalegg", 1, 2, 3),), ("trekkpaalegg (trekkid 4): differs in x",))
    told = text_of(
        ReplayOutcome(9, 2, True, ["orders/0 begins at 5"], 3, 4, differing, swapped=False), history=False
    ).splitlines()
    assert told == [
        "9 events replayed, continuing an interrupted one",
        "LOST: orders/0 begins at 5",
        "2 could not be decoded; `trekkpaalegg-consumer retry` tries them again",
        "trekkpaalegg: 1 rows only in the live ledger, 2 only in the replayed one, 3 differ",
        "  trekkpaalegg (trekkid 4): differs in x",
        "the live ledger was 3 offsets ahead of it then, which may explain all differences",
        "the live ledger was 4 offsets behind it then, which may explain all differences",
        "newest versions only: the replayed ledger has no history",
        "not swapped in: the live ledger is unchanged",
    ]
