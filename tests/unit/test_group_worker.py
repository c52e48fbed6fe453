"""The worker: lanes are opened as they are assigned, closed as they are revoked, and started again when they fail."""

from __future__ import annotations

import msgspec
import pytest

from producer.errors import LaneFencedError, OutcomeUnknownError
from producer.group.worker import ALONE_TRIES_MAX, WorkerTimes
from tests.kit.fakes.membership import FakeGroup
from tests.kit.stages.worker_hall import TIMES, WorkerHall
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError

# Lanes are opened as they are assigned and closed as they are revoked; an error that concerns all ends the worker


def test_each_lane_that_is_given_is_started_from_its_first_open_signal():
    group = FakeGroup(2)
    group.offsets[1] = 7
    with WorkerHall(group=group) as hall:
        assert hall.running(0).begun_at == 0
        assert hall.running(1).begun_at == 7
        assert len(hall.made) == 2


def test_signals_reach_the_task_of_their_lane():
    with WorkerHall() as hall:
        hall.running(0)
        hall.running(1)
        hall.group.signal(1, "311111111")
        until(lambda: hall.running(1).signals == [("311111111", 0)])
        assert hall.running(0).signals == []


def test_a_lane_that_nobody_works_on_is_reported_with_what_keeps_it():
    hall = WorkerHall(lanes=1)
    hall.making_fails = [RetryableError("no answer from the registry")]
    with hall:
        until(lambda: hall.worker.waiting_lanes() == {0: "no answer from the registry"})
        hall.running(0)
        assert hall.worker.waiting_lanes() == {}


def test_worker_ends_when_every_lane_is_done():
    with WorkerHall() as hall:
        hall.running(0).stop()
        hall.running(1)
        for_a_while(hall.thread.is_alive)
        hall.running(1).stop()
        assert hall.ended() is None
        assert hall.worker.lanes_done == {0, 1}
        assert len(hall.made) == 2


def test_order_to_stop_closes_all_lanes_and_leaves_the_group():
    with WorkerHall() as hall:
        tasks = [hall.running(0), hall.running(1)]
        hall.stopping.set()
        assert hall.ended() is None
        assert all(task.has_ended.is_set() for task in tasks)
        assert hall.left_running == []
        assert hall.group.owners == {}


def test_lanes_are_closed_side_by_side():
    """Each may be in the middle of a transaction; one after another would take longer than a session."""
    with WorkerHall(lanes=3) as hall:
        hall.quick = False
        tasks = [hall.running(lane) for lane in range(3)]
        hall.stopping.set()
        until(lambda: all(task.stopped.is_set() for task in tasks))
        assert not any(task.has_ended.is_set() for task in tasks)
        for task in tasks:
            task.may_end.set()
        assert hall.ended() is None


def test_lane_that_does_not_end_is_not_waited_for_without_end():
    times = WorkerTimes(poll_seconds=0.01, close_seconds_max=0.1)
    with WorkerHall(lanes=1, times=times) as hall:
        hall.quick = False
        task = hall.running(0)
        hall.stopping.set()
        assert hall.ended() is None
        assert not task.has_ended.is_set()


def test_lane_that_is_revoked_is_closed_before_another_worker_gets_it():
    group = FakeGroup(2)
    with WorkerHall(group=group) as first:
        first.quick = False
        leaving, staying = first.running(1), first.running(0)
        with WorkerHall(group=group) as second:
            until(leaving.stopped.is_set)
            for_a_while(lambda: second.made == [])
            leaving.may_end.set()
            assert second.running(1).begun_at == 0
            assert not staying.stopped.is_set()
            assert len(first.made) == 2
        until(lambda: len(first.tasks(1)) == 2)


@pytest.mark.parametrize("error", [FatalError("the key is not known"), SettingsError(["wrong"])])
def test_a_failure_that_concerns_everyone_ends_all_lanes(error):
    with WorkerHall() as hall:
        other = hall.running(1)
        hall.running(0).fail(error)
        assert hall.ended() is error
        assert other.has_ended.is_set()
        assert hall.left_running == []


