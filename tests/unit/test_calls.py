"""Calls of a lane: a pool asks, answers come back in the order they came, run by the lane's own thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from producer.calls import ANSWERS_AT_ONCE_MAX, URGENT_IN_A_ROW_MAX, CallPool, Calls
from producer.domain.trekkpaalegg import Origin
from producer.errors import RetryableError
from producer.reading import Reading
from sandbox.fake_source import FakeSource

ONE = "311111111"


@contextmanager
def pool_of_one():
    pool = CallPool(1)
    try:
        yield pool
    finally:
        pool.shutdown()


def calls_of(source, pool):
    return Calls(source, pool), Reading(ONE, Origin.POLL, 0, 0, full=False)


def test_answers_are_run_in_their_order_so_many_at_once():
    calls = Calls(FakeSource(), None)
    run = []
    for number in range(2 * ANSWERS_AT_ONCE_MAX + 50):
        calls.put(lambda number=number: run.append(number))
    for taken in (ANSWERS_AT_ONCE_MAX, 2 * ANSWERS_AT_ONCE_MAX, 2 * ANSWERS_AT_ONCE_MAX + 50):
        calls.take_answers(0.0)
        assert run == list(range(taken))


def test_no_answer_is_waited_for_as_long_as_asked_and_no_longer():
    calls = Calls(FakeSource(), None)
    begun = time.monotonic()
    calls.take_answers(0.0)
    calls.take_answers(0.05)
    assert 0.05 <= time.monotonic() - begun < 5


def test_answer_is_run_by_the_thread_that_takes_it():
    source = FakeSource()
    made = source.create(ONE)
    with pool_of_one() as pool:
        calls, reading = calls_of(source, pool)
        taken = []

        def take(call):
            taken.append((call.result().elements, threading.current_thread()))

        calls.ask_page(reading, 0, take)
        calls.take_answers(10.0)
    assert taken == [([made], threading.current_thread())]


def test_version_is_asked_for_by_its_number():
    source = FakeSource()
    made = source.create(ONE)
    with pool_of_one() as pool:
        calls, reading = calls_of(source, pool)
        taken = []
        calls.ask_version(reading, (made.trekkid, 1), lambda call: taken.append(call.result()))
        calls.take_answers(10.0)
    assert taken == [made]


def test_failure_comes_back_as_the_calls_own():
    source = FakeSource()
    source.fail(RetryableError("503"))
    with pool_of_one() as pool:
        calls, reading = calls_of(source, pool)
        taken = []
        calls.ask_page(reading, 0, lambda call: taken.append(call.exception()))
        calls.take_answers(10.0)
    assert [str(error) for error in taken] == ["503"]


def test_urgent_calls_are_made_before_those_that_wait_already_but_not_for_ever():
    made, gate = [], threading.Event()
    with pool_of_one() as pool:
        pool.submit(gate.wait, 10)
        waiting = [pool.submit(made.append, f"ordinary {number}") for number in range(2)]
        waiting += [pool.submit(made.append, "urgent", urgent=True) for _ in range(2 * URGENT_IN_A_ROW_MAX)]
        gate.set()
        for each in waiting:
            each.result(10)
    assert made[:3] == ["urgent"] * 3
    ordinary = [made.index(f"ordinary {number}") for number in range(2)]
    assert 0 < ordinary[0] <= URGENT_IN_A_ROW_MAX
    assert ordinary[0] < ordinary[1] <= 2 * URGENT_IN_A_ROW_MAX + 1


def test_every_call_of_many_threads_is_made_once():
    pool, made = CallPool(5), []
    numbers = [pool.submit(made.append, number, urgent=number % 3 == 0) for number in range(2000)]
    for each in numbers:
        each.result(30)
    pool.shutdown()
    assert sorted(made) == list(range(2000))
