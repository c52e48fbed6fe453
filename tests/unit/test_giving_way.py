"""While urgent readings come, little of what is not urgent is published at once, and threads have short turns."""

from __future__ import annotations

import pytest

from producer.giving_way import (
    THREAD_TURN_SECONDS,
    THREAD_TURN_WHEN_TOLD_SECONDS,
    TOLD_LATELY_SECONDS,
    GivingWay,
)
from producer.plan import TRANSACTION_ELEMENTS_MAX, TRANSACTION_ELEMENTS_WHEN_TOLD_MAX
from sandbox.turned_clock import TurnedClock


@pytest.fixture
def clock():
    return TurnedClock()


def test_transactions_are_large_until_something_urgent_comes_and_again_some_time_after_it(clock):
    giving_way = GivingWay(clock, lambda _: None)
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_MAX
    giving_way.urgent_came()
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_WHEN_TOLD_MAX
    clock.seconds += TOLD_LATELY_SECONDS
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_MAX


def test_threads_have_short_turns_while_urgent_readings_come_and_the_interpreters_own_else(clock):
    told = []
    giving_way = GivingWay(clock, told.append)
    for pause in (0.0, TOLD_LATELY_SECONDS / 2, TOLD_LATELY_SECONDS):
        clock.seconds += pause
        assert giving_way.elements_max
        if pause < TOLD_LATELY_SECONDS:
            giving_way.urgent_came()
    assert giving_way.elements_max == TRANSACTION_ELEMENTS_MAX
    assert told == [THREAD_TURN_WHEN_TOLD_SECONDS, THREAD_TURN_SECONDS]
