"""Worker slots: no more workers than slots ever work, however they join, leave, join at once or are killed."""

from __future__ import annotations

import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.group.slots import WorkerSlots
from tests.kit.fakes.membership import FakeGroup
from tests.kit.stages.worker_hall import WorkerHall
from tests.kit.waiting import until
from trekkpaalegg.errors import RetryableError


def slots(most, count, stopping=None, beat=lambda: None):
    return WorkerSlots(most, count, beat, stopping or threading.Event(), lambda: -0.5)


def test_without_a_limit_workers_are_not_counted():
    alone = slots(None, lambda **_: pytest.fail("nobody asks"))
    assert (alone.await_slot(), alone.may_work()) == (True, True)


def test_room_is_waited_for_and_a_group_that_does_not_answer_is_no_room():
    answers, beats = [5, RetryableError("no answer"), 5, 4], []

    def count(*, but_us):
        assert but_us
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert slots(5, count, beat=lambda: beats.append(1)).await_slot()
    assert (answers, len(beats)) == ([], 4)


def test_order_to_stop_ends_the_wait():
    stopping = threading.Event()
    assert not slots(1, lambda **_: stopping.set() or 1, stopping).await_slot()


def test_member_that_does_not_know_how_many_there_are_may_not_work_yet():
    def count(**_):
        raise RetryableError("no answer")

    with pytest.raises(RetryableError):
        slots(2, count).may_work()


class Many:
    """Workers that count, join, count again and leave, in any order. The promise limits how many work."""

    def __init__(self, workers: int, most: int) -> None:
        self.members: set[int] = set()
        self.working: set[int] = set()
        self.found_room: set[int] = set()
        self.slots = [slots(most, lambda **_: len(self.members)) for _ in range(workers)]
        self._most = most

    def act(self, worker: int) -> None:
        """The next step of this worker."""
        if worker in self.working:
            return
        if worker in self.members:
            if self.slots[worker].may_work():
                self.working.add(worker)
            else:
                self.members.discard(worker)
        elif worker in self.found_room:
            self.found_room.discard(worker)
            self.members.add(worker)
        elif len(self.members) < self._most:
            self.found_room.add(worker)

    def end(self, worker: int) -> None:
        """It leaves, or is killed: it works no more, and is then no member."""
        for each in (self.working, self.members, self.found_room):
            each.discard(worker)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["act", "act", "act", "end"]), st.integers(0, 6)), max_size=120),
)
def test_never_more_workers_work_than_allowed_in_any_order_of_arrival(most, steps):
    many = Many(7, most)
    for what, worker in steps:
        getattr(many, what)(worker)
        assert len(many.working) <= most
        assert many.working <= many.members


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("seed", range(10))
def test_slots_are_filled_in_the_end(most, seed):
    many, chosen = Many(7, most), Random(seed)
    for _ in range(2000):
        many.act(chosen.randrange(7))
        if len(many.working) == most:
            return
    pytest.fail("some slots stay empty")


def test_worker_that_is_one_too_many_ends_without_having_worked():
    with WorkerHall(may_work=lambda: False) as hall:
        assert hall.ended() is None
        assert (hall.worker.is_surplus, hall.made, hall.group.owners) == (True, [], {})


def test_admission_is_checked_at_the_first_confirmed_lane_and_again_after_a_time_without_lanes():
    group, asked = FakeGroup(2), []

    def may_work():
        asked.append(dict(group.owners))
        return True

    with WorkerHall(group=group, may_work=may_work) as hall:
        hall.running(0)
        hall.running(1)
        assert len(asked) == 1
        assert hall.membership in asked[0].values(), "others see it by then"
        group.put_out(hall.membership)
        until(lambda: len(hall.tasks(0)) == len(hall.tasks(1)) == 2)
        assert len(asked) == 2
        assert not hall.worker.is_surplus


def test_worker_that_cannot_be_reached_waits_and_is_asked_again():
    answers = [RetryableError("no answer"), True]

    def may_work():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with WorkerHall(lanes=1, may_work=may_work) as hall:
        hall.running(0)
        assert answers == []
