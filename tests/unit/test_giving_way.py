"""While urgent readings come, few lanes publish what is not urgent, and little of it at once; else all do, and much."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from producer.giving_way import (
    LANES_WHEN_TOLD_MAX,
    THREAD_TURN_SECONDS,
    THREAD_TURN_WHEN_TOLD_SECONDS,
    TOLD_LATELY_SECONDS,
    GivingWay,
)
from producer.plan import TRANSACTION_ELEMENTS_MAX, TRANSACTION_ELEMENTS_WHEN_TOLD_MAX
from sandbox.lane_stage import LaneStage

ONE, TWO = "311111111", "322222222"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def taken(giving_way, opened, *, wanted=True):
    return opened.enter_context(giving_way.turn(wanted=wanted, waits=False))


def test_any_number_of_lanes_publish_large_transactions_when_nothing_urgent_came_lately(clock):
    giving_way = GivingWay(clock, lambda _: None)
    giving_way.urgent_came()
    clock.now += TOLD_LATELY_SECONDS
    with ExitStack() as opened:
        assert all(taken(giving_way, opened) for _ in range(3 * LANES_WHEN_TOLD_MAX))
        assert giving_way.elements_max == TRANSACTION_ELEMENTS_MAX


def test_few_lanes_at_a_time_publish_small_transactions_while_urgent_readings_come(clock):
    giving_way = GivingWay(clock, lambda _: None)
    giving_way.urgent_came()
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_WHEN_TOLD_MAX
    with ExitStack() as opened:
        turns = [taken(giving_way, opened) for _ in range(LANES_WHEN_TOLD_MAX + 1)]
    assert turns == [True] * LANES_WHEN_TOLD_MAX + [False]
    with ExitStack() as opened:
        assert taken(giving_way, opened), "a turn was not given back"


def test_turn_that_is_not_wanted_is_kept_from_nobody(clock):
    giving_way = GivingWay(clock, lambda _: None)
    giving_way.urgent_came()
    with ExitStack() as opened:
        assert not any(taken(giving_way, opened, wanted=False) for _ in range(LANES_WHEN_TOLD_MAX))
        assert taken(giving_way, opened)


def test_threads_have_short_turns_while_urgent_readings_come_and_the_interpreters_own_else(clock):
    told = []
    giving_way = GivingWay(clock, told.append)
    for pause in (0.0, TOLD_LATELY_SECONDS / 2, TOLD_LATELY_SECONDS):
        clock.now += pause
        assert giving_way.elements_max
        if pause < TOLD_LATELY_SECONDS:
            giving_way.urgent_came()
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_MAX
    assert told == [THREAD_TURN_WHEN_TOLD_SECONDS, THREAD_TURN_SECONDS]


def test_lane_without_a_turn_publishes_what_is_urgent_and_the_rest_when_it_has_one():
    with LaneStage([ONE], own=[ONE, TWO]) as stage, ExitStack() as others:
        stage.start()
        stage.read(ONE)
        for _ in range(LANES_WHEN_TOLD_MAX):  # by other lanes
            assert taken(stage.giving_way, others)
        rest = stage.source.create(TWO)
        stage.lane.set_trekkpliktige([ONE, TWO])
        stage.wait_until(lambda: sum(asked.trekkpliktig == TWO for asked in stage.source.questions) == 2)
        urgent = stage.source.create(ONE)
        stage.read(ONE)
        assert [each.trekkid for each in stage.versjoner()] == [urgent.trekkid]
        others.close()
        stage.wait_until(lambda: len(stage.versjoner()) == 2)
        assert stage.versjoner()[-1].trekkid == rest.trekkid
