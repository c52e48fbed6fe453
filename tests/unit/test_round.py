"""Schedules of commands: a round reads each once to its end, the other only those that are requested."""

from __future__ import annotations

from producer.lane.schedule import ROUND_PAUSE_SECONDS_MAX, ROUND_TRIES_MAX, OnRequestSchedule, RoundSchedule
from tests.unit.schedules import take_all

ONE, TWO, THREE = "311111111", "322222222", "333333333"


def round_of(*trekkpliktige):
    schedule = RoundSchedule(lambda: 1.0)
    schedule.set_trekkpliktige(trekkpliktige, 100.0)
    return schedule


def test_round_reads_each_once_and_is_done():
    schedule = round_of(ONE, TWO)
    assert take_all(schedule, 100.0) == [ONE, TWO]
    schedule.succeeded(ONE, 101.0)
    assert not schedule.is_done
    schedule.succeeded(TWO, 101.0)
    assert schedule.is_done
    assert schedule.start_next(1e12) is None
    assert schedule.failed_for_good == {}


def test_round_without_anyone_is_done():
    assert RoundSchedule(lambda: 1.0).is_done


def test_round_gives_up_one_that_keeps_failing():
    schedule = round_of(ONE)
    for tries in range(ROUND_TRIES_MAX):
        assert not schedule.is_done
        assert schedule.start_next(tries * 1e4 + 100.0) == ONE
        schedule.failed(ONE, tries * 1e4 + 100.0)
    assert schedule.is_done
    assert set(schedule.failed_for_good) == {ONE}


def test_round_gives_up_at_once_where_the_source_asks_for_a_long_pause_or_refuses():
    schedule = round_of(ONE, TWO, THREE)
    take_all(schedule, 100.0)
    schedule.failed(ONE, 100.0, retry_after_seconds=ROUND_PAUSE_SECONDS_MAX)
    assert schedule.failed_for_good == {}
    schedule.failed(TWO, 100.0, retry_after_seconds=ROUND_PAUSE_SECONDS_MAX + 1)
    schedule.suspend(THREE, 100.0)
    assert set(schedule.failed_for_good) == {TWO, THREE}
    assert not schedule.is_done


def test_round_keeps_to_those_it_began_with():
    schedule = round_of(ONE)
    schedule.set_trekkpliktige([TWO], 101.0)
    assert take_all(schedule, 101.0) == [ONE]


def test_round_gives_up_one_that_is_blocked():
    schedule = round_of(ONE)
    schedule.block(ONE)
    assert schedule.is_done
    assert "suspended by an operator" in schedule.failed_for_good[ONE]


def test_schedule_on_request_reads_nobody_else():
    schedule = OnRequestSchedule(lambda: 1.0)
    schedule.set_trekkpliktige([ONE, TWO], 100.0)
    assert schedule.start_next(1e12) is None
    schedule.notify(TWO, urgent=True)
    assert take_all(schedule, 100.0) == [TWO]
    schedule.succeeded(TWO, 101.0)
    assert schedule.start_next(1e12) is None
