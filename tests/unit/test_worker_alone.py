"""The worker of a command: it needs every lane for itself, and gives up on one that cannot be worked on."""

from __future__ import annotations

import msgspec
import pytest

from producer.group.worker import ALONE_TRIES_MAX, WorkerTimes
from tests.kit.fakes.membership import FakeGroup
from tests.kit.stages.worker_hall import TIMES, WorkerHall
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.errors import FatalError, RetryableError


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


def test_service_shares_its_lanes_and_a_command_that_has_them_all_takes_its_time():
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
