"""The schedule: which trekkpliktig is read next."""

from __future__ import annotations

import pytest

from producer.lane.schedule import (
    FAILING_PAUSE_SECONDS,
    FAILING_PAUSE_SECONDS_MAX,
    FRUITLESS_PAUSE_SECONDS_MAX,
    NOTIFIED_IN_A_ROW_MAX,
    ROUND_PAUSE_SECONDS_MAX,
    ROUND_TRIES_MAX,
    SUSPENDED_PAUSE_SECONDS,
    SUSPENDED_PAUSE_SECONDS_MAX,
    OnRequestSchedule,
    RoundSchedule,
    Schedule,
)

INTERVAL = 300.0


def schedule_of(*trekkpliktige, now=100.0, jitter=1.0):
    schedule = Schedule(INTERVAL, lambda: jitter)
    schedule.set_trekkpliktige(trekkpliktige, now)
    return schedule


def take_all(schedule, now):
    taken = []
    while (each := schedule.start_next(now)) is not None:
        taken.append(each)
    return taken


# The schedule: due ones by age, failing and suspended ones after growing pauses, blocked ones not at all
ONE, TWO, THREE = "311111111", "322222222", "333333333"


def failed_pauses(schedule, fail, times):
    """The pause after each of so many failures in a row."""
    now, pauses = 100.0, []
    for _ in range(times):
        assert schedule.start_next(now) == ONE
        fail(now)
        pause = schedule.wait_seconds(now)
        assert schedule.start_next(now + pause - 0.001) is None
        pauses.append(pause)
        now += pause
    return pauses


def test_new_ones_are_due_at_once_and_each_is_given_out_once():
    schedule = schedule_of(TWO, ONE)
    assert schedule.wait_seconds(100.0) == 0.0
    assert take_all(schedule, 100.0) == [ONE, TWO]
    assert schedule.wait_seconds(100.0) == float("inf")


def test_after_success_it_is_due_after_the_interval():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.succeeded(ONE, 110.0)
    assert schedule.wait_seconds(110.0) == INTERVAL
    assert schedule.start_next(110.0 + INTERVAL - 0.001) is None
    assert schedule.start_next(110.0 + INTERVAL) == ONE


def test_the_longest_overdue_are_read_first():
    schedule = schedule_of(ONE, TWO)
    take_all(schedule, 100.0)
    schedule.succeeded(TWO, 101.0)
    schedule.succeeded(ONE, 102.0)
    assert take_all(schedule, 1000.0) == [TWO, ONE]


def test_failing_pause_doubles_up_to_its_maximum_and_starts_again_after_success():
    schedule = schedule_of(ONE)
    pauses = failed_pauses(schedule, lambda now: schedule.failed(ONE, now), 8)
    assert pauses[:3] == pytest.approx([FAILING_PAUSE_SECONDS, 2 * FAILING_PAUSE_SECONDS, 4 * FAILING_PAUSE_SECONDS])
    assert pauses[-1] == pytest.approx(FAILING_PAUSE_SECONDS_MAX)
    schedule.start_next(1e6)
    schedule.succeeded(ONE, 1e6)
    schedule.start_next(2e6)
    schedule.failed(ONE, 2e6)
    assert schedule.wait_seconds(2e6) == pytest.approx(FAILING_PAUSE_SECONDS)


def test_suspended_pause_grows_to_hours():
    schedule = schedule_of(ONE)
    pauses = failed_pauses(schedule, lambda now: schedule.suspend(ONE, now), 12)
    assert pauses[:2] == pytest.approx([SUSPENDED_PAUSE_SECONDS, 2 * SUSPENDED_PAUSE_SECONDS])
    assert pauses[-1] == pytest.approx(SUSPENDED_PAUSE_SECONDS_MAX)


def test_a_thousand_failures_in_a_row_do_no_harm():
    schedule = schedule_of(ONE)
    for number in range(1100):
        schedule.start_next(number * 1e6)
        schedule.failed(ONE, number * 1e6)
    assert schedule.wait_seconds(1099e6) == pytest.approx(FAILING_PAUSE_SECONDS_MAX)


def test_pauses_are_spread_over_their_upper_half():
    for jitter, share in ((0.0, 0.5), (1.0, 1.0)):
        schedule = schedule_of(ONE, jitter=jitter)
        schedule.start_next(100.0)
        schedule.failed(ONE, 100.0)
        assert schedule.wait_seconds(100.0) == pytest.approx(share * FAILING_PAUSE_SECONDS)


def test_source_that_asks_for_a_longer_pause_is_obeyed():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0, retry_after_seconds=60.0)
    assert schedule.wait_seconds(100.0) == pytest.approx(60.0)


def test_one_removed_from_the_list_is_not_read_and_one_added_is():
    schedule = schedule_of(ONE, TWO)
    assert schedule.start_next(100.0) == ONE
    schedule.set_trekkpliktige([THREE], 101.0)
    schedule.succeeded(ONE, 102.0)
    schedule.failed(ONE, 102.0)
    schedule.suspend(ONE, 102.0)
    assert take_all(schedule, 1e9) == [THREE]
    assert len(schedule) == 1
    assert (ONE in schedule, THREE in schedule) == (False, True)


