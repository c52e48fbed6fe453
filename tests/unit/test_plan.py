"""How a reading begins, its priority, and the position when it ends."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from producer.domain.requests import OperatorRequest
from producer.domain.state import TrekkpliktigPosition
from producer.domain.trekkpaalegg import Origin
from producer.lane.reading import (
    ENDS_WAIT_SECONDS_MAX,
    READINGS_MAX,
    READINGS_MIN,
    TRANSACTION_ELEMENTS_MAX,
    TRANSACTION_ELEMENTS_WHEN_URGENT_MAX,
    LaneOptions,
    Reading,
    begin_reading,
    ends_wait_seconds,
    first_to_publish,
    is_urgent,
    missed_after,
    position_after,
    position_has_gone,
    readings_allowed,
    transaction_elements,
)
from producer.source.port import Page
from tests.kit.fakes.source import make_trekkpaalegg

ONE = "311111111"
NOW = 1_790_000_000_000_000
DAY = 86_400_000_000
OPTIONS = LaneOptions({ONE}, 100, 86_400.0, lambda: NOW)
NUMBERED = [make_trekkpaalegg(ONE, Random(1), sekvensnummer=70)]


def begin(position=0, reconciled_at=None, **changes):
    options = msgspec.structs.replace(OPTIONS, **changes)
    return begin_reading(ONE, TrekkpliktigPosition(position, reconciled_at), 7, options)


@pytest.mark.parametrize(("position", "cursor"), [(0, 0), (99, 0), (100, 0), (250, 150)])
def test_reading_begins_the_overlap_below_the_position(position, cursor):
    reading = begin(position)
    assert reading.begin_page() == cursor
    assert (reading.origin, reading.full, reading.signals_begun_at) == (Origin.POLL, False, 7)


@pytest.mark.parametrize(("age", "full"), [(0, False), (DAY - 1, False), (DAY, True), (9 * DAY, True)])
def test_everything_is_compared_when_that_was_last_done_an_interval_ago(age, full):
    reading = begin(250, NOW - age)
    assert reading.full == full
    assert reading.origin is (Origin.RECONCILE if full else Origin.POLL)
    assert reading.begin_page() == (0 if full else 150)


def test_first_reading_of_an_employer_is_no_comparison():
    assert not begin(0, None).full


@pytest.mark.parametrize(("kind", "origin"), [("backfill", Origin.BACKFILL), ("reconcile", Origin.RECONCILE)])
def test_reading_that_was_requested_is_of_everything_and_fulfils_all_requests(kind, origin):
    position = TrekkpliktigPosition(
        250, NOW, requests=(OperatorRequest("a", kind, NOW), OperatorRequest("b", "backfill", NOW))
    )
    reading = begin_reading(ONE, position, 7, OPTIONS)
    assert (reading.full, reading.origin, reading.begin_page()) == (True, origin, 0)
    assert reading.requests == {"a", "b"}


def test_reading_that_a_notification_led_to_says_so_unless_everything_is_read():
    assert (
        begin_reading(ONE, TrekkpliktigPosition(250, NOW), 7, OPTIONS, is_notified=True).origin is Origin.NOTIFICATION
    )
    old = TrekkpliktigPosition(250, NOW - DAY)
    assert begin_reading(ONE, old, 7, OPTIONS, is_notified=True).origin is Origin.RECONCILE


def answered(reading, page):
    reading.begin_page()
    reading.add_page(page)
    return reading


def test_empty_answer_in_the_overlap_says_that_the_place_is_lost():
    position = TrekkpliktigPosition(250)
    assert position_has_gone(answered(begin(250), Page([], None)), position)
    assert not position_has_gone(answered(begin(250), Page(NUMBERED, None)), position)
    assert not position_has_gone(answered(begin(250), Page(NUMBERED, 70)), position)


def test_empty_answer_says_nothing_without_overlap_or_without_position_or_in_a_full_reading():
    empty = Page([], None)
    assert not position_has_gone(answered(begin(250, overlap_sekvensnummer=0), empty), TrekkpliktigPosition(250))
    assert not position_has_gone(answered(begin(0), empty), TrekkpliktigPosition(0))
    assert not position_has_gone(answered(begin(250, NOW - DAY), empty), TrekkpliktigPosition(250))


def test_empty_answer_after_others_says_nothing():
    reading = answered(begin(250), Page(NUMBERED, 270))
    assert not position_has_gone(answered(reading, Page([], None)), TrekkpliktigPosition(250))


def test_end_of_a_partial_reading_leaves_position_and_last_comparison_alone():
    position = TrekkpliktigPosition(250, NOW - 5)
    assert position_after(begin(250, NOW - 5), position, NOW) == position


def test_end_of_the_first_reading_counts_as_a_comparison():
    assert position_after(begin(0), TrekkpliktigPosition(0, None), NOW) == TrekkpliktigPosition(0, NOW)


def test_end_of_a_full_reading_is_remembered_and_lowers_a_position_that_was_never_reached():
    reading = answered(begin(250, NOW - DAY), Page(NUMBERED, 70))
    assert position_after(reading, TrekkpliktigPosition(250, NOW - DAY), NOW) == TrekkpliktigPosition(70, NOW)
    assert position_after(reading, TrekkpliktigPosition(70, NOW - DAY), NOW) == TrekkpliktigPosition(70, NOW)
    assert position_after(reading, TrekkpliktigPosition(60, NOW - DAY), NOW) == TrekkpliktigPosition(60, NOW)


def test_partial_reading_lowers_nothing():
    reading = answered(begin(250), Page(NUMBERED, 70))
    assert position_after(reading, TrekkpliktigPosition(250, NOW), NOW) == TrekkpliktigPosition(250, NOW)


@pytest.mark.parametrize(
    ("elements", "allowed"), [(0.0, READINGS_MAX), (1.0, READINGS_MAX), (250.0, 50), (2500.0, 5), (1e6, READINGS_MIN)]
)
def test_many_small_employers_are_read_at_once_but_few_large_ones(elements, allowed):
    assert readings_allowed(elements) == allowed


def ready_of(size, *, urgent=False):
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    reading.chunk, reading.urgent = [None] * size, urgent
    return reading


def test_ends_of_readings_wait_for_company_save_where_one_is_urgent():
    """One that is notified again during its reading is read again only after that has ended."""
    polled, urgent = begin(), begin()
    urgent.urgent = True
    assert ends_wait_seconds([polled], others=1) == ENDS_WAIT_SECONDS_MAX
    assert ends_wait_seconds([polled], others=0) == 0.0
    assert ends_wait_seconds([polled, urgent], others=1) == 0.0


def test_transaction_holds_some_of_what_is_ready_and_the_urgent_alone_where_there_are_any():
    large, small, other = ready_of(2400), ready_of(100), ready_of(1)
    assert first_to_publish([large, small, other]) == [large, small]
    assert first_to_publish([ready_of(9000)]) != []
    urgent = ready_of(1, urgent=True)
    assert first_to_publish([large, urgent, small]) == [urgent]
    assert first_to_publish([large, urgent, small], urgent_alone=False) == [urgent, large]
    assert first_to_publish([]) == []


def test_lane_knows_how_long_it_has_published_none_of_what_is_not_urgent():
    ordinary, other, urgent = ready_of(1), ready_of(1), ready_of(1, urgent=True)
    ready, missed = [ordinary, urgent, other], []
    for chosen in ([urgent], [urgent], [urgent, ordinary], [], [other]):
        missed.append(missed_after(missed[-1] if missed else 0, ready, chosen))
    assert missed == [1, 2, 0, 1, 0]
    assert missed_after(5, [urgent], [urgent]) == 0


def test_transaction_holds_less_of_what_is_not_urgent_while_urgent_readings_come():
    """What is notified waits behind a transaction, so that must not take long."""
    assert transaction_elements(is_urgent_recently=False) == TRANSACTION_ELEMENTS_MAX
    few = transaction_elements(is_urgent_recently=True)
    assert few == TRANSACTION_ELEMENTS_WHEN_URGENT_MAX < TRANSACTION_ELEMENTS_MAX
    one, two, three = ready_of(few - 1), ready_of(1), ready_of(1)
    assert first_to_publish([one, two, three], few) == [one, two]


@pytest.mark.parametrize(
    ("waited_for", "reconciled_at", "full", "urgent"),
    [(True, NOW, False, True), (False, NOW, False, False), (True, NOW, True, False), (True, None, False, False)],
)
def test_reading_that_is_waited_for_is_urgent_unless_it_is_long(waited_for, reconciled_at, full, urgent):
    """The first reading of a trekkpliktig is a back-fill, even if it was notified, and so is a full one."""
    reading = Reading(ONE, Origin.NOTIFICATION, 0, 0, full=full)
    assert is_urgent(reading, TrekkpliktigPosition(5, reconciled_at), is_waited_for=waited_for) == urgent