def test_an_unexpected_error_in_a_lane_is_fatal_and_names_the_lane():
    with WorkerHall() as hall:
        hall.running(0).fail(ZeroDivisionError("a fault of ours"))
        ended = hall.ended()
        assert isinstance(ended, FatalError)
        assert "lane 0" in str(ended)
        assert isinstance(ended.__cause__, ZeroDivisionError)


def test_group_that_puts_the_worker_out_for_good_is_the_end():
    with WorkerHall() as hall:
        task = hall.running(0)
        hall.membership.break_off(LaneFencedError("another process runs under the same id"))
        assert isinstance(hall.ended(), LaneFencedError)
        assert task.has_ended.is_set()


def test_loop_turns_while_lanes_work():
    with WorkerHall() as hall:
        hall.running(0)
        before = hall.beats
        until(lambda: hall.beats > before + 2)


# The worker of a command: it needs every lane for itself, and gives up on one that cannot be worked on


def test_lane_that_works_for_a_while_between_its_failures_is_never_given_up():
    times = msgspec.structs.replace(TIMES, stable_seconds=0.0)
    with WorkerHall(lanes=1, alone=True, times=times) as hall:
        for made in range(1, 2 * ALONE_TRIES_MAX):
            until(lambda made=made: len(hall.made) == made)
            hall.running(0).fail(RetryableError("Kafka is away"))
        until(lambda: len(hall.made) == 2 * ALONE_TRIES_MAX)
        assert hall.error is None


def test_command_that_wants_all_lanes_refuses_beside_a_live_worker():
    group = FakeGroup(2)
    times = WorkerTimes(poll_seconds=0.01, alone_seconds_max=0.1)
    with WorkerHall(group=group) as service:
        service.running(0)
        with WorkerHall(group=group, alone=True, times=times) as command:
            ended = command.ended()
        assert isinstance(ended, FatalError)
        assert "another worker" in str(ended)
        until(lambda: len(group.owners) == 2)
        assert service.error is None


def test_a_service_shares_its_lanes_and_a_command_needs_them_all():
    times = msgspec.structs.replace(TIMES, alone_seconds_max=0.02)
    group = FakeGroup(2)
    with WorkerHall(group=group, times=times) as one, WorkerHall(group=group, times=times) as other:
        until(lambda: len(other.made) == 1)
        for_a_while(lambda: one.thread.is_alive() and other.thread.is_alive())
    with WorkerHall(alone=True, times=times) as command:
        command.running(0)
        command.running(1)
        for_a_while(command.thread.is_alive)


def test_command_that_wants_all_lanes_waits_for_one_that_is_about_to_leave():
    group = FakeGroup(2)
    with WorkerHall(group=group) as leaving:
        leaving.running(0)
        leaving.running(1)
        command = WorkerHall(group=group, alone=True)
        with command:
            until(lambda: len(group.owners) == 2 and len(command.made) == 1)
            leaving.stopping.set()
            for lane in (0, 1):
                command.running(lane).stop()
            assert command.ended() is None


@pytest.mark.parametrize("where", ["made", "run"])
def test_command_that_is_waited_for_gives_up_on_a_lane_that_cannot_be_worked_on(where):
    hall = WorkerHall(lanes=1, alone=True)
    if where == "made":
        hall.making_fails = [RetryableError("the registry is away")] * 100
    with hall:
        if where == "run":
            for number in range(1, ALONE_TRIES_MAX + 2):
                until(lambda number=number: len(hall.made) == number)
                hall.running(0).fail(RetryableError("Kafka is away"))
        ended = hall.ended()
    assert isinstance(ended, FatalError)
    assert "lane 0 cannot be worked on" in str(ended)


