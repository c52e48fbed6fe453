"""Calls of a lane: made in a pool, with callbacks that run in order in the lane's own thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.trekkpaalegg import Failed, Gone, Origin
from producer.errors import SuspendedError
from producer.lane.calls import (
    AHEAD_EACH_MAX,
    BULK_ORDERS_MIN,
    CALLBACKS_AT_ONCE_MAX,
    URGENT_IN_A_ROW_MAX,
    CallPool,
    Calls,
    Kind,
)
from producer.lane.reading import Reading
from tests.kit.fakes.source import FakeSource
from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, RetryableError

ONE, TWO, THREE = "311111111", "322222222", "333333333"


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
    for number in range(2 * CALLBACKS_AT_ONCE_MAX + 50):
        calls.call_soon(lambda number=number: run.append(number))
    for taken in (CALLBACKS_AT_ONCE_MAX, 2 * CALLBACKS_AT_ONCE_MAX, 2 * CALLBACKS_AT_ONCE_MAX + 50):
        calls.run_callbacks(0.0)
        assert run == list(range(taken))


def test_a_missing_answer_is_waited_for_up_to_the_limit():
    calls = Calls(FakeSource(), None)
    begun = time.monotonic()
    calls.run_callbacks(0.0)
    calls.run_callbacks(0.05)
    assert 0.05 <= time.monotonic() - begun < 5


def test_an_answer_runs_in_the_thread_that_receives_it():
    source = FakeSource()
    made = source.create(ONE)
    with pool_of_one() as pool:
        calls, reading = calls_of(source, pool)
        taken = []

        def take(call):
            taken.append((call.result().elements, threading.current_thread()))

        calls.request_page(reading, 0, take)
        calls.run_callbacks(10.0)
    assert taken == [([made], threading.current_thread())]


def fetched_by(source, readers, trekkid, trekkversjon=1):
    """What the call for a version ends with, and whose tokens were tried."""
    with pool_of_one() as pool:
        calls = Calls(source, pool)
        ended = []
        calls.request_version(readers, (trekkid, trekkversjon), ended.append)
        calls.run_callbacks(100.0)
    [call] = ended
    return call, [each.trekkpliktig for each in source.calls]


def test_version_is_requested_by_its_number_from_the_first_reader_that_is_given_it():
    source = FakeSource()
    made = source.create(TWO)
    call, tried = fetched_by(source, (ONE, TWO, THREE), made.trekkid)
    assert call.result() == made
    assert tried == [ONE, TWO]


@pytest.mark.parametrize(
    ("failure", "fetched"),
    [
        (None, Gone("HTTP 410")),
        (RetryableError("503"), Failed("503")),
        (SuspendedError("no token"), Failed("no token")),
    ],
)
def test_version_is_gone_if_all_readers_are_refused_it_and_failed_if_one_may_be_given_it_later(failure, fetched):
    source = FakeSource()
    made = source.create(TWO)
    source.forget(made.trekkid, 1, "HTTP 410")
    if failure is not None:
        source.fail(failure, trekkpliktig=TWO)
    call, tried = fetched_by(source, (ONE, TWO, THREE), made.trekkid)
    assert call.result() == fetched
    assert tried == [ONE, TWO, THREE]


def test_version_that_nobody_can_read_is_gone():
    call, tried = fetched_by(FakeSource(), (), "A")
    assert isinstance(call.result(), Gone)
    assert tried == []


def test_reader_whose_token_is_refused_does_not_keep_the_others_from_being_tried():
    source = FakeSource()
    made = source.create(TWO)
    source.unprepared |= {ONE, TWO}
    source.fail(SuspendedError("no token"), operation="prepare", trekkpliktig=ONE)
    source.fail(SuspendedError("no token"), operation="version", trekkpliktig=ONE)
    call, tried = fetched_by(source, (ONE, TWO), made.trekkid)
    assert call.result() == made
    assert tried == [ONE, TWO]
    assert source.prepared == [ONE]


@pytest.mark.parametrize("operation", ["prepare", "version"])
def test_failure_that_concerns_everyone_is_raised_by_the_call_for_a_version(operation):
    source = FakeSource()
    source.unprepared.add(ONE)
    source.fail(FatalError("the client's key is not known"), operation=operation)
    call, _ = fetched_by(source, (ONE, TWO), "A")
    assert isinstance(call.exception(), FatalError)


def test_a_failure_is_raised_by_its_own_call():
    source = FakeSource()
    source.fail(RetryableError("503"))
    with pool_of_one() as pool:
        calls, reading = calls_of(source, pool)
        taken = []
        calls.request_page(reading, 0, lambda call: taken.append(call.exception()))
        calls.run_callbacks(10.0)
    assert [str(error) for error in taken] == ["503"]


def test_urgent_calls_are_made_before_those_that_wait_already_but_not_for_ever():
    made, gate = [], threading.Event()
    with pool_of_one() as pool:
        pool.submit(gate.wait, 10)
        waiting = [pool.submit(made.append, f"ordinary {number}") for number in range(2)]
        waiting += [pool.submit(made.append, "urgent", kind=Kind.URGENT) for _ in range(2 * URGENT_IN_A_ROW_MAX)]
        gate.set()
        for each in waiting:
            each.result(60)
    assert made[:3] == ["urgent"] * 3
    ordinary = [made.index(f"ordinary {number}") for number in range(2)]
    assert 0 < ordinary[0] <= URGENT_IN_A_ROW_MAX
    assert ordinary[0] < ordinary[1] <= 2 * URGENT_IN_A_ROW_MAX + 1


def test_calls_are_prepared_by_others_than_make_them_and_no_further_ahead_than_can_be_made_at_once():
    pool, gate, prepared = CallPool(2), threading.Event(), []
    under_way = [pool.submit(gate.wait, 10) for _ in range(2)]
    waiting = [pool.submit(lambda: None, prepare=lambda number=number: prepared.append(number)) for number in range(30)]
    deadline = time.monotonic() + 10
    while len(prepared) < 2 * AHEAD_EACH_MAX and time.monotonic() < deadline:
        time.sleep(0.001)
    urgent = threading.Event()
    pool.submit(lambda: None, kind=Kind.URGENT, prepare=urgent.set)
    assert urgent.wait(60), "urgent calls are prepared whatever waits"
    assert (sorted(prepared), [each.done() for each in under_way]) == (list(range(2 * AHEAD_EACH_MAX)), [False, False])
    gate.set()
    for each in waiting:
        each.result(60)
    pool.shutdown()
    assert sorted(prepared) == list(range(30))


def test_call_that_cannot_be_prepared_is_not_made_and_ends_as_its_preparing():
    made = []

    def refuse():
        raise SuspendedError("no token")

    with pool_of_one() as pool:
        refused = [pool.submit(made.append, "refused", prepare=refuse) for _ in range(5)]
        assert {str(each.exception(10)) for each in refused} == {"no token"}
        pool.submit(made.append, "made", prepare=lambda: None).result(60)
    assert made == ["made"]


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 3),
    st.lists(st.integers(1, 3), min_size=1),
)
def test_every_call_is_made_once_whichever_are_urgent_or_bulk_or_prepared_or_refused(wanted, threads, bulk_maxima):
    """How many bulk calls may be under way changes all the time."""
    changing = cycle(bulk_maxima)
    pool, made, prepared = CallPool(threads, lambda: next(changing)), [], []

    def prepare(number, refuses):
        prepared.append(number)
        if refuses:
            raise RetryableError("refused")

    submitted = [
        pool.submit(
            made.append,
            number,
            kind=kind,
            prepare=(lambda number=number, refuses=refuses: prepare(number, refuses)) if prepares else None,
        )
        for number, (kind, prepares, refuses) in enumerate(wanted)
    ]
    refused = [number for number, each in enumerate(submitted) if each.exception(30) is not None]
    pool.shutdown()
    assert sorted(prepared) == [number for number, (_, prepares, _) in enumerate(wanted) if prepares]
    assert refused == [number for number, (_, prepares, refuses) in enumerate(wanted) if prepares and refuses]
    assert sorted(made + refused) == list(range(len(wanted)))


def test_every_call_of_many_threads_is_made_once():
    pool, made = CallPool(5), []
    numbers = [pool.submit(made.append, number, kind=Kind(number % 3)) for number in range(2000)]
    for each in numbers:
        each.result(60)
    pool.shutdown()
    assert sorted(made) == list(range(2000))


def test_few_bulk_calls_run_at_once_while_others_overtake_them_and_all_are_made():
    allowed, gate, under_way, at_once, made = [2], threading.Event(), set(), [], []
    lock = threading.Lock()

    def bring_much(number):
        with lock:
            under_way.add(number)
            at_once.append(len(under_way))
        assert gate.wait(60)
        with lock:
            under_way.remove(number)
            made.append(number)

    pool = CallPool(5, lambda: allowed[0])
    bulk = [pool.submit(bring_much, number, kind=Kind.BULK) for number in range(20)]
    for kind in (Kind.ORDINARY, Kind.URGENT) * 5:
        pool.submit(lambda: None, kind=kind).result(60)
    until(lambda: len(under_way) == 2, 30)
    assert sorted(under_way) == [0, 1]
    gate.set()
    for each in bulk:
        each.result(60)
    pool.shutdown()
    assert max(at_once) == 2
    assert sorted(made) == list(range(20))


def test_bulk_calls_have_all_threads_again_when_they_may():
    allowed, asked, gates = [1], [], [threading.Event() for _ in range(6)]

    def bulk_max():
        asked.append(allowed[0])
        return allowed[0]

    pool = CallPool(3, bulk_max)
    bulk = [pool.submit(gate.wait, 30, kind=Kind.BULK) for gate in gates]
    until(lambda: len(asked) == len(gates), 30, "every call but one has had a turn without effect")
    allowed[0] = 3
    gates[0].set()
    assert bulk[0].result(60)
    for number in (3, 2, 1):  # under way together, so that each may end before those that began before it
        gates[number].set()
        assert bulk[number].result(60)
    for gate in gates:
        gate.set()
    assert all(each.result(60) for each in bulk)
    pool.shutdown()


def test_kind_of_a_call_follows_from_its_reading_or_its_order_and_further_pages_of_a_long_one_are_bulk():
    kinds = []

    class Seen(CallPool):
        def submit(self, call, *arguments, kind, prepare=None):
            kinds.append(kind)
            return super().submit(call, *arguments, kind=kind, prepare=prepare)

    pool = Seen(1)
    calls, reading = calls_of(FakeSource(), pool)
    for orders_seen, urgent in ((0, False), (BULK_ORDERS_MIN, False), (BULK_ORDERS_MIN, True), (0, True)):
        reading.orders_seen, reading.urgent = orders_seen, urgent
        calls.request_page(reading, 0, lambda _: None)
    for urgent in (False, True):
        calls.request_version((ONE,), ("1", 1), lambda _: None, is_urgent=urgent)
    calls.request(lambda _: None, lambda: None)
    pool.shutdown()
    assert kinds[:4] == [Kind.ORDINARY, Kind.BULK, Kind.URGENT, Kind.URGENT]
    assert kinds[4:] == [Kind.ORDINARY, Kind.URGENT, Kind.URGENT]
