"""Health and metrics of a forwarder: ready while nothing is missing, caught up once all is delivered."""

from __future__ import annotations

import pytest

from consumers.observe.health import LEDGER_SECONDS_MAX, LOOP_SECONDS_MAX, NO_BROKER
from consumers.webhook.delivery import ResultKind
from consumers.webhook.observe import (
    ForwarderHealth,
    ForwarderObserver,
    PrometheusForwarderObserver,
)
from consumers.webhook.store import StateCounts
from tests.kit.waiting import TurnedClock
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

NOW = 1_795_000_000.0
AT_END = ClientStatus(partitions=frozenset({0}), ends={0: 10}, partition_count=1, is_reachable=True, is_member=True)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def observer(clock: TurnedClock) -> PrometheusForwarderObserver:
    return PrometheusForwarderObserver(ForwarderHealth(clock), lambda: NOW + clock.seconds)


def value(observer: PrometheusForwarderObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"trekkpaalegg_webhook_{name}", labels)


def test_it_misses_state_and_kafka_until_they_were_reached(observer: PrometheusForwarderObserver) -> None:
    assert observer.health.missing() == {"start": "state and Kafka have not been reached yet"}
    observer.client_checked(AT_END)
    assert observer.health.missing() == {}
    observer.client_checked(ClientStatus(partitions=frozenset({0}), is_member=True))
    assert observer.health.missing() == {"kafka": NO_BROKER}


@pytest.mark.parametrize("service", [Service.STATE, Service.RECEIVER, Service.REGISTRY, Service.KAFKA])
def test_what_fails_is_missing_and_waited_for_until_it_answers(
    observer: PrometheusForwarderObserver, clock: TurnedClock, service: Service
) -> None:
    observer.beat()
    observer.client_checked(AT_END)
    for _ in range(3):
        observer.call_failed(service, "no answer")
        clock.seconds += LOOP_SECONDS_MAX
    assert observer.health.missing() == {service.value: "no answer"}
    assert observer.health.stuck() == {}, "who waits between two attempts is alive"
    assert value(observer, "waiting_seconds", service=service.value) == 3 * LOOP_SECONDS_MAX
    assert (value(observer, "failures_total", service=service.value), value(observer, "ready")) == (3, 0)
    observer.call_ended(service)
    assert (observer.health.missing(), value(observer, "ready")) == ({}, 1)
    assert value(observer, "waiting_seconds", service=service.value) == 0


def test_a_state_that_does_not_answer_is_missing_before_it_refuses(
    observer: PrometheusForwarderObserver, clock: TurnedClock
) -> None:
    observer.client_checked(AT_END)
    observer.call_begins(Service.STATE)
    clock.seconds += LEDGER_SECONDS_MAX + 1
    assert "state" in observer.health.missing()


def test_it_has_caught_up_once_all_is_read_and_nothing_waits_and_stays_so(
    observer: PrometheusForwarderObserver,
) -> None:
    health = observer.health
    observer.client_checked(AT_END)
    observer.pending(0)
    assert not health.is_caught_up, "not all is read"
    observer.stored_to({0: 10})
    observer.client_checked(AT_END)
    observer.pending(2)
    assert not health.is_caught_up, "two are to be delivered"
    observer.pending(0)
    observer.pending(5)
    assert health.is_caught_up


def test_lag_is_the_number_of_unread_offsets(observer: PrometheusForwarderObserver, clock: TurnedClock) -> None:
    observer.stored_to({0: 4})
    observer.client_checked(AT_END)
    clock.seconds += 60
    assert (value(observer, "lag", partition="0"), value(observer, "stalled_seconds")) == (6, 60)


def test_attempts_are_counted_by_outcome(observer: PrometheusForwarderObserver) -> None:
    assert [value(observer, "attempts_total", outcome=each.value) for each in ResultKind] == [0] * len(ResultKind)
    for meaning in (ResultKind.DELIVERED, ResultKind.DELIVERED, ResultKind.REFUSED):
        observer.attempted(meaning)
    observer.stored(3)
    observer.undecodable()
    assert value(observer, "attempts_total", outcome="delivered") == 2
    assert value(observer, "attempts_total", outcome="refused") == 1
    assert (value(observer, "read_total"), value(observer, "undecodable_total")) == (3, 1)


def test_what_waits_goes_on_to_age_while_nothing_is_reported(
    observer: PrometheusForwarderObserver, clock: TurnedClock
) -> None:
    assert (value(observer, "oldest_waiting_seconds"), value(observer, "oldest_parked_seconds")) == (0, 0)
    observer.counts(StateCounts(7, 2, 3, NOW + clock.seconds - 10, NOW + clock.seconds - 20), 100)
    clock.seconds += 5
    assert [value(observer, f"{name}_events") for name in ("waiting", "parked")] == [7, 2]
    assert (value(observer, "events_behind_parked"), value(observer, "parked_events_max")) == (3, 100)
    assert (value(observer, "oldest_waiting_seconds"), value(observer, "oldest_parked_seconds")) == (15, 25)


def test_without_a_health_port_nothing_listens() -> None:
    nobody: ForwarderObserver = ForwarderObserver()
    nobody.beat()
    nobody.client_checked(AT_END)
    nobody.stored_to({0: 1})
    nobody.stored(1)
    nobody.attempted(ResultKind.GONE)
    nobody.undecodable()
    nobody.pending(1)
    nobody.counts(StateCounts(), 1)
    for tell in (nobody.call_begins, nobody.call_ended):
        tell(Service.STATE)
    nobody.call_failed(Service.STATE, "no answer")
