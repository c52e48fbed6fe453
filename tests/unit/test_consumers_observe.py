"""Health and metrics of a consumer."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.ledger.port import Changes
from consumers.observe.health import LEDGER_SECONDS_MAX, LOOP_SECONDS_MAX, NO_BROKER, ConsumerHealth
from consumers.observe.port import Applied, LedgerObserver, applied_of
from consumers.observe.prometheus import PrometheusLedgerObserver
from tests.kit.event_stream import incoming_of, make_stream
from tests.kit.waiting import TurnedClock
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

# Health: alive while its loop runs, ready when nothing is missing, and how far it is behind the ends


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


def test_missing_dependencies_are_reported_until_they_are_present(health: ConsumerHealth) -> None:
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


def test_a_ledger_with_a_slow_call_is_reported_missing_before_the_call_fails(
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


def test_it_has_caught_up_once_the_ledger_reached_the_ends_first_seen_and_stays_so(health: ConsumerHealth) -> None:
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


def test_behind_is_reported_by_partition_and_only_of_its_own(health: ConsumerHealth) -> None:
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


# Metrics: reports add up, and no employer or person becomes a label
FIRST, SECOND, THIRD = incoming_of(make_stream(1, 4))[:3]


def value(observer: PrometheusLedgerObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"trekkpaalegg_consumer_{name}", labels)


def observer() -> PrometheusLedgerObserver:
    return PrometheusLedgerObserver(ConsumerHealth())


def test_the_outcomes_of_a_batch_add_up_to_its_events() -> None:
    changes = Changes(inserted=[FIRST, SECOND], corrected=[THIRD], conflicts=[FIRST])
    assert applied_of(9, 2, changes, 5.0) == Applied(2, 0, 1, 1, 5, 2, 5.0)
    assert applied_of(3, 0, Changes(), None) == Applied(known=3)


def test_without_a_history_an_event_counts_when_it_becomes_the_newest() -> None:
    newest = {FIRST.event.trekkid: FIRST}
    assert applied_of(4, 0, Changes(newest=newest), None) == Applied(new=1, known=3)


def test_every_outcome_and_failure_is_there_before_it_happens() -> None:
    made = observer()
    for outcome in ("new", "late", "correction", "conflict", "known"):
        assert value(made, "events_total", outcome=outcome) == 0
    for other in ("kafka", "registry", "ledger"):
        assert value(made, "failures_total", service=other) == 0
        assert value(made, "waiting_seconds", service=other) == 0


def test_batches_are_counted_by_outcome() -> None:
    made = observer()
    made.applied(Applied(5, 1, 1, 1, 2, 3, 1_790_000_000.5))
    made.applied(Applied(new=1))
    made.batch_written(0.2)
    made.overtaken()
    made.undecodable(7, 100)
    made.call_failed(Service.REGISTRY, "no answer")
    assert [value(made, "events_total", outcome=each) for each in ("new", "late", "correction")] == [6, 1, 1]
    assert [value(made, "events_total", outcome=each) for each in ("conflict", "known")] == [1, 2]
    assert (value(made, "undecodable_total"), value(made, "undecodable_messages")) == (3, 7)
    assert value(made, "undecodable_messages_max") == 100
    assert value(made, "newest_applied_timestamp_seconds") == 1_790_000_000.5
    assert (value(made, "batch_seconds_count"), value(made, "overtaken_total")) == (1, 1)
    assert value(made, "failures_total", service="registry") == 1


def test_gauges_show_kafka_as_last_seen() -> None:
    made = observer()
    made.offsets_committed({0: 3, 1: 10})
    made.client_checked(
        ClientStatus(
            partitions=frozenset({0, 1}),
            ends={0: 10, 1: 10, 2: 4},
            partition_count=6,
            is_reachable=True,
            is_member=True,
        )
    )
    assert [value(made, "lag", partition=each) for each in "012"] == [7, 0, None]
    assert (value(made, "partitions"), value(made, "topic_partitions"), value(made, "caught_up")) == (2, 6, 0)
    made.offsets_committed({0: 10})
    made.client_checked(made.health.client_status)
    assert (value(made, "caught_up"), value(made, "lag", partition="0")) == (1, 0)
    assert 'trekkpaalegg_consumer_build_info{version="' in made.exposition().decode()


def test_the_observer_counts_whatever_the_port_reports() -> None:
    reported = {name for each in LedgerObserver.__mro__[:-1] for name in vars(each) if not name.startswith("_")}
    assert reported
    own = {
        name for each in PrometheusLedgerObserver.__mro__ if each not in LedgerObserver.__mro__ for name in vars(each)
    }
    assert reported <= own
