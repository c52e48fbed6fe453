"""The schedule: notified ones first and in order, nobody starves, and fruitless notifications are slowed down."""

from __future__ import annotations

from producer.lane.schedule import FRUITLESS_PAUSE_SECONDS_MAX, NOTIFIED_IN_A_ROW_MAX
from tests.unit.schedules import schedule_of, take_all

ONE, TWO, THREE = "311111111", "322222222", "333333333"


def test_notified_one_comes_before_all_that_are_due():
    schedule = schedule_of(ONE, TWO, THREE)
    assert schedule.notify(THREE)
    assert take_all(schedule, 100.0) == [THREE, ONE, TWO]


def test_notified_one_is_due_at_once_whatever_its_interval_or_pause():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0)
    assert schedule.start_next(100.0) is None
    schedule.notify(ONE)
    schedule.notify(ONE)
    assert take_all(schedule, 100.0) == [ONE]


def test_one_that_is_notified_while_it_is_read_is_read_once_more():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.notify(ONE)
    assert schedule.start_next(100.0) is None
    schedule.succeeded(ONE, 101.0)
    assert schedule.start_next(101.0) == ONE
    schedule.succeeded(ONE, 102.0)
    assert schedule.start_next(102.0) is None


def test_notification_of_one_that_is_not_served_is_not_ours():
    assert not schedule_of(ONE).notify(TWO)


def test_the_notified_come_in_the_order_of_their_notifications():
    """Else one whose number is low would be read again and again before all others."""
    schedule = schedule_of(ONE, TWO, THREE)
    for each in (THREE, TWO, ONE, TWO):
        schedule.notify(each)
    assert take_all(schedule, 0.0) == [THREE, TWO, ONE]


def test_a_stream_of_notifications_starves_nobody_that_is_due():
    schedule = schedule_of(ONE, TWO)
    taken = []
    for _ in range(NOTIFIED_IN_A_ROW_MAX + 1):
        schedule.notify(ONE)
        taken.append(schedule.start_next(100.0))
        schedule.succeeded(taken[-1], 100.0)
    assert taken == [ONE] * NOTIFIED_IN_A_ROW_MAX + [TWO]


def test_only_the_notified_are_given_out_where_only_they_are_wanted():
    schedule = schedule_of(ONE, TWO)
    schedule.notify(TWO)
    assert [schedule.start_next(100.0, notified_only=True) for _ in range(2)] == [TWO, None]


def test_a_requested_pause_is_ended_by_an_operator_but_not_by_a_notification():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0, retry_after_seconds=60.0)
    assert schedule.notify(ONE)
    assert schedule.start_next(100.0) is None
    schedule.notify(ONE, urgent=True)
    assert schedule.start_next(100.0) == ONE


def test_places_left_behind_by_notifications_do_not_pile_up():
    schedule = schedule_of(ONE, TWO)
    for number in range(10_000):
        schedule.notify(ONE)
        assert schedule.start_next(number * 0.001) == ONE
        schedule.succeeded(ONE, number * 0.001)
    assert len(schedule._heap) < 100  # noqa: SLF001 - what it costs shows nowhere else
    assert take_all(schedule, 1e9) == [TWO, ONE]


def test_one_with_fruitless_notifications_is_read_ever_less_often() -> None:
    """A flood of notifications about one employer is a few readings."""
    schedule = schedule_of(ONE, now=0.0)
    readings = []
    for tenth in range(600):
        now = tenth / 10
        schedule.notify(ONE, hint=True)
        while (taken := schedule.start_next(now)) is not None:
            readings.append(now)
            schedule.succeeded(taken, now, found=False)
    assert len(readings) <= 20
    assert readings[-1] > 50


def test_after_fruitless_notifications_it_is_read_at_once_when_quiet_or_something_new_came() -> None:
    schedule = schedule_of(ONE, now=0.0)
    for now in (0.0, 0.0, 10.0, 20.0):
        schedule.notify(ONE, hint=True)
        taken = schedule.start_next(now)
        if taken is not None:
            schedule.succeeded(taken, now, found=False)
    schedule.notify(ONE, hint=True)
    assert schedule.start_next(20.0) is None
    assert schedule.wait_seconds(20.0) <= FRUITLESS_PAUSE_SECONDS_MAX
    assert schedule.start_next(20.0 + FRUITLESS_PAUSE_SECONDS_MAX) == ONE
    schedule.succeeded(ONE, 26.0, found=True)
    schedule.notify(ONE, hint=True)
    assert schedule.start_next(26.0) == ONE


def test_an_operator_request_does_not_wait_after_fruitless_notifications() -> None:
    schedule = schedule_of(ONE, now=0.0)
    for _ in range(2):
        schedule.notify(ONE, hint=True)
        schedule.start_next(0.0)
        schedule.succeeded(ONE, 0.0, found=False)
    schedule.notify(ONE, urgent=True)
    assert schedule.start_next(0.0) == ONE
