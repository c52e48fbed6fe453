"""Priority: while there are urgent readings, few lanes publish others, and in small transactions; otherwise all do."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest

import producer.lane.priority
from producer.domain.trekkpaalegg import Origin
from producer.lane.priority import (
    BULK_CALLS_WHEN_URGENT_MAX,
    LANES_WHEN_URGENT_MAX,
    MISSED_MAX,
    URGENT_RECENTLY_SECONDS,
    TransactionPriority,
)
from producer.lane.reading import TRANSACTION_ELEMENTS_MAX, TRANSACTION_ELEMENTS_WHEN_URGENT_MAX, Reading
from tests.kit.stages.lane_stage import LaneStage
from tests.kit.waiting import TurnedClock

ONE, TWO = "311111111", "322222222"


@pytest.fixture
def clock():
    return TurnedClock()


@pytest.fixture
def told(clock):
    """Of an urgent reading, just now."""
    priority = TransactionPriority(clock)
    priority.urgent_began()
    return priority


def ready_of(size=1, *, urgent=False):
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    reading.chunk, reading.urgent = [None] * size, urgent
    return reading


def choose(priority, opened, *ready, missed=0):
    """What a lane's next transaction holds; it is under way until `opened` is closed."""
    return opened.enter_context(priority.chosen(ready, missed))


def test_any_number_of_lanes_publish_large_transactions_when_nothing_urgent_came_lately(clock, told):
    clock.seconds += URGENT_RECENTLY_SECONDS
    ordinary = ready_of(TRANSACTION_ELEMENTS_MAX)
    with ExitStack() as opened:
        for _ in range(3 * LANES_WHEN_URGENT_MAX):
            assert choose(told, opened, ordinary) == [ordinary]
    assert len(ordinary.chunk) == TRANSACTION_ELEMENTS_MAX
    assert told.bulk_calls_max() == sys.maxsize


def test_few_lanes_at_a_time_publish_small_transactions_while_urgent_readings_come(told):
    ordinary, other = ready_of(TRANSACTION_ELEMENTS_MAX), ready_of()
    with ExitStack() as opened:
        for _ in range(LANES_WHEN_URGENT_MAX):
            assert choose(told, opened, ordinary, other) == [ordinary]
        assert choose(told, opened, ordinary, other) == []
    assert len(ordinary.chunk) == TRANSACTION_ELEMENTS_WHEN_URGENT_MAX
    with ExitStack() as opened:
        assert choose(told, opened, ordinary), "a turn was not given back"
    assert told.bulk_calls_max() == BULK_CALLS_WHEN_URGENT_MAX


def test_what_is_urgent_needs_no_turn_and_is_published_whole(told):
    urgent, ordinary = ready_of(TRANSACTION_ELEMENTS_MAX, urgent=True), ready_of()
    with ExitStack() as opened:
        for _ in range(LANES_WHEN_URGENT_MAX):
            assert choose(told, opened, urgent, ordinary) == [urgent]
        for _ in range(LANES_WHEN_URGENT_MAX):
            assert choose(told, opened, urgent, ordinary, missed=1) == [urgent, ordinary]
        assert choose(told, opened, urgent, ordinary, missed=1) == [urgent]
    assert len(urgent.chunk) == TRANSACTION_ELEMENTS_MAX


def test_lane_that_never_has_a_turn_publishes_without_one_in_the_end(told):
    urgent, ordinary = ready_of(urgent=True), ready_of()
    with ExitStack() as opened:
        for _ in range(LANES_WHEN_URGENT_MAX):
            choose(told, opened, ordinary)
        assert choose(told, opened, urgent, ordinary, missed=MISSED_MAX - 1) == [urgent]
        assert choose(told, opened, urgent, ordinary, missed=MISSED_MAX) == [urgent, ordinary]


def test_lane_without_a_turn_publishes_what_is_urgent_and_the_rest_when_it_has_one(monkeypatch):
    monkeypatch.setattr(producer.lane.priority, "MISSED_MAX", sys.maxsize)
    monkeypatch.setattr(producer.lane.priority, "URGENT_RECENTLY_SECONDS", float("inf"))
    with LaneStage([ONE], served=[ONE, TWO]) as stage, ExitStack() as others:
        stage.start()
        stage.read(ONE)
        stage.priority.urgent_began()
        for _ in range(LANES_WHEN_URGENT_MAX):  # by other lanes
            assert choose(stage.priority, others, ready_of())
        rest = stage.source.create(TWO)
        stage.lane.set_trekkpliktige([ONE, TWO])
        stage.wait_until(lambda: sum(call.trekkpliktig == TWO for call in stage.source.calls) == 2)
        urgent = stage.source.create(ONE)
        stage.read(ONE)
        assert [each.trekkid for each in stage.versjoner()] == [urgent.trekkid]
        others.close()
        stage.wait_until(lambda: len(stage.versjoner()) == 2)
        assert stage.versjoner()[-1].trekkid == rest.trekkid