# A lane that failed is started again from what was open, once the group confirms that it is still ours


def test_an_unknown_outcome_restarts_the_lane_with_a_new_task_from_the_open_signals():
    with WorkerHall(lanes=1) as hall:
        hall.running(0).fail(OutcomeUnknownError("no answer"), first_open_signal=3)
        until(lambda: len(hall.made) == 2)
        assert hall.running(0).begun_at == 3
        assert hall.group.offsets[0] == 3


@pytest.mark.parametrize("error", [OutcomeUnknownError("no answer"), RetryableError("Kafka is away")])
def test_lane_is_started_again_only_when_the_group_confirms_that_it_is_ours(error):
    with WorkerHall(lanes=1) as hall:
        task = hall.running(0)
        hall.group.refuse(0)
        task.fail(error)
        until(task.has_ended.is_set)
        for_a_while(lambda: len(hall.made) == 1)
        hall.group.accept(0)
        until(lambda: len(hall.made) == 2)


def test_a_task_that_failed_early_does_not_rewind_to_old_signals():
    group = FakeGroup(1)
    group.offsets[0] = 7
    hall = WorkerHall(group=group)
    hall.taking_fails = [RetryableError("Kafka is away")] * 2
    with hall:
        until(lambda: len(hall.made) == 3)
        assert hall.running(0).begun_at == 7
        assert group.offsets[0] == 7


def test_lane_that_was_started_again_and_then_ended_well_is_done():
    with WorkerHall(lanes=1) as hall:
        hall.running(0).fail(RetryableError("Kafka is away"))
        until(lambda: len(hall.made) == 2)
        hall.running(0).stop()
        assert hall.ended() is None
        assert len(hall.made) == 2


def test_signals_that_came_before_the_first_start_are_delivered():
    group = FakeGroup(1)
    group.refuse(0)
    with WorkerHall(group=group) as hall:
        until(lambda: group.owners)
        group.signal(0, "311111111")
        for_a_while(lambda: hall.made == [], 0.05)
        group.accept(0)
        until(lambda: hall.running(0).signals == [("311111111", 0)])


def test_first_start_needs_to_be_confirmed_too():
    group = FakeGroup(1)
    group.refuse(0)
    with WorkerHall(group=group) as hall:
        for_a_while(lambda: hall.made == [])
        group.accept(0)
        hall.running(0)


def test_a_suspended_worker_that_was_excluded_starts_nothing_on_lanes_it_lost():
    group = FakeGroup(1)
    with WorkerHall(group=group) as sleeper:
        task = sleeper.running(0)
        group.refuse(0)
        group.put_out(sleeper.membership)
        task.fail(OutcomeUnknownError("fenced meanwhile, but not told so"))
        until(task.has_ended.is_set)
        for_a_while(lambda: len(sleeper.made) == 1)
        assert sleeper.error is None


def test_signals_that_came_while_the_lane_was_down_are_delivered_to_its_next_task():
    with WorkerHall(lanes=1) as hall:
        task = hall.running(0)
        hall.group.refuse(0)
        task.fail(RetryableError("Kafka is away"))
        until(task.has_ended.is_set)
        hall.group.signal(0, "311111111")
        hall.group.signal(0, "322222222")
        for_a_while(lambda: len(hall.made) == 1, 0.05)
        hall.group.accept(0)
        until(lambda: len(hall.made) == 2)
        until(lambda: hall.running(0).signals == [("311111111", 0), ("322222222", 1)])


def test_signals_that_a_lost_task_had_not_handled_are_delivered_to_the_next_one():
    with WorkerHall(lanes=1) as hall:
        first = hall.running(0)
        for _ in range(3):
            hall.group.signal(0, "311111111")
        until(lambda: len(first.signals) == 3)
        first.fail(OutcomeUnknownError("no answer"), first_open_signal=1)
        until(lambda: len(hall.made) == 2)
        until(lambda: [offset for _, offset in hall.running(0).signals] == [1, 2])


