"""How a consumer stands: alive while its loop turns, ready when nothing is missing, behind as far as the ends say."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.observe.health import LEDGER_SECONDS_MAX, LOOP_SECONDS_MAX, NO_BROKER, Standing
from consumers.observe.port import Look, Other
from tests.kit.waiting import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def standing(clock: TurnedClock) -> Standing:
    return Standing(clock)


def look(ends: dict[int, int] | None = None, **changes: Any) -> Look:
    ends = {0: 10, 1: 10} if ends is None else ends
    given = {"partitions": frozenset({0, 1}), "ends": ends, "partition_count": 2}
    return Look(**{**given, "is_reachable": True, "is_member": True, **changes})


def test_it_is_alive_until_its_loop_has_not_turned_for_long(standing: Standing, clock: TurnedClock) -> None:
    clock.seconds += 10 * LOOP_SECONDS_MAX
    assert standing.stuck() == {}
    standing.beat()
    clock.seconds += LOOP_SECONDS_MAX
    assert standing.stuck() == {}
    clock.seconds += 1
    assert standing.stuck() == {"worker": LOOP_SECONDS_MAX + 1}
    standing.looked(look())
    assert standing.stuck() == {}
    clock.seconds += LOOP_SECONDS_MAX + 1
    standing.ended()
    assert standing.stuck() == {}


def test_nothing_that_does_not_answer_makes_it_dead(standing: Standing, clock: TurnedClock) -> None:
    standing.beat()
    for other in (Other.KAFKA, Other.REGISTRY):
        standing.call_begins(other)
        for _ in range(5):
            clock.seconds += LOOP_SECONDS_MAX / 2
            standing.call_failed(other, "no answer")
            assert standing.stuck() == {}


def test_it_says_what_is_missing_until_it_is_there(standing: Standing) -> None:
    assert standing.missing().keys() == {"start"}
    standing.call_begins(Other.LEDGER)
    standing.call_failed(Other.LEDGER, "out of reach")
    assert standing.missing()["ledger"] == "out of reach"
    standing.call_ended(Other.LEDGER)
    standing.looked(look(is_reachable=False, is_member=False))
    assert standing.missing() == {"kafka": NO_BROKER}
    standing.looked(look(is_member=False))
    assert standing.missing().keys() == {"partitions"}
    standing.looked(look())
    assert standing.missing() == {}


def test_a_ledger_that_takes_long_over_a_call_is_missing_without_having_failed(
    standing: Standing, clock: TurnedClock
) -> None:
    standing.looked(look())
    standing.call_begins(Other.LEDGER)
    clock.seconds += LEDGER_SECONDS_MAX
    assert standing.missing() == {}
    clock.seconds += 1
    assert standing.missing() == {"ledger": "has not answered for 16 s"}
    assert standing.waiting_seconds()[Other.LEDGER] == 16
    standing.call_ended(Other.LEDGER)
    assert (standing.missing(), standing.waiting_seconds()[Other.LEDGER]) == ({}, 0)


def test_a_silent_kafka_is_waited_for_since_it_was_silent(standing: Standing, clock: TurnedClock) -> None:
    standing.looked(look())
    clock.seconds += 50
    assert standing.waiting_seconds()[Other.KAFKA] == 0
    standing.looked(look(is_reachable=False))
    clock.seconds += 30
    standing.looked(look(is_reachable=False))
    assert standing.waiting_seconds()[Other.KAFKA] == 30
    standing.looked(look())
    assert standing.waiting_seconds()[Other.KAFKA] == 0


def test_it_has_caught_up_once_the_ledger_has_come_to_the_ends_first_seen_and_stays_so(standing: Standing) -> None:
    standing.ledger_stands({0: 0, 1: 10})
    standing.looked(look({0: 4}))
    standing.ledger_stands({0: 4})
    standing.looked(look({0: 9}))
    assert not standing.is_caught_up, "the end of partition 1 is not known yet"
    standing.looked(look({0: 9, 1: 10}, is_member=False))
    assert not standing.is_caught_up
    standing.looked(look({0: 9, 1: 10}))
    assert standing.is_caught_up
    standing.looked(look({0: 90, 1: 100}))
    assert standing.is_caught_up


def test_a_member_without_partitions_has_nothing_to_catch_up_with(standing: Standing) -> None:
    standing.looked(look({}, partitions=frozenset()))
    assert standing.is_caught_up
    assert (standing.missing(), standing.behind()) == ({}, {})


def test_behind_is_told_by_partition_and_only_of_its_own(standing: Standing) -> None:
    standing.ledger_stands({0: 3, 1: 10, 2: 0})
    standing.looked(look({0: 10, 1: 10, 2: 50}))
    assert standing.behind() == {0: 7, 1: 0}
    standing.looked(look({0: 12, 1: 10}, partitions=frozenset({1})))
    assert standing.behind() == {1: 0}
    standing.looked(look({0: 12, 1: 10}))
    assert standing.behind() == {1: 0}, "where the ledger stands in a partition given up is not known any more"


def test_it_is_stalled_since_the_ledger_moved_last_while_there_is_more(standing: Standing, clock: TurnedClock) -> None:
    standing.ledger_stands({0: 10, 1: 10})
    standing.looked(look())
    clock.seconds += 100
    assert standing.stalled_seconds() == 0
    standing.looked(look())
    standing.looked(look({0: 20, 1: 10}))
    clock.seconds += 30
    standing.looked(look({0: 20, 1: 10}))
    assert standing.stalled_seconds() == 30
    standing.ledger_stands({0: 15})
    assert standing.stalled_seconds() == 0
    clock.seconds += 5
    assert standing.stalled_seconds() == 5
    standing.ledger_stands({0: 20})
    clock.seconds += 5
    assert standing.stalled_seconds() == 0
