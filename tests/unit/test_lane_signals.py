"""A lane in memory: a signal is processed when a reading that began after it has ended."""

from __future__ import annotations

import threading

import pytest

from producer.lane.reading import TRANSACTION_ELEMENTS_WHEN_URGENT_MAX
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import LaneStage
from trekkpaalegg.errors import RetryableError

ONE, TWO, THREE = "311111111", "322222222", "333333333"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def names(events):
    return [(each.trekkid, each.trekkversjon) for each in events]


def test_signal_leads_to_a_reading_and_is_processed_when_that_has_ended(stage):
    stage.start()
    order = stage.source.create(ONE)
    stage.read()
    assert names(stage.versjoner()) == [(order.trekkid, 1)]
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.lane.first_open_signal == 1


def test_signal_is_not_processed_while_its_reading_continues():
    with LaneStage([ONE, TWO]) as stage:
        stage.start()
        stage.stop()
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE and stage.signals > 0)
        stage.start()
        stage.signal(ONE)
        assert gate.reached.wait(10)
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
    assert gate.reached.wait(10)
    stage.signal(ONE)
    gate.opened.set()
    starting.join(10)
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


@pytest.mark.parametrize("is_notified", [True, False])
def test_back_fill_continues_in_small_transactions_after_an_urgent_reading(is_notified):
    """What is notified meanwhile waits behind the one under way."""
    orders = 2 * TRANSACTION_ELEMENTS_WHEN_URGENT_MAX + 1
    with LaneStage([ONE], served=[ONE, TWO]) as stage:
        stage.start()
        if is_notified:
            stage.read(ONE)
        for _ in range(orders):
            stage.source.create(TWO)
        stage.lane.set_trekkpliktige([ONE, TWO])
        stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
        topics = [[each.topic for each in made.records] for made in stage.kafka.transactions]
        counts = [each.count(stage.kafka.topics.versjoner) for each in topics if stage.kafka.topics.versjoner in each]
    small = [TRANSACTION_ELEMENTS_WHEN_URGENT_MAX, TRANSACTION_ELEMENTS_WHEN_URGENT_MAX, 1]
    assert counts == (small if is_notified else [orders])
