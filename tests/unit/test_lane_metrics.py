"""A lane's metrics, from its schedule and its state."""

from __future__ import annotations

from producer.domain.state import LaneState, OrderState, TrekkpliktigPosition
from producer.lane.lane import metrics_of
from producer.lane.schedule import Schedule

ONE, TWO = "311111111", "322222222"


def test_metrics_are_summed_over_all_employers():
    schedule = Schedule(300.0, lambda: 1.0)
    schedule.set_trekkpliktige([ONE, TWO], 100.0)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0)
    state = LaneState()
    state.ensure(ONE).position = TrekkpliktigPosition(7)
    state.ensure(ONE).remember(b"A", OrderState(9, bytes(8), 1, missing=((1, 2), (4, 4))))
    state.ensure(ONE).remember(b"B", OrderState(1, bytes(8), 1))
    state.ensure(TWO).position = TrekkpliktigPosition(5)
    state.ensure(TWO).remember(b"C", OrderState(3, bytes(8), 1, missing=((2, 2),)))
    metrics = metrics_of(schedule, state, 130.0)
    assert metrics.trekkpliktige == {"healthy": 1, "failing": 1, "suspended": 0, "suspended_by_operator": 0}
    assert metrics.oldest_read_seconds == {
        "healthy": 30.0,
        "failing": 30.0,
        "suspended": 0.0,
        "suspended_by_operator": 0.0,
    }
    assert (metrics.orders, metrics.versions_missing, metrics.position_max) == (3, 4, 7)


def test_a_lane_that_knows_nothing_has_metrics_too():
    metrics = metrics_of(Schedule(300.0, lambda: 1.0), LaneState(), 130.0)
    assert (metrics.orders, metrics.versions_missing, metrics.position_max) == (0, 0, 0)
