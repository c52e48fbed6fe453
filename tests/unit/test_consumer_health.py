"""How a consumer stands: alive while its loop turns, ready when nothing is missing, behind as far as the ends say."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.observe.health import LEDGER_SECONDS_MAX, LOOP_SECONDS_MAX, NO_BROKER, ConsumerHealth
from tests.kit.waiting import TurnedClock
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def health(clock: TurnedClock) -> ConsumerHealth:
    return ConsumerHealth(clock)


def status(ends: dict[int, int] | None = None, **changes: Any) -> ClientStatus:
    ends = {0: 10, 1: 10} if ends is None else ends
    given = {"partitions": frozenset({0, 1}), "ends": ends, "partition_count": 2}
    return ClientStatus(**{**given, "is_reachable": True, "is_member": True, **changes})


def test_it_is_alive_until_its_loop_has_not_turned_for_long(health: ConsumerHealth, clock: TurnedClock) -> None:
    clock.seconds += 10 * LOOP_SECONDS_MAX
    assert health.stuck() == {}
    health.beat()
    clock.seconds += LOOP_SECONDS_MAX
    assert health.stuck() == {}
    clock.seconds += 1
    assert health.stuck() == {"worker": LOOP_SECONDS_MAX + 1}
    health.client_checked(status())
    assert health.stuck() == {}
    clock.seconds += LOOP_SECONDS_MAX + 1
    health.ended()
    assert health.stuck() == {}


def test_nothing_that_does_not_answer_makes_it_dead(health: ConsumerHealth, clock: TurnedClock) -> None:
    health.beat()
    for service in (Service.KAFKA, Service.REGISTRY):
        health.call_begins(service)
        for _ in range(5):
            clock.seconds += LOOP_SECONDS_MAX / 2
            health.call_failed(service, "no answer")
            assert health.stuck() == {}


def test_it_says_what_is_missing_until_it_is_there(health: ConsumerHealth) -> None:
    assert health.missing().keys() == {"start"}
    health.call_begins(Service.LEDGER)
    health.call_failed(Service.LEDGER, "out of reach")
    assert health.missing()["ledger"] == "out of reach"
    health.call_ended(Service.LEDGER)
    health.client_checked(status(is_reachable=False, is_member=False))
    assert health.missing() == {"kafka": NO_BROKER}
    health.client_checked(status(is_member=False))
    assert health.missing().keys() == {"partitions"}
    health.client_checked(status())
    assert health.missing() == {}


def test_a_ledger_that_takes_long_over_a_call_is_missing_without_having_failed(
    health: ConsumerHealth, clock: TurnedClock
) -> None:
    health.client_checked(status())
    health.call_begins(Service.LEDGER)
    clock.seconds += LEDGER_SECONDS_MAX
    assert health.missing() == {}
    clock.seconds += 1
    assert health.missing() == {"ledger": "has not answered for 16 s"}
    assert health.waiting_seconds()[Service.LEDGER] == 16
    health.call_ended(Service.LEDGER)
    assert (health.missing(), health.waiting_seconds()[Service.LEDGER]) == ({}, 0)


def test_a_silent_kafka_is_waited_for_since_it_was_silent(health: ConsumerHealth, clock: TurnedClock) -> None:
    health.client_checked(status())
    clock.seconds += 50
    assert health.waiting_seconds()[Service.KAFKA] == 0
    health.client_checked(status(is_reachable=False))
    clock.seconds += 30
    health.client_checked(status(is_reachable=False))
    assert health.waiting_seconds()[Service.KAFKA] == 30
    health.client_checked(status())
    assert health.waiting_seconds()[Service.KAFKA] == 0


def test_it_has_caught_up_once_the_ledger_has_come_to_the_ends_first_seen_and_stays_so(health: ConsumerHealth) -> None:
    health.offsets_committed({0: 0, 1: 10})
    health.client_checked(status({0: 4}))
    health.offsets_committed({0: 4})
    health.client_checked(status({0: 9}))
    assert not health.is_caught_up, "the end of partition 1 is not known yet"
    health.client_checked(status({0: 9, 1: 10}, is_member=False))
    assert not health.is_caught_up
    health.client_checked(status({0: 9, 1: 10}))
    assert health.is_caught_up
    health.client_checked(status({0: 90, 1: 100}))
    assert health.is_caught_up


def test_a_member_without_partitions_has_nothing_to_catch_up_with(health: ConsumerHealth) -> None:
    health.client_checked(status({}, partitions=frozenset()))
    assert health.is_caught_up
    assert (health.missing(), health.behind()) == ({}, {})


def test_behind_is_told_by_partition_and_only_of_its_own(health: ConsumerHealth) -> None:
    health.offsets_committed({0: 3, 1: 10, 2: 0})
    health.client_checked(status({0: 10, 1: 10, 2: 50}))
    assert health.behind() == {0: 7, 1: 0}
    health.client_checked(status({0: 12, 1: 10}, partitions=frozenset({1})))
    assert health.behind() == {1: 0}
    health.client_checked(status({0: 12, 1: 10}))
    assert health.behind() == {1: 0}, "where the ledger stands in a partition given up is not known any more"


def test_it_is_stalled_since_the_ledger_moved_last_while_there_is_more(
    health: ConsumerHealth, clock: TurnedClock
) -> None:
    health.offsets_committed({0: 10, 1: 10})
    health.client_checked(status())
    clock.seconds += 100
    assert health.stalled_seconds() == 0
    health.client_checked(status())
    health.client_checked(status({0: 20, 1: 10}))
    clock.seconds += 30
    health.client_checked(status({0: 20, 1: 10}))
    assert health.stalled_seconds() == 30
    health.offsets_committed({0: 15})
    assert health.stalled_seconds() == 0
    clock.seconds += 5
    assert health.stalled_seconds() == 5
    health.offsets_committed({0: 20})
    clock.seconds += 5
    assert health.stalled_seconds() == 0
