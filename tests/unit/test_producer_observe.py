"""The producer's metrics: reports add up, gauges age, and no employer or person becomes a label."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from producer.detect.decide import Counts, Decision
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    Publication,
    Rejected,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.errors import SuspendedError
from producer.observe.health import ProducerHealth
from producer.observe.port import LaneMetrics, Observer
from producer.observe.prometheus import PrometheusObserver
from tests.kit.waiting import TurnedClock
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.identifiers import Foedselsnummer

NOW = 1_795_000_000.0


def value(observer: PrometheusObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"trekkpaalegg_{name}", labels)


def order(trekkid: str, *, age_seconds: float = 60, kidnummer: str = "1234567897") -> Trekkpaalegg:
    return Trekkpaalegg(
        trekkid=trekkid,
        trekkversjon=1,
        sekvensnummer=1,
        opprettet=int((NOW - age_seconds) * 1_000_000),
        saksnummer=None,
        trekkpliktig="312345609",
        skyldner=Foedselsnummer("01810112345"),
        trekkstatus=Trekkstatus.AKTIV,
        trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal(1), None),),
        betalingsinformasjon=Betalingsinformasjon("312345617", kidnummer, "12345678903"),
    )


def lane_metrics(**changes: Any) -> LaneMetrics:
    dicts = ("trekkpliktige", "oldest_read_seconds", "oldest_comparison_seconds", "observations_waiting")
    numbers = ("orders", "orders_waiting", "versions_missing", "position_max")
    return LaneMetrics(**{**{name: {} for name in dicts}, **dict.fromkeys(numbers, 0), **changes})


def decision(
    *publications: Publication, rejected: list[Rejected] | None = None, counts: Counts | None = None
) -> Decision:
    return Decision(OrderState(1), list(publications), rejected or [], counts=counts or Counts())


def test_events_are_counted_by_origin_and_records_by_reason() -> None:
    observer = PrometheusObserver(now=lambda: NOW)
    rejected = Rejected("312345609", b"{}", b"hash", RejectionReason.MISSING_FIELD, "trekkid", "missing")
    decisions = [
        decision(Publication(order("1"), Origin.POLL), rejected=[rejected], counts=Counts(gaps_filled=1)),
        decision(
            Publication(order("2"), Origin.GAPFILL, late=True, current=False),
            Publication(order("2"), Origin.POLL),
            rejected=[rejected],
            counts=Counts(gaps_missing=2, gaps_given_up=3, changed_content=4, version_jumps=5),
        ),
        decision(Publication(order("3"), Origin.RELEASE, correction=1)),
        decision(),
    ]
    observer.published(0, decisions)
    assert value(observer, "events_total", origin="poll") == 2
    assert value(observer, "events_total", origin="gapfill") == 1
    assert value(observer, "late_events_total") == 1
    assert value(observer, "corrections_total") == 1
    assert value(observer, "quarantined_total", reason="missing_field") == 2
    assert [value(observer, "gap_versions_total", outcome=each) for each in ("filled", "missing", "given_up")] == [
        1,
        2,
        3,
    ]
    assert value(observer, "changed_content_total") == 4
    assert value(observer, "version_jumps_total") == 5


def test_the_delay_is_that_of_the_oldest_newest_version() -> None:
    observer = PrometheusObserver(now=lambda: NOW)
    decisions = [
        decision(Publication(order("1", age_seconds=20), Origin.POLL)),
        decision(
            Publication(order("2", age_seconds=9000), Origin.GAPFILL, current=False),
            Publication(order("2", age_seconds=50), Origin.POLL),
        ),
    ]
    observer.published(0, decisions)
    assert value(observer, "delay_seconds_sum") == pytest.approx(50)


def test_oddities_are_counted_by_kind_and_of_big_batches_in_a_sample() -> None:
    observer = PrometheusObserver(now=lambda: NOW)
    decisions = [
        decision(Publication(order(str(number), kidnummer="1234567890"), Origin.BACKFILL)) for number in range(10_000)
    ]
    observer.published(0, decisions)
    checked = value(observer, "checked_total")
    assert checked is not None
    assert 100 < checked <= 250
    assert value(observer, "warnings_total", kind="kidnummer_check_digit") == checked
    observer.published(0, decisions[:3])
    assert value(observer, "checked_total") == checked + 3


def test_gauges_are_summed_over_lanes_and_the_worst_age_is_shown() -> None:
    clock = TurnedClock()
    observer = PrometheusObserver(monotonic=clock)
    for lane in (0, 1):
        observer.lane_acquired(lane, 1, 1)
    observer.lane_metrics(
        0,
        lane_metrics(
            trekkpliktige={"healthy": 2},
            oldest_read_seconds={"healthy": 10.0},
            oldest_comparison_seconds={"healthy": 50_000.0},
            orders=5,
            observations_waiting={"urgent": 1, "bulk": 20},
            position_max=70,
        ),
    )
    clock.seconds += 5
    observer.lane_metrics(
        1,
        lane_metrics(
            trekkpliktige={"healthy": 1, "suspended": 4},
            oldest_read_seconds={"healthy": 3.0, "suspended": 900.0},
            oldest_comparison_seconds={"healthy": 90_000.0},
            orders=6,
            orders_waiting=2,
            versions_missing=1,
            observations_waiting={"bulk": 300},
            position_max=60,
        ),
    )
    clock.seconds += 100
    assert value(observer, "lanes") == 2
    assert [value(observer, "trekkpliktige", **{"class": each}) for each in ("healthy", "failing", "suspended")] == [
        3,
        0,
        4,
    ]
    assert value(observer, "oldest_reading_age_seconds", **{"class": "healthy"}) == 115
    assert value(observer, "oldest_reading_age_seconds", **{"class": "suspended"}) == 1000
    assert value(observer, "oldest_reading_age_seconds", **{"class": "failing"}) is None
    assert value(observer, "oldest_comparison_age_seconds", **{"class": "healthy"}) == 90_100
    assert (value(observer, "orders"), value(observer, "missing_versions"), value(observer, "position")) == (11, 1, 70)
    assert value(observer, "orders_waiting") == 2
    assert [value(observer, "observations_waiting", row=each) for each in ("urgent", "bulk")] == [1, 320]


def test_the_age_of_the_oldest_answer_of_altinn_grows_and_is_reported_only_where_altinn_is_asked() -> None:
    clock = TurnedClock()
    observer = PrometheusObserver(monotonic=clock)
    for lane in (0, 1):
        observer.lane_acquired(lane, 1, 1)
    observer.lane_metrics(0, lane_metrics())
    assert value(observer, "oldest_pull_age_seconds", **{"class": "healthy"}) is None
    observer.lane_metrics(0, lane_metrics(oldest_pull_seconds={"healthy": 10.0}))
    observer.lane_metrics(1, lane_metrics(oldest_pull_seconds={"healthy": 20.0, "suspended": 900.0}))
    clock.seconds += 100
    assert value(observer, "oldest_pull_age_seconds", **{"class": "healthy"}) == 120
    assert value(observer, "oldest_pull_age_seconds", **{"class": "suspended"}) == 1000
    assert value(observer, "oldest_pull_age_seconds", **{"class": "failing"}) is None


def test_the_metrics_of_a_lane_end_with_it() -> None:
    observer = PrometheusObserver()
    observer.lane_acquired(0, 1, 1)
    observer.lane_metrics(0, lane_metrics(orders=5))
    observer.lane_released(0)
    observer.lane_metrics(0, lane_metrics(orders=5))
    assert (value(observer, "lanes"), value(observer, "orders")) == (0, 0)


def test_calls_tokens_transactions_and_readings_are_counted_by_outcome() -> None:
    observer = PrometheusObserver()
    observer.call_finished("list", "200", 0.2)
    observer.call_finished("list", "timeout", 10)
    observer.token_fetched("retry")
    observer.transaction_finished("committed", 0.01)
    for error in (None, RetryableError("x"), SuspendedError("x"), FatalError("x"), ValueError("x")):
        observer.reading_ended(0, "312345609", error, 2)
    observer.position_ahead("312345609", 10, 5)
    assert value(observer, "calls_total", operation="list", status="timeout") == 1
    assert value(observer, "call_seconds_count", operation="list") == 2
    assert value(observer, "tokens_total", outcome="retry") == 1
    assert value(observer, "transactions_total", outcome="committed") == 1
    for outcome in ("ok", "failed", "suspended", "fatal", "unexpected"):
        assert value(observer, "readings_total", outcome=outcome) == 1
    assert value(observer, "vanished_orders_total") == 10
    assert value(observer, "positions_ahead_total") == 1


def test_what_is_handed_over_is_counted_by_row_and_lowered_versions_too() -> None:
    observer = PrometheusObserver()
    assert [value(observer, "observations_total", row=each) for each in ("urgent", "bulk")] == [0, 0]
    assert value(observer, "lowered_versions_total") == 0
    observer.handed_over("bulk", 500)
    observer.handed_over("bulk", 1)
    observer.handed_over("urgent", 2)
    observer.versions_lowered("312345609", 3)
    observer.unrecorded(4)
    assert value(observer, "unrecorded_elements_total") == 4
    assert [value(observer, "observations_total", row=each) for each in ("urgent", "bulk")] == [2, 501]
    assert value(observer, "lowered_versions_total") == 3


def test_no_employer_or_person_appears_in_the_exposition() -> None:
    observer = PrometheusObserver(now=lambda: NOW)
    observer.lane_acquired(0, 1, 1)
    observer.published(0, [decision(Publication(order("trekk-1"), Origin.POLL))])
    observer.versions_lowered("312345609", 1)
    observer.reading_ended(0, "312345609", None, 0)
    observer.position_ahead("312345609", 10, 5)
    text = observer.exposition().decode()
    for hidden in ("312345609", "312345617", "01810112345", "trekk-1"):
        assert hidden not in text


def test_two_observers_do_not_share_their_counts() -> None:
    first, second = PrometheusObserver(), PrometheusObserver()
    first.token_fetched("ok")
    assert value(second, "tokens_total", outcome="ok") == 0


def test_series_that_alerts_use_exist_before_the_first_event() -> None:
    """Prometheus sees no increase in a series that begins with its first event."""
    observer = PrometheusObserver()
    for outcome in ("ok", "retry", "suspended", "fatal"):
        assert value(observer, "tokens_total", outcome=outcome) == 0
    for outcome in ("committed", "aborted", "fenced", "unknown"):
        assert value(observer, "transactions_total", outcome=outcome) == 0
    for reason in RejectionReason:
        assert value(observer, "quarantined_total", reason=reason.value) == 0
    for outcome in ("filled", "missing", "given_up"):
        assert value(observer, "gap_versions_total", outcome=outcome) == 0
    for outcome in ("pull_failed", "pull_refused"):
        assert value(observer, "notifications_total", outcome=outcome) == 0
    for outcome in ("ok", "failed", "suspended", "fatal", "unexpected"):
        assert value(observer, "readings_total", outcome=outcome) == 0


def test_the_lanes_of_the_application_are_reported_beside_those_of_the_process() -> None:
    observer = PrometheusObserver()
    assert value(observer, "application_lanes") == 0
    observer.lanes_found(6)
    observer.lane_acquired(3, 1, 1)
    assert (value(observer, "application_lanes"), value(observer, "lanes")) == (6, 1)


def test_health_and_settings_are_metrics_too() -> None:
    observer, clock = PrometheusObserver(now=lambda: NOW), TurnedClock()
    health = ProducerHealth(monotonic=clock)
    observer.observe_process(
        health, poll_interval_seconds=300, reconcile_interval_seconds=86_400, pull_interval_seconds=30
    )
    health.heartbeat("lane-0", 90)
    assert (value(observer, "ready"), value(observer, "stuck_loops")) == (1, 0)
    clock.seconds += 91
    health.set_ready("lane-1", "not acquired yet")
    assert (value(observer, "ready"), value(observer, "stuck_loops")) == (0, 1)
    assert value(observer, "pull_interval_seconds") == 30
    assert value(observer, "reconcile_interval_seconds") == 86_400
    assert (value(observer, "poll_interval_seconds"), value(observer, "clock_timestamp_seconds")) == (300, NOW)
    text = observer.exposition().decode()
    assert 'trekkpaalegg_build_info{version="' in text
    assert "process_start_time_seconds" in text


def test_the_observer_counts_whatever_the_port_reports() -> None:
    told = {name for name in vars(Observer) if not name.startswith("_")}
    assert told
    assert told <= set(vars(PrometheusObserver))
