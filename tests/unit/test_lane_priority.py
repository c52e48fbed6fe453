"""Priority: while there are urgent readings, little of a back-fill is done at once; otherwise much is."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from producer.lane.priority import (
    BULK_CALLS_WHEN_URGENT_MAX,
    BULK_MAX,
    BULK_WHEN_URGENT_MAX,
    URGENT_RECENTLY_SECONDS,
    TransactionPriority,
)
from producer.publish.port import Row
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import THREADS, LaneStage
from tests.kit.waiting import TurnedClock

ONE, TWO = "311111111", "322222222"


@pytest.fixture
def clock():
    return TurnedClock()


@pytest.fixture
def stage(clock):
    with LaneStage([ONE], served=[TWO]) as made:
        made.priority = TransactionPriority(clock)
        yield made


def test_little_of_a_back_fill_is_done_at_once_for_a_while_after_an_urgent_reading_has_begun(clock):
    priority = TransactionPriority(clock)
    assert (priority.bulk_max, priority.bulk_calls_max()) == (BULK_MAX, sys.maxsize)
    priority.urgent_began()
    clock.seconds += URGENT_RECENTLY_SECONDS - 1
    assert (priority.bulk_max, priority.bulk_calls_max()) == (BULK_WHEN_URGENT_MAX, BULK_CALLS_WHEN_URGENT_MAX)
    clock.seconds += 1
    assert (priority.bulk_max, priority.bulk_calls_max()) == (BULK_MAX, sys.maxsize)
    assert BULK_WHEN_URGENT_MAX < BULK_MAX


def test_readings_that_are_waited_for_have_priority_and_others_do_not(stage):
    stage.start()
    assert stage.priority.bulk_max == BULK_MAX, "the first reading is a back-fill"
    stage.lane.set_trekkpliktige([ONE, TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    assert stage.priority.bulk_max == BULK_MAX
    stage.read(ONE)
    assert stage.priority.bulk_max == BULK_WHEN_URGENT_MAX


def test_transactions_of_a_back_fill_are_small_while_urgent_readings_come_and_all_is_published(stage):
    for _ in range(3 * BULK_WHEN_URGENT_MAX + 1):
        stage.source.create(ONE)
    stage.priority.urgent_began()
    stage.start()
    topics = stage.kafka.topics
    for transaction in stage.kafka.transactions:
        count = Counter(record.topic for record in transaction.records)
        assert count[topics.versjoner] <= BULK_WHEN_URGENT_MAX
        assert count[topics.positions] <= 2 * BULK_WHEN_URGENT_MAX + 20, "of its readers' part too"
    assert len(stage.versjoner()) == len(stage.handed_over(Row.BULK)) == 3 * BULK_WHEN_URGENT_MAX + 1


def test_versions_that_an_urgent_change_needs_are_fetched_before_those_of_a_back_fill(stage):
    changed = stage.source.create(ONE)
    stage.start()
    stage.stop()
    versions = GatedSource(stage.source, lambda asked: asked.operation == "version")
    page = stage.through = GatedSource(versions, lambda asked: asked.trekkpliktig == ONE and stage.signals > 0)
    stage.start()
    for _ in range(2):
        stage.source.change(changed.trekkid)
    stage.signal(ONE)
    assert page.reached.wait(60)
    for _ in range(20):
        stage.source.change(stage.source.create(TWO).trekkid)
    stage.lane.set_trekkpliktige([ONE, TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    assert versions.reached.wait(60)
    page.opened.set()
    stage.wait_until(lambda: changed.trekkid in stage.handed_over(Row.URGENT))
    stage.turn()
    versions.opened.set()
    stage.wait_until(lambda: len(stage.versjoner()) == 43)
    fetched = [call.trekkid for call in stage.source.calls if call.operation == "version"]
    assert fetched.index(changed.trekkid) <= THREADS
    assert len(fetched) == 21
