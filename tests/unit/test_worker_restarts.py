"""The worker: a lane that failed is started again from what was open, and only when the group says it is still ours."""

from __future__ import annotations

import msgspec
import pytest

from producer.errors import LaneFencedError, OutcomeUnknownError
from producer.group.worker import WorkerTimes
from tests.kit.fakes.membership import FakeGroup
from tests.kit.stages.worker_hall import TIMES, WorkerHall
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.errors import FatalError, RetryableError


def test_transaction_of_unknown_outcome_starts_the_lane_again_with_a_new_task_from_what_was_open():
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


def test_task_that_failed_before_it_knew_its_signals_does_not_lead_back_to_those_of_long_ago():
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


def test_sleeper_that_wakes_up_put_out_starts_nothing_on_lanes_that_are_no_longer_its_own():
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


def test_signals_that_a_lost_task_had_not_done_with_are_delivered_to_its_next_one():
    with WorkerHall(lanes=1) as hall:
        first = hall.running(0)
        for _ in range(3):
            hall.group.signal(0, "311111111")
        until(lambda: len(first.signals) == 3)
        first.fail(OutcomeUnknownError("no answer"), first_open_signal=1)
        until(lambda: len(hall.made) == 2)
        until(lambda: [offset for _, offset in hall.running(0).signals] == [1, 2])


def test_fenced_although_the_lane_is_still_ours_is_taken_once_more():
    """The broker itself fences the producer of a transaction that has lasted too long."""
    with WorkerHall(lanes=1) as hall:
        hall.running(0).fail(LaneFencedError("taken"))
        until(lambda: len(hall.made) == 2)
        hall.running(0)
        assert hall.error is None


def test_fenced_again_although_the_lane_is_still_ours_is_the_end():
    """A rival outside the group: two would fence each other for ever."""
    with WorkerHall() as hall:
        other = hall.running(1)
        for times in (1, 2):
            until(lambda times=times: len(hall.tasks(0)) == times)
            hall.running(0).fail(LaneFencedError("taken"))
        assert isinstance(hall.ended(), LaneFencedError)
        assert other.has_ended.is_set()
        assert len(hall.tasks(0)) == 2


def test_fenced_again_long_after_the_first_time_is_taken_once_more():
    times = msgspec.structs.replace(TIMES, stable_seconds=0.05)
    with WorkerHall(lanes=1, times=times) as hall:
        for made in (1, 2, 3):
            until(lambda made=made: len(hall.made) == made)
            task = hall.running(0)
            for_a_while(hall.thread.is_alive, 0.1)
            task.fail(LaneFencedError("taken"))
        until(lambda: len(hall.made) == 4)
        assert hall.error is None


def test_fence_of_long_ago_is_forgotten_once_the_lane_was_taken_again():
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


def test_fenced_while_the_group_hands_the_lane_to_another_waits_to_be_told_so():
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


def test_fenced_and_never_told_so_is_the_end():
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


def test_thousand_failures_in_a_row_are_no_trouble():
    times = WorkerTimes(poll_seconds=0.0, restart_pause_seconds=1e-9, restart_pause_seconds_max=1e-6)
    hall = WorkerHall(lanes=1, times=times)
    hall.making_fails = [RetryableError("the registry is away")] * 1100
    with hall:
        hall.running(0)
        assert hall.error is None
