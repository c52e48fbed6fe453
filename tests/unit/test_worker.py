"""The worker: lanes are opened as they are given and closed as they are taken; what concerns all of them ends it."""

from __future__ import annotations

import pytest

from producer.errors import LaneFencedError
from producer.group.worker import WorkerTimes
from tests.kit.fakes.membership import FakeGroup
from tests.kit.stages.worker_hall import WorkerHall
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError


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


def test_a_lane_that_nobody_works_on_is_told_with_what_keeps_it():
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


def test_lane_that_is_taken_is_closed_before_another_worker_gets_it():
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
def test_what_concerns_everyone_is_the_end_of_all_lanes(error):
    with WorkerHall() as hall:
        other = hall.running(1)
        hall.running(0).fail(error)
        assert hall.ended() is error
        assert other.has_ended.is_set()
        assert hall.left_running == []


def test_trouble_that_nobody_foresaw_in_a_lane_is_fatal_and_names_the_lane():
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