def test_one_removed_and_added_in_the_same_moment_is_read_once():
    schedule = schedule_of(ONE)
    schedule.set_trekkpliktige([], 100.0)
    schedule.set_trekkpliktige([ONE], 100.0)
    assert take_all(schedule, 100.0) == [ONE]


def test_an_employer_never_read_waits_since_the_start_whatever_is_added():
    schedule = schedule_of(ONE, now=100.0)
    schedule.set_trekkpliktige([ONE, TWO], 150.0)
    assert schedule.classes(160.0)[1]["healthy"] == schedule.seconds_started(160.0) == 60.0


def test_those_that_stay_on_the_list_keep_their_turn():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.succeeded(ONE, 100.0)
    schedule.set_trekkpliktige([ONE, TWO], 101.0)
    assert take_all(schedule, 101.0) == [TWO]


def test_classes_have_counts_and_the_longest_wait():
    schedule = schedule_of(ONE, TWO, THREE)
    take_all(schedule, 100.0)
    schedule.succeeded(ONE, 110.0)
    schedule.failed(TWO, 110.0)
    schedule.suspend(THREE, 110.0)
    counts, oldest = schedule.classes(160.0)
    assert counts == {"healthy": 1, "failing": 1, "suspended": 1, "suspended_by_operator": 0}
    assert oldest == {"healthy": 50.0, "failing": 60.0, "suspended": 60.0, "suspended_by_operator": 0.0}
    assert [schedule.class_of(each) for each in schedule] == ["healthy", "failing", "suspended"]
    schedule.start_next(1e5)
    schedule.succeeded(THREE, 1e5)
    assert schedule.classes(1e5)[0] == {"healthy": 2, "failing": 1, "suspended": 0, "suspended_by_operator": 0}


def test_one_that_was_refused_and_now_fails_otherwise_counts_as_failing_or_suspended_until_it_is_read():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.suspend(ONE, 100.0)
    schedule.start_next(1e6)
    schedule.failed(ONE, 1e6)
    assert schedule.classes(1e6)[0]["healthy"] == 0


def test_service_is_never_done():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.succeeded(ONE, 100.0)
    assert not schedule.is_done


def test_a_blocked_one_is_not_read_and_is_due_at_once_when_unblocked():
    schedule = schedule_of(ONE, TWO)
    schedule.notify(ONE)
    schedule.block(ONE)
    assert not schedule.notify(ONE)
    assert take_all(schedule, 1e9) == [TWO]
    assert schedule.classes(1e9)[0]["suspended_by_operator"] == 1
    schedule.unblock(ONE)
    assert take_all(schedule, 100.0) == [ONE]


def test_one_blocked_while_it_is_read_is_not_read_again():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.notify(ONE)
    schedule.block(ONE)
    schedule.succeeded(ONE, 101.0)
    assert schedule.start_next(1e9) is None


def test_one_whose_reading_was_broken_off_is_due_at_once():
    schedule = schedule_of(ONE)
    schedule.start_next(100.0)
    schedule.interrupted(ONE, 101.0)
    assert schedule.start_next(101.0) == ONE


# The schedule: notified ones first and in order, no trekkpliktig starves, and fruitless notifications are slowed down


def test_a_notified_employer_is_read_before_all_that_are_due():
    schedule = schedule_of(ONE, TWO, THREE)
    assert schedule.notify(THREE)
    assert take_all(schedule, 100.0) == [THREE, ONE, TWO]


def test_a_notified_employer_is_due_at_once_despite_interval_or_pause():
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


def test_notified_employers_are_read_in_the_order_of_their_notifications():
    """Else one whose number is low would be read again and again before all others."""
    schedule = schedule_of(ONE, TWO, THREE)
    for each in (THREE, TWO, ONE, TWO):
        schedule.notify(each)
    assert take_all(schedule, 0.0) == [THREE, TWO, ONE]


def test_a_stream_of_notifications_starves_no_employer_that_is_due():
    schedule = schedule_of(ONE, TWO)
    taken = []
    for _ in range(NOTIFIED_IN_A_ROW_MAX + 1):
        schedule.notify(ONE)
        taken.append(schedule.start_next(100.0))
        schedule.succeeded(taken[-1], 100.0)
    assert taken == [ONE] * NOTIFIED_IN_A_ROW_MAX + [TWO]


def test_on_request_only_notified_employers_are_returned():
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


def test_entries_left_behind_by_notifications_do_not_pile_up():
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


# Schedules of commands: a round reads each once to its end, the other only those that are requested


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


def test_a_round_gives_up_at_once_if_the_source_requests_a_long_pause_or_refuses():
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


def test_a_schedule_on_request_reads_only_those_requested():
    schedule = OnRequestSchedule(lambda: 1.0)
    schedule.set_trekkpliktige([ONE, TWO], 100.0)
    assert schedule.start_next(1e12) is None
    schedule.notify(TWO, urgent=True)
    assert take_all(schedule, 100.0) == [TWO]
    schedule.succeeded(TWO, 101.0)
    assert schedule.start_next(1e12) is None
