"""A signal that arrives twice, as one does whose forwarding was aborted the first time, is one wish."""

from __future__ import annotations

import pytest

from producer.domain.requests import AnsweredWishes, Wish
from producer.encode.signal import encode_wish
from tests.kit.stages.lane_stage import LaneStage

ONE, TWO = "311111111", "322222222"
SUSPEND, RESUME = (encode_wish(Wish(kind, kind, 7)) for kind in ("suspend", "resume"))


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


def test_suspension_that_comes_again_after_it_was_resumed_does_not_stand(stage):
    send(stage, SUSPEND)
    assert is_suspended(stage)
    send(stage, RESUME)
    send(stage, SUSPEND)
    assert not is_suspended(stage)
    send(stage, encode_wish(Wish("suspend", "suspend", 8)))
    assert is_suspended(stage), "asked for anew, under whatever id, it is another wish"


def test_all_three_at_once_are_two_wishes(stage):
    send(stage, SUSPEND, RESUME, SUSPEND)
    assert not is_suspended(stage)


def test_next_owner_knows_what_was_answered(stage):
    send(stage, SUSPEND)
    send(stage, RESUME)
    stage.stop()
    stage.start()
    send(stage, SUSPEND)
    assert not is_suspended(stage)


def test_position_that_was_set_is_not_set_again(stage):
    order = stage.source.create(ONE)
    back = encode_wish(Wish("set", "set", 7, 0))
    send(stage, back)
    stage.wait_until(lambda: stage.position(ONE) == order.sekvensnummer)
    asked = len(stage.source.questions)
    send(stage, back)
    assert (stage.position(ONE), len(stage.source.questions)) == (order.sekvensnummer, asked)


def test_backfill_that_was_done_is_not_done_again(stage):
    assert stage.ask(ONE, "backfill", "b").outcome == "done"
    before = stage.journal.ended[ONE]
    send(stage, encode_wish(Wish("b", "backfill", stage.now)))
    stage.read(TWO)
    assert stage.journal.ended[ONE] == before
    assert stage.kafka.state(0).of(ONE).position.wishes == ()


def test_release_that_was_answered_is_not_tried_again(stage):
    answer = stage.ask(ONE, "release", "r", record="3/17")
    send(stage, encode_wish(Wish("r", "release", stage.now, record="3/17")))
    assert (answer.outcome, stage.kafka.state(0).answered.has(ONE, answer.wish)) == ("failed", True)


def test_same_wish_for_another_is_another(stage):
    send(stage, SUSPEND)
    stage.signal(TWO, SUSPEND)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    assert stage.kafka.state(0).of(TWO).position.suspended_at is not None


def test_memory_of_answers_stays_small_and_holds_the_last():
    answered, wishes = AnsweredWishes(3), [Wish(str(number), "suspend", 1) for number in range(5)]
    for wish in wishes[:3]:
        answered.add(ONE, wish)
    answered.add(ONE, wishes[0])
    answered.add(ONE, wishes[3])
    assert [answered.has(ONE, wish) for wish in wishes] == [True, False, True, True, False]
    assert len(answered) == 3
