"""A signal that arrives twice, as one whose forwarding was aborted the first time, is one request."""

from __future__ import annotations

import pytest

from producer.domain.requests import CompletedRequests, OperatorRequest
from producer.encode.signal import encode_request
from tests.kit.stages.lane_stage import LaneStage

ONE, TWO = "311111111", "322222222"
SUSPEND, RESUME = (encode_request(OperatorRequest(kind, kind, 7)) for kind in ("suspend", "resume"))


@pytest.fixture
def stage():
    with LaneStage([ONE, TWO]) as made:
        made.start()
        yield made


def send(stage, *values):
    for value in values:
        stage.signal(ONE, value)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)


def is_suspended(stage):
    return stage.kafka.state(0).of(ONE).position.suspended_at is not None


def test_suspension_that_arrives_again_after_a_resume_has_no_effect(stage):
    send(stage, SUSPEND)
    assert is_suspended(stage)
    send(stage, RESUME)
    send(stage, SUSPEND)
    assert not is_suspended(stage)
    send(stage, encode_request(OperatorRequest("suspend", "suspend", 8)))
    assert is_suspended(stage), "requested again, even with the same id, it is another request"


def test_all_three_at_once_are_two_requests(stage):
    send(stage, SUSPEND, RESUME, SUSPEND)
    assert not is_suspended(stage)


def test_next_owner_knows_what_was_completed(stage):
    send(stage, SUSPEND)
    send(stage, RESUME)
    stage.stop()
    stage.start()
    send(stage, SUSPEND)
    assert not is_suspended(stage)


def test_position_that_was_set_is_not_set_again(stage):
    order = stage.source.create(ONE)
    back = encode_request(OperatorRequest("set", "set", 7, 0))
    ended = stage.journal.ended[ONE]
    send(stage, back)
    stage.wait_until(lambda: stage.position(ONE) == order.sekvensnummer and stage.journal.ended[ONE] > ended)
    calls = len(stage.source.calls)
    send(stage, back)
    assert (stage.position(ONE), len(stage.source.calls)) == (order.sekvensnummer, calls)


def test_backfill_that_was_done_is_not_done_again(stage):
    assert stage.request(ONE, "backfill", "b").outcome == "done"
    before = stage.journal.ended[ONE]
    send(stage, encode_request(OperatorRequest("b", "backfill", stage.now)))
    stage.read(TWO)
    assert stage.journal.ended[ONE] == before
    assert stage.kafka.state(0).of(ONE).position.requests == ()


def test_release_that_was_completed_is_not_tried_again(stage):
    result = stage.request(ONE, "release", "r", record="3/17")
    send(stage, encode_request(OperatorRequest("r", "release", stage.now, record="3/17")))
    assert (result.outcome, stage.kafka.state(0).completed.has(ONE, result.request)) == ("failed", True)


def test_same_request_for_another_is_another(stage):
    send(stage, SUSPEND)
    stage.signal(TWO, SUSPEND)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    assert stage.kafka.state(0).of(TWO).position.suspended_at is not None


def test_memory_of_answers_stays_small_and_holds_the_last():
    completed, requests = CompletedRequests(3), [OperatorRequest(str(number), "suspend", 1) for number in range(5)]
    for request in requests[:3]:
        completed.add(ONE, request)
    completed.add(ONE, requests[0])
    completed.add(ONE, requests[3])
    assert [completed.has(ONE, request) for request in requests] == [True, False, True, True, False]
    assert len(completed) == 3
