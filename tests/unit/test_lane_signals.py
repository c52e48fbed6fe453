"""Signals of a lane: each is processed once, a wake-up when a reading that began after it has ended."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.requests import CompletedRequests, OperatorRequest
from producer.encode.signal import encode_request
from producer.lane.signals import SignalOffsets
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import LaneStage, names_of
from trekkpaalegg.errors import RetryableError

# A lane in memory: a signal is processed when a reading that began after it has ended
ONE, TWO = "311111111", "322222222"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def test_signal_leads_to_a_reading_and_is_processed_when_that_has_ended(stage):
    stage.start()
    order = stage.source.create(ONE)
    stage.read()
    assert names_of(stage.versjoner()) == [(order.trekkid, 1)]
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.lane.first_open_signal == 1


def test_signal_is_not_processed_while_its_reading_continues():
    with LaneStage([ONE, TWO]) as stage:
        stage.start()
        stage.stop()
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE and stage.signals > 0)
        stage.start()
        stage.signal(ONE)
        assert gate.reached.wait(60)
        stage.source.create(TWO)
        stage.read(TWO)
        assert len(stage.versjoner()) == 1
        assert stage.kafka.signal_offset(0) == 0
        assert stage.lane.first_open_signal == 0
        gate.opened.set()
        stage.wait_until(lambda: stage.journal.ended[ONE] == 3)
        stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)


def test_signal_that_comes_during_a_reading_waits_for_one_that_begins_after_it(stage):
    """The present reading may be past the change that the signal announces."""
    gate = stage.through = GatedSource(stage.source, lambda _: not gate.opened.is_set())
    starting = threading.Thread(target=stage.start)
    starting.start()
    assert gate.reached.wait(60)
    stage.signal(ONE)
    gate.opened.set()
    starting.join(60)
    stage.wait_until(lambda: stage.journal.ended[ONE] == 2)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    offsets = [each.signal_offset for each in stage.kafka.transactions]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


def test_signal_whose_reading_failed_stays_open(stage):
    stage.start()
    stage.source.fail(RetryableError("503"))
    stage.read()
    assert stage.lane.first_open_signal == 0
    stage.read()
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 2)


def test_signal_for_a_trekkpliktig_that_is_not_served_is_processed_at_once(stage):
    stage.start()
    stage.signal("999999999")
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.kafka.signal_offset(0) == 1


def test_signal_for_an_employer_that_was_removed_does_not_stay_open_for_ever(stage):
    stage.start()
    stage.source.fail(RetryableError("503"))
    stage.read()
    stage.lane.set_trekkpliktige([TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.lane.first_open_signal == 1


# Signal offsets: a signal is processed when a reading that began after it has ended


def test_first_open_is_where_reading_signals_began_until_one_comes():
    assert SignalOffsets(7).first_open == 7


def test_signal_is_open_until_its_reading_has_ended():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    begun_at = signals.next_offset
    assert (begun_at, signals.first_open) == (1, 0)
    signals.ended(ONE, begun_at)
    assert signals.first_open == 1


def test_signal_that_came_during_a_reading_is_not_processed_by_its_end():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    begun_at = signals.next_offset
    signals.register(ONE, 1, is_served=True)
    signals.ended(ONE, begun_at)
    assert signals.first_open == 1
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 2


def test_signal_is_open_again_if_the_end_of_its_reading_is_not_committed():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.register(ONE, 2, is_served=True)
    done_with = signals.ended(ONE, 2)
    assert (done_with, signals.first_open) == ([0], 1)
    signals.reopen(ONE, done_with)
    assert (signals.first_open, signals.is_waiting(ONE)) == (0, True)
    assert signals.ended(ONE, 3) == [0, 2]
    assert signals.first_open == 1


def test_first_open_waits_for_the_slowest():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.ended(TWO, 2)
    assert signals.first_open == 0
    signals.ended(ONE, 2)
    assert signals.first_open == 2


def test_a_signal_for_an_unknown_employer_is_processed_at_once():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=False)
    assert signals.first_open == 1


def test_skipped_offsets_count_as_processed():
    signals = SignalOffsets(3)
    signals.register(ONE, 9, is_served=True)
    assert signals.first_open == 9
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 10


def test_an_earlier_signal_that_comes_again_moves_nothing_back():
    signals = SignalOffsets(0)
    signals.register(ONE, 5, is_served=True)
    signals.register(TWO, 3, is_served=False)
    assert signals.next_offset == 6


def test_signals_for_employers_no_longer_served_are_dropped():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.keep({TWO})
    assert signals.first_open == 1


def test_signal_delivered_again_is_harmless():
    signals = SignalOffsets(0)
    for _ in range(2):
        signals.register(ONE, 0, is_served=True)
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 1


@given(st.lists(st.tuples(st.sampled_from(["signal", "foreign", "begin", "end"]), st.sampled_from([ONE, TWO]))))
def test_every_signal_below_first_open_was_followed_by_a_whole_reading(steps):
    signals, begun, open_signals, offset = SignalOffsets(0), {}, [], 0
    for step, trekkpliktig in steps:
        if step in {"signal", "foreign"}:
            signals.register(trekkpliktig, offset, is_served=step == "signal")
            if step == "signal":
                open_signals.append((trekkpliktig, offset))
            offset += 1
        elif step == "begin" and trekkpliktig not in begun:
            begun[trekkpliktig] = signals.next_offset
        elif step == "end" and trekkpliktig in begun:
            begun_at = begun.pop(trekkpliktig)
            signals.ended(trekkpliktig, begun_at)
            open_signals = [each for each in open_signals if each[0] != trekkpliktig or each[1] >= begun_at]
        assert signals.first_open == min((at for _, at in open_signals), default=offset)


# A signal that arrives twice, as one whose forwarding was aborted the first time, is one request
SUSPEND, RESUME = (encode_request(OperatorRequest(kind, kind, 7)) for kind in ("suspend", "resume"))


@pytest.fixture
def started_stage():
    with LaneStage([ONE, TWO]) as made:
        made.start()
        yield made


def send(started_stage, *values):
    for value in values:
        started_stage.signal(ONE, value)
    started_stage.wait_until(lambda: started_stage.kafka.signal_offset(0) == started_stage.signals)


def is_suspended(started_stage):
    return started_stage.kafka.state(0).of(ONE).position.suspended_at is not None


def test_suspension_that_arrives_again_after_a_resume_has_no_effect(started_stage):
    send(started_stage, SUSPEND)
    assert is_suspended(started_stage)
    send(started_stage, RESUME)
    send(started_stage, SUSPEND)
    assert not is_suspended(started_stage)
    send(started_stage, encode_request(OperatorRequest("suspend", "suspend", 8)))
    assert is_suspended(started_stage), "requested again, even with the same id, it is another request"


def test_all_three_at_once_are_two_requests(started_stage):
    send(started_stage, SUSPEND, RESUME, SUSPEND)
    assert not is_suspended(started_stage)


def test_next_owner_knows_what_was_completed(started_stage):
    send(started_stage, SUSPEND)
    send(started_stage, RESUME)
    started_stage.stop()
    started_stage.start()
    send(started_stage, SUSPEND)
    assert not is_suspended(started_stage)


def test_position_that_was_set_is_not_set_again(started_stage):
    order = started_stage.source.create(ONE)
    back = encode_request(OperatorRequest("set", "set", 7, 0))
    ended = started_stage.journal.ended[ONE]
    send(started_stage, back)
    started_stage.wait_until(
        lambda: started_stage.position(ONE) == order.sekvensnummer and started_stage.journal.ended[ONE] > ended
    )
    calls = len(started_stage.source.calls)
    send(started_stage, back)
    assert (started_stage.position(ONE), len(started_stage.source.calls)) == (order.sekvensnummer, calls)


def test_backfill_that_was_done_is_not_done_again(started_stage):
    assert started_stage.request(ONE, "backfill", "b").outcome == "done"
    before = started_stage.journal.ended[ONE]
    send(started_stage, encode_request(OperatorRequest("b", "backfill", started_stage.now)))
    started_stage.read(TWO)
    assert started_stage.journal.ended[ONE] == before
    assert started_stage.kafka.state(0).of(ONE).position.requests == ()


def test_release_that_was_completed_is_not_tried_again(started_stage):
    result = started_stage.request(ONE, "release", "r", record="3/17")
    transactions = len(started_stage.kafka.transactions)
    send(started_stage, encode_request(OperatorRequest("r", "release", started_stage.now, record="3/17")))
    assert (result.outcome, started_stage.kafka.state(0).completed.has(ONE, result.request)) == ("failed", True)
    records = [each.records for each in started_stage.kafka.transactions[transactions:]]
    assert records == [[]] * len(records), "there is no second result"


def test_same_request_for_another_is_another(started_stage):
    send(started_stage, SUSPEND)
    started_stage.signal(TWO, SUSPEND)
    started_stage.wait_until(lambda: started_stage.kafka.signal_offset(0) == started_stage.signals)
    assert started_stage.kafka.state(0).of(TWO).position.suspended_at is not None


def test_memory_of_answers_stays_small_and_holds_the_last():
    completed, requests = CompletedRequests(3), [OperatorRequest(str(number), "suspend", 1) for number in range(5)]
    for request in requests[:3]:
        completed.add(ONE, request)
    completed.add(ONE, requests[0])
    completed.add(ONE, requests[3])
    assert [completed.has(ONE, request) for request in requests] == [True, False, True, True, False]
    assert len(completed) == 3
