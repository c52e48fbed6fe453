"""A reading: how it begins and ends, and how pages become chunks that are handed over in steps."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from producer.detect.differences import ABSENT_MAX, digest_of
from producer.domain.observation import Observation
from producer.domain.requests import OperatorRequest
from producer.domain.state import LaneState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason
from producer.lane.reading import (
    PAGES_WAITING_MAX,
    READINGS_MAX,
    READINGS_MIN,
    Chunk,
    LaneOptions,
    Reading,
    Step,
    begin_reading,
    is_urgent,
    position_after,
    position_has_gone,
    readings_allowed,
)
from producer.publish.port import Row
from producer.source.port import Page
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.errors import RetryableError

ONE = "311111111"
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
BAD = Rejected(ONE, b"{}", bytes(16), RejectionReason.TOO_LARGE, "$", "", "A", 1, 5)
EMPTY = Page([], None)


def version(trekkid="A", trekkversjon=1, sekvensnummer=1):
    return msgspec.structs.replace(TEMPLATE, trekkid=trekkid, trekkversjon=trekkversjon, sekvensnummer=sekvensnummer)


def page(*elements, end=False):
    return Page(list(elements), None if end else elements[-1].sekvensnummer)


def reading_of(*pages, full=False, cursor=0):
    reading = Reading(ONE, Origin.POLL, cursor, 0, full=full)
    for each in pages:
        assert reading.begin_page() is not None
        reading.add_page(each)
    return reading


def handed_over(*elements, position=0):
    """The state of a list of which these elements were handed over."""
    state = TrekkpliktigState(TrekkpliktigPosition(position))
    state.remember_all(Chunk(list(elements), state, 0).handed_over())
    return state


def work_off(reading, state):
    """Take each chunk through its steps as the lane does; returns what was handed over and the steps of each."""
    chunks = []
    while True:
        reading.cut_chunk(state)
        if reading.chunk is None:
            return chunks
        steps, observed = [], reading.observations()
        while reading.chunk is not None:
            steps.append(reading.chunk.step)
            if reading.chunk.step is Step.KNOW:
                state.know(reading.chunk.new)
            if reading.chunk.step is Step.SEND:
                reading.chunk.step = Step.SENDING
            if reading.chunk.step is Step.REMEMBER:
                state.remember_all(reading.chunk.handed_over())
                state.position = msgspec.structs.replace(state.position, position=reading.chunk.position)
            reading.advance_chunk()
        chunks.append((steps, observed))


def elements_of(chunks):
    return [each.element for _, observed in chunks for each in observed]


# From pages to chunks, in bounded memory


def test_one_page_is_fetched_at_a_time_each_after_the_highest_number_of_the_one_before():
    reading = Reading(ONE, Origin.POLL, 5, 0, full=False)
    assert reading.begin_page() == 5
    assert reading.begin_page() is None
    reading.add_page(page(version(sekvensnummer=9)))
    assert reading.begin_page() == 9
    reading.add_page(EMPTY)
    assert reading.begin_page() is None


def test_pages_that_wait_are_bounded():
    reading = reading_of(*(page(version(sekvensnummer=number)) for number in range(1, PAGES_WAITING_MAX + 1)))
    assert reading.begin_page() is None
    reading.cut_chunk(TrekkpliktigState())
    assert reading.begin_page() == PAGES_WAITING_MAX


def test_page_is_cut_into_chunks_of_the_size_that_is_wanted_in_their_order():
    reading = reading_of(page(*(version(str(number), sekvensnummer=number) for number in range(1, 8))))
    chunks = []
    for elements_max in (3, 2, 5):
        reading.cut_chunk(TrekkpliktigState(), elements_max)
        chunks.append([each.sekvensnummer for each in reading.chunk.elements])
        assert len(reading.chunk) == len(chunks[-1])
        reading.chunk = None
    assert chunks == [[1, 2, 3], [4, 5], [6, 7]]


def test_no_further_chunk_is_cut_before_the_present_one_is_done():
    reading = reading_of(page(version("A")), page(version("B", sekvensnummer=2)))
    state = TrekkpliktigState()
    reading.cut_chunk(state)
    chunk = reading.chunk
    reading.cut_chunk(state)
    assert reading.chunk is chunk


def test_chunk_holds_what_differs_from_what_was_handed_over_last():
    state = handed_over(version("A"), version("B", 2), version("C", 1), position=9)
    reading = reading_of(page(version("A"), version("B", 3, 2), version("C", 1, 3), BAD, end=True))
    assert elements_of(work_off(reading, state)) == [version("B", 3, 2), BAD]
    assert reading.found
    assert reading.is_done
    again = reading_of(page(version("B", 3, 2), version("C", 1, 3), BAD, end=True))
    assert work_off(again, state) == []
    assert not again.found
    assert again.is_done


def test_reading_that_shows_everything_hands_over_what_was_handed_over_before():
    state = handed_over(version("A"), version("B", 2))
    reading = reading_of(page(version("A"), version("B", 2, 2), end=True), full=True)
    reading.shows = 5
    assert elements_of(work_off(reading, state)) == [version("A"), version("B", 2, 2)]


def test_versions_that_the_source_has_lowered_are_counted_where_they_are_handed_over():
    shown = page(version("A", 2), version("B", 5, 2), version("C", 1, 3), end=True)
    state = handed_over(version("A", 3), version("B", 4))
    reading = reading_of(shown)
    reading.cut_chunk(state)
    assert reading.chunk.lowered == 1
    assert elements_of(work_off(reading_of(shown), state)) == [version("A", 2), version("B", 5, 2), version("C", 1, 3)]


def test_a_lowered_version_is_counted_once_even_if_everything_is_handed_over_again():
    shown = page(version("A", 2), end=True)
    state = handed_over(version("A", 3))
    work_off(reading_of(shown), state)
    assert work_off(reading_of(shown), state) == []
    again = reading_of(shown, full=True)
    again.shows = 5
    again.cut_chunk(state)
    assert (len(again.chunk), again.chunk.lowered) == (1, 0)


# The steps of a chunk


def test_that_a_list_shows_an_order_is_committed_before_the_order_is_handed_over_first():
    state = handed_over(version("B"))
    reading = reading_of(page(version("A"), version("B", 2, 2), end=True))
    reading.cut_chunk(state)
    assert reading.chunk.new == {b"A"}
    assert reading.is_ready
    [(steps, observed)] = work_off(reading_of(page(version("A"), version("B", 2, 2), end=True)), state)
    assert steps == [Step.KNOW, Step.SEND, Step.REMEMBER]
    assert [each.key for each in observed] == [b"A", b"B"]
    assert state.handed_over(b"A") == digest_of(version("A"))
    assert state.handed_over(b"B") == digest_of(version("B", 2, 2))
    assert state.position.position == 2


def test_orders_that_a_list_has_shown_before_are_handed_over_at_once():
    reading = reading_of(page(version("A", 2), end=True))
    [(steps, _)] = work_off(reading, handed_over(version("A")))
    assert steps == [Step.SEND, Step.REMEMBER]


def test_nothing_is_to_be_committed_while_a_chunk_is_being_sent():
    reading = reading_of(page(version("A", 2), end=True))
    reading.cut_chunk(handed_over(version("A")))
    assert not reading.is_ready
    reading.chunk.step = Step.SENDING
    assert not reading.is_ready
    reading.advance_chunk()
    assert reading.is_ready
    reading.advance_chunk()
    assert (reading.chunk, reading.is_ready) == (None, False)


def test_position_alone_is_committed_where_nothing_differs():
    reading = reading_of(page(version("A", 1, 7), end=True))
    state = handed_over(version("A", 1, 7))
    assert work_off(reading, state) == [([Step.REMEMBER], [])]
    assert not reading.found
    assert state.position.position == 7


def test_rejected_element_does_not_move_the_position_nor_is_it_moved_back():
    """If its number were wrong, all below it would be skipped."""
    state = TrekkpliktigState()
    work_off(reading_of(page(version("A", 1, 3), msgspec.structs.replace(BAD, sekvensnummer=900), end=True)), state)
    assert state.position.position == 3
    work_off(reading_of(page(version("B", 1, 2), end=True)), state)
    assert state.position.position == 3


def test_observations_say_for_whom_and_why_they_were_read_and_for_which_requests():
    reading = reading_of(page(version("A", 2), end=True), full=True)
    reading.origin, reading.requests = Origin.BACKFILL, frozenset({"r"})
    chunks = work_off(reading, handed_over(version("A"), version("B")))
    assert [each for _, observed in chunks for each in observed] == [
        Observation(b"A", ONE, Origin.BACKFILL, version("A", 2), requests=("r",)),
        Observation(b"B", ONE, Origin.BACKFILL, requests=("r",)),
    ]
    assert Reading(ONE, Origin.POLL, 0, 0, full=False).observations() == []


# The end of a reading


def test_reading_is_done_when_all_that_came_is_handed_over():
    reading = reading_of(page(version()))
    assert not reading.is_done
    reading.cut_chunk(TrekkpliktigState())
    assert reading.begin_page() == 1
    reading.add_page(EMPTY)
    assert reading.has_all_pages
    assert not reading.is_done
    reading.chunk = None
    assert reading.is_done


def test_reading_with_a_page_under_way_is_not_done():
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    assert not reading.is_done
    reading.begin_page()
    assert not reading.is_done
    assert not reading.has_all_pages
    reading.add_page(EMPTY)
    assert reading.is_done


def test_failed_page_ends_the_reading_after_those_that_came_before_it():
    reading = reading_of(page(version()), full=True)
    reading.begin_page()
    reading.page_failed(RetryableError("503"))
    assert reading.begin_page() is None
    assert not reading.is_done
    assert elements_of(work_off(reading, handed_over(version("B")))) == [version()], "and nothing is said to be absent"
    assert reading.is_done


def test_elements_and_the_highest_number_are_counted_over_all_pages():
    reading = reading_of(page(version("A", 1, 3), version("B", 1, 8)), page(version("C", 1, 9)), full=True)
    assert (reading.orders_seen, reading.sekvensnummer_max) == (3, 9)


def test_full_reading_ends_with_the_orders_that_the_list_lacks_each_time():
    state = handed_over(version("A"), version("B"), version("C"))
    for _ in range(2):
        reading = reading_of(page(version("B"), version("D", 1, 2)), full=True)
        reading.begin_page()
        work_off(reading, state)
        assert not reading.is_done
        reading.add_page(EMPTY)
        assert not reading.is_done
        [(steps, observed)] = work_off(reading, state)
        assert steps == [Step.SEND]
        assert sorted(each.key for each in observed) == [b"A", b"C"]
        assert {each.element for each in observed} == {None}
        assert reading.is_done
        assert reading.vanished == 2
        assert state.handed_over(b"A") == digest_of(version("A"))


def test_partial_reading_says_nothing_of_orders_that_it_does_not_show():
    reading = reading_of(EMPTY)
    assert work_off(reading, handed_over(version("A"))) == []
    assert reading.is_done


def test_few_of_very_many_orders_that_the_list_lacks_are_handed_over_and_others_the_next_day():
    state = TrekkpliktigState()
    keys = {b"%d" % number for number in range(2 * ABSENT_MAX)}
    state.remember_all(dict.fromkeys(keys, digest_of(version())))
    days = []
    for day in range(30):
        reading = Reading(ONE, Origin.RECONCILE, 0, 0, full=True, began=day)
        reading.begin_page()
        reading.add_page(EMPTY)
        [(_, observed)] = work_off(reading, state)
        days.append({each.key for each in observed})
        assert reading.vanished == 2 * ABSENT_MAX
    assert {len(each) for each in days} == {ABSENT_MAX}
    assert set().union(*days) == keys


def test_reading_that_begins_again_compares_everything_as_a_back_fill_does():
    reading = reading_of(EMPTY, cursor=50)
    reading.row, reading.urgent = Row.URGENT, True
    reading.read_all(Origin.RECONCILE)
    assert reading.begin_page() == 0
    assert (reading.full, reading.origin, reading.row, reading.urgent) == (True, Origin.RECONCILE, Row.BULK, False)


# How a reading begins, its priority, and the position when it ends
NOW = 1_790_000_000_000_000
DAY = 86_400_000_000
OPTIONS = LaneOptions({ONE}, 100, 86_400.0, lambda: NOW)
NUMBERED = [make_trekkpaalegg(ONE, Random(1), sekvensnummer=70)]


def begin_at(position, *, show_since=None, is_notified=False, **changes):
    state = LaneState()
    state.ensure(ONE).position, state.show_since = position, show_since
    options = msgspec.structs.replace(OPTIONS, **changes)
    return begin_reading(ONE, state, 7, options, is_notified=is_notified)


def begin(position=0, reconciled_at=None, **changes):
    return begin_at(TrekkpliktigPosition(position, reconciled_at), **changes)


@pytest.mark.parametrize(("position", "cursor"), [(0, 0), (99, 0), (100, 0), (250, 150)])
def test_reading_begins_the_overlap_below_the_position(position, cursor):
    reading = begin(position)
    assert reading.begin_page() == cursor
    assert (reading.origin, reading.full, reading.signals_begun_at) == (Origin.POLL, False, 7)


@pytest.mark.parametrize(
    ("age", "full"), [(0, False), (DAY - 1, False), (DAY, True), (9 * DAY, True), (-1, True), (-900 * DAY, True)]
)
def test_everything_is_compared_when_that_was_last_done_an_interval_ago_or_by_a_clock_that_was_ahead(age, full):
    reading = begin(250, NOW - age)
    assert reading.full == full
    assert reading.origin is (Origin.RECONCILE if full else Origin.POLL)
    assert reading.begin_page() == (0 if full else 150)


def test_first_reading_of_an_employer_is_no_comparison():
    assert not begin(0, None).full


@pytest.mark.parametrize(("kind", "origin"), [("backfill", Origin.BACKFILL), ("reconcile", Origin.RECONCILE)])
def test_reading_that_was_requested_is_of_everything_and_fulfils_all_requests_that_need_one(kind, origin):
    former = OperatorRequest("former", "backfill", NOW, asked=True)
    waiting = (OperatorRequest("a", kind, NOW), OperatorRequest("b", "backfill", NOW))
    reading = begin_at(TrekkpliktigPosition(250, NOW, requests=(former, *waiting)))
    assert (reading.full, reading.origin, reading.begin_page()) == (True, origin, 0)
    assert reading.requests == {"a", "b"}
    assert not begin_at(TrekkpliktigPosition(250, NOW, requests=(former,))).full


def test_a_notified_reading_is_marked_so_unless_it_is_a_full_one():
    assert begin(250, NOW, is_notified=True).origin is Origin.NOTIFICATION
    assert begin(250, NOW - DAY, is_notified=True).origin is Origin.RECONCILE


@pytest.mark.parametrize(("shown_at", "shows"), [(None, True), (NOW - 6, True), (NOW - 5, False), (NOW, False)])
def test_list_that_was_not_shown_since_it_was_to_be_is_shown_as_a_whole(shown_at, shows):
    reading = begin_at(TrekkpliktigPosition(250, NOW, shown_at=shown_at), show_since=NOW - 5)
    assert reading.full == shows
    assert reading.shows == (NOW - 5 if shows else None)
    assert reading.origin is (Origin.RECONCILE if shows else Origin.POLL)


def answered(reading, page):
    reading.begin_page()
    reading.add_page(page)
    return reading


def test_an_empty_answer_in_the_overlap_means_that_the_position_is_lost():
    position = TrekkpliktigPosition(250)
    assert position_has_gone(answered(begin(250), Page([], None)), position)
    assert not position_has_gone(answered(begin(250), Page(NUMBERED, None)), position)
    assert not position_has_gone(answered(begin(250), Page(NUMBERED, 70)), position)


def test_an_empty_answer_means_nothing_without_overlap_or_position_or_in_a_full_reading():
    empty = Page([], None)
    assert not position_has_gone(answered(begin(250, overlap_sekvensnummer=0), empty), TrekkpliktigPosition(250))
    assert not position_has_gone(answered(begin(0), empty), TrekkpliktigPosition(0))
    assert not position_has_gone(answered(begin(250, NOW - DAY), empty), TrekkpliktigPosition(250))


def test_an_empty_answer_after_others_means_nothing():
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


def test_end_of_a_reading_that_showed_everything_is_remembered_by_what_it_was_for():
    """Its beginning may lie before the loss of observations that another lane reports meanwhile, by another clock."""
    position = TrekkpliktigPosition(0, NOW)
    assert position_after(begin_at(position, show_since=5), position, NOW).shown_at == 5


@pytest.mark.parametrize(
    ("elements", "allowed"), [(0.0, READINGS_MAX), (1.0, READINGS_MAX), (250.0, 50), (2500.0, 5), (1e6, READINGS_MIN)]
)
def test_many_small_employers_are_read_at_once_but_few_large_ones(elements, allowed):
    assert readings_allowed(elements) == allowed


@pytest.mark.parametrize(
    ("reconciled_at", "row"),
    [(NOW, Row.URGENT), (NOW - DAY, Row.BULK), (None, Row.BULK)],
    ids=["short", "full", "first"],
)
def test_short_readings_hand_over_in_the_urgent_row_and_are_urgent_if_they_are_waited_for(reconciled_at, row):
    """The first reading of a trekkpliktig is a back-fill, even if it was notified, and so is a full one."""
    reading = begin(5, reconciled_at)
    assert reading.row is row
    assert is_urgent(reading, is_waited_for=True) is (row is Row.URGENT)
    assert not is_urgent(reading, is_waited_for=False)
