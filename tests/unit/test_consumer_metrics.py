"""Metrics of a consumer: what is told adds up, and no employer or person becomes a label."""

from __future__ import annotations

from consumers.ledger.port import Changes
from consumers.observe.health import ConsumerHealth
from consumers.observe.port import Applied, LedgerObserver, applied_of
from consumers.observe.prometheus import PrometheusLedgerObserver
from tests.kit.event_stream import incoming_of, make_stream
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

FIRST, SECOND, THIRD = incoming_of(make_stream(1, 4))[:3]


def value(observer: PrometheusLedgerObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"trekkpaalegg_consumer_{name}", labels)


def observer() -> PrometheusLedgerObserver:
    return PrometheusLedgerObserver(ConsumerHealth())


def test_what_became_of_a_batch_adds_up_to_its_events() -> None:
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