def test_fenced_although_the_lane_is_still_ours_is_acquired_once_more():
    """The broker itself fences the producer of a transaction that has lasted too long."""
    with WorkerHall(lanes=1) as hall:
        hall.running(0).fail(LaneFencedError("taken"))
        until(lambda: len(hall.made) == 2)
        hall.running(0)
        assert hall.error is None


def test_fenced_again_although_the_lane_is_still_ours_is_the_end():
    """A rival outside the group: two would fence each other forever."""
    with WorkerHall() as hall:
        other = hall.running(1)
        for times in (1, 2):
            until(lambda times=times: len(hall.tasks(0)) == times)
            hall.running(0).fail(LaneFencedError("taken"))
        assert isinstance(hall.ended(), LaneFencedError)
        assert other.has_ended.is_set()
        assert len(hall.tasks(0)) == 2


def test_fenced_again_long_after_the_first_time_is_acquired_once_more():
    times = msgspec.structs.replace(TIMES, stable_seconds=0.05)
    with WorkerHall(lanes=1, times=times) as hall:
        for made in (1, 2, 3):
            until(lambda made=made: len(hall.made) == made)
            task = hall.running(0)
            for_a_while(hall.thread.is_alive, 0.1)
            task.fail(LaneFencedError("taken"))
        until(lambda: len(hall.made) == 4)
        assert hall.error is None


def test_fence_of_long_ago_is_forgotten_once_the_lane_was_acquired_again():
    times = msgspec.structs.replace(TIMES, fenced_grace_seconds=1.0)
    with WorkerHall(lanes=1, times=times) as hall:
        hall.running(0).fail(LaneFencedError("by the broker"))
        until(lambda: len(hall.made) == 2)
        task = hall.running(0)
        hall.group.refuse(0)
        task.fail(RetryableError("Kafka is away"))
        for_a_while(hall.thread.is_alive, 1.1)
        hall.group.accept(0)
        until(lambda: len(hall.made) == 3)


def test_fenced_while_the_group_hands_the_lane_to_another_waits_for_the_revocation():
    group = FakeGroup(1)
    with WorkerHall(group=group) as hall:
        task = hall.running(0)
        group.refuse(0)
        task.fail(LaneFencedError("taken"))
        until(task.has_ended.is_set)
        for_a_while(lambda: hall.thread.is_alive() and len(hall.made) == 1)
        group.put_out(hall.membership)
        group.accept(0)
        until(lambda: len(hall.made) == 2)
        assert hall.error is None


def test_fenced_and_never_revoked_is_the_end():
    times = WorkerTimes(poll_seconds=0.01, restart_pause_seconds=0.01, fenced_grace_seconds=0.1)
    with WorkerHall(lanes=1, times=times) as hall:
        task = hall.running(0)
        hall.group.refuse(0)
        task.fail(LaneFencedError("taken"))
        assert isinstance(hall.ended(), LaneFencedError)
        assert len(hall.made) == 1


def test_lane_whose_parts_cannot_be_made_now_is_tried_again():
    hall = WorkerHall(lanes=1)
    hall.making_fails = [RetryableError("the registry is away")] * 2
    with hall:
        hall.running(0)
        assert hall.error is None


def test_lane_whose_parts_can_never_be_made_is_the_end():
    hall = WorkerHall(lanes=1)
    hall.making_fails = [FatalError("the topics are gone")]
    with hall:
        assert isinstance(hall.ended(), FatalError)


def test_a_thousand_failures_in_a_row_do_no_harm():
    times = WorkerTimes(poll_seconds=0.0, restart_pause_seconds=1e-9, restart_pause_seconds_max=1e-6)
    hall = WorkerHall(lanes=1, times=times)
    hall.making_fails = [RetryableError("the registry is away")] * 1100
    with hall:
        hall.running(0)
        assert hall.error is None
