"""A reading: how it begins and ends, from pages to chunks, and what it fetches by number."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from producer.detect.by_number import (
    MISSING_MAX,
    MISSING_PER_RANGE_MAX,
    Following,
    next_versions,
    some_missing,
    vanished,
)
from producer.domain.requests import OperatorRequest
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected, RejectionReason, Trekkstatus
from producer.lane.reading import (
    ENDS_WAIT_SECONDS_MAX,
    FETCHES_MAX,
    PAGES_WAITING_MAX,
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
from trekkpaalegg.errors import RetryableError

ONE = "311111111"
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
BAD = Rejected(ONE, b"{}", bytes(16), RejectionReason.TOO_LARGE, "$", "", "A", 1)
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


# A reading: from pages to chunks that detection can decide on, in bounded memory


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
        assert reading.cut_chunk(TrekkpliktigState(), (), elements_max) == []
        chunks.append([each.sekvensnummer for each in reading.elements()])
        reading.chunk_done()
    assert chunks == [[1, 2, 3], [4, 5], [6, 7]]


def test_chunk_is_shortened_and_the_rest_comes_next():
    elements = [version(str(number), sekvensnummer=number) for number in range(1, 8)]
    reading = reading_of(page(*elements))
    assert reading.cut_chunk(TrekkpliktigState()) == []
    reading.shorten_chunk(7)
    assert reading.elements() == elements
    reading.shorten_chunk(3)
    chunks = []
    while reading.chunk:
        assert reading.is_ready
        chunks.append([each.sekvensnummer for each in reading.elements()])
        reading.chunk_done()
        assert reading.cut_chunk(TrekkpliktigState(), (), 3) == []
    assert chunks == [[1, 2, 3], [4, 5, 6], [7]]


def test_chunk_for_which_versions_were_fetched_is_not_shortened():
    reading = reading_of(page(version(trekkversjon=2), version("B", sekvensnummer=2)))
    assert reading.cut_chunk(TrekkpliktigState()) == [("A", 1)]
    reading.add_version(("A", 1), version())
    reading.shorten_chunk(1)
    assert len(reading.elements()) == 2


def test_chunk_is_ready_when_every_version_that_it_wants_has_come():
    reading = reading_of(page(version(trekkversjon=3)))
    assert not reading.is_ready
    assert reading.cut_chunk(TrekkpliktigState()) == [("A", 1), ("A", 2)]
    assert reading.is_waiting
    reading.add_version(("A", 1), version())
    assert not reading.is_ready
    reading.add_version(("A", 2), Gone())
    assert reading.is_ready
    assert not reading.is_waiting
    assert reading.versions == {("A", 1): version(), ("A", 2): Gone()}


def test_chunk_that_wants_nothing_is_ready_at_once():
    reading = reading_of(page(version(), version("B", 1, 2)))
    assert reading.cut_chunk(TrekkpliktigState()) == []
    assert reading.is_ready
    assert reading.elements() == [version(), version("B", 1, 2)]


def test_page_that_wants_too_many_versions_is_cut():
    wants = FETCHES_MAX // 4
    elements = [version(f"{number:03}", wants + 1, number + 1) for number in range(10)]
    reading = reading_of(page(*elements, end=True))
    chunks = []
    while not reading.is_done:
        wanted = reading.cut_chunk(TrekkpliktigState())
        assert len(wanted) <= FETCHES_MAX
        assert wanted == [(e.trekkid, v) for e in reading.chunk for v in range(1, wants + 1)]
        chunks.append(list(reading.chunk))
        for each in wanted:
            reading.add_version(each, Gone())
        reading.chunk_done()
        assert reading.versions == {}
    assert len(chunks) > 2
    assert [element for chunk in chunks for element in chunk] == elements


def test_one_order_may_want_more_versions_than_a_chunk():
    reading = reading_of(page(version(trekkversjon=FETCHES_MAX + 100), version("B", 1, 2)))
    assert len(reading.cut_chunk(TrekkpliktigState())) == FETCHES_MAX + 99
    assert [element.trekkid for element in reading.chunk] == ["A"]


def test_reading_is_done_when_all_that_came_was_published():
    reading = reading_of(page(version()))
    assert not reading.is_done
    reading.cut_chunk(TrekkpliktigState())
    assert reading.begin_page() == 1
    reading.add_page(EMPTY)
    assert reading.has_all_pages
    assert not reading.is_done
    reading.chunk_done()
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
    state = TrekkpliktigState()
    reading.cut_chunk(state)
    assert reading.is_ready
    reading.chunk_done()
    state.remember(b"A", OrderState(2, bytes(8), 1, missing=((1, 1),)))
    assert reading.cut_chunk(state) == []
    assert reading.is_done


def test_elements_and_the_highest_number_are_counted_over_all_pages():
    reading = reading_of(page(version("A", 1, 3), version("B", 1, 8)), page(version("C", 1, 9)), full=True)
    assert (reading.orders_seen, reading.sekvensnummer_max) == (3, 9)


def test_reading_that_begins_again_compares_everything():
    reading = reading_of(EMPTY, cursor=50)
    reading.read_all(Origin.RECONCILE)
    assert reading.begin_page() == 0
    assert (reading.full, reading.origin) == (True, Origin.RECONCILE)


def test_versions_before_one_that_another_lane_publishes_are_not_fetched():
    reading = reading_of(page(version("A", 3, 3)))
    trekkpliktig = version("A", 3, 3).trekkpliktig
    reading.trekkpliktig = "000000000"
    assert reading.cut_chunk(TrekkpliktigState(), served={trekkpliktig}) == []
    other = reading_of(page(version("A", 3, 3)))
    other.trekkpliktig = "000000000"
    assert other.cut_chunk(TrekkpliktigState(), served=()) == [("A", 1), ("A", 2)]


# How a reading begins, its priority, and the position when it ends
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


def test_a_notified_reading_is_marked_so_unless_it_is_a_full_one():
    assert (
        begin_reading(ONE, TrekkpliktigPosition(250, NOW), 7, OPTIONS, is_notified=True).origin is Origin.NOTIFICATION
    )
    old = TrekkpliktigPosition(250, NOW - DAY)
    assert begin_reading(ONE, old, 7, OPTIONS, is_notified=True).origin is Origin.RECONCILE


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


@pytest.mark.parametrize(
    ("elements", "allowed"), [(0.0, READINGS_MAX), (1.0, READINGS_MAX), (250.0, 50), (2500.0, 5), (1e6, READINGS_MIN)]
)
def test_many_small_employers_are_read_at_once_but_few_large_ones(elements, allowed):
    assert readings_allowed(elements) == allowed


def ready_of(size, *, urgent=False):
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    reading.chunk, reading.urgent = [None] * size, urgent
    return reading


def test_ends_of_readings_wait_for_each_other_unless_one_is_urgent():
    """One that is notified again during its reading is read again only after that has ended."""
    polled, urgent = begin(), begin()
    urgent.urgent = True
    assert ends_wait_seconds([polled], others=1) == ENDS_WAIT_SECONDS_MAX
    assert ends_wait_seconds([polled], others=0) == 0.0
    assert ends_wait_seconds([polled, urgent], others=1) == 0.0


def test_a_transaction_has_a_part_of_what_is_ready_and_only_urgent_chunks_if_there_are_any():
    large, small, other = ready_of(2400), ready_of(100), ready_of(1)
    assert first_to_publish([large, small, other]) == [large, small]
    assert first_to_publish([ready_of(9000)]) != []
    urgent = ready_of(1, urgent=True)
    assert first_to_publish([large, urgent, small]) == [urgent]
    assert first_to_publish([large, urgent, small], urgent_alone=False) == [urgent, large]
    assert first_to_publish([]) == []


def test_a_lane_counts_its_transactions_without_ordinary_chunks():
    ordinary, other, urgent = ready_of(1), ready_of(1), ready_of(1, urgent=True)
    ready, missed = [ordinary, urgent, other], []
    for chosen in ([urgent], [urgent], [urgent, ordinary], [], [other]):
        missed.append(missed_after(missed[-1] if missed else 0, ready, chosen))
    assert missed == [1, 2, 0, 1, 0]
    assert missed_after(5, [urgent], [urgent]) == 0


def test_ordinary_chunks_are_smaller_while_urgent_readings_arrive():
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


# A reading: after a full list it fetches missing versions by number, a bounded number of them


def state_missing(*ranges, key=b"A", newest=1000):
    state = TrekkpliktigState()
    state.remember(key, OrderState(newest, bytes(8), 1, missing=ranges))
    return state


def end_of_full_reading(state):
    """A full reading that has shown every order of the state, and what it then asks for by number."""
    shown = [version(key.decode(), state.newest(key), number) for number, key in enumerate(state.keys(), start=1)]
    reading = reading_of(page(*shown), full=True)
    reading.cut_chunk(state)
    reading.begin_page()
    reading.add_page(EMPTY)
    reading.chunk_done()
    return reading, reading.cut_chunk(state)


def test_full_reading_ends_with_what_was_missing_in_rising_order():
    reading, wanted = end_of_full_reading(state_missing((2, 3), (5, 5)))
    assert wanted == [("A", 2), ("A", 3), ("A", 5)]
    assert not reading.is_done
    for number in (5, 3, 2):
        found = Gone() if number == 3 else version(trekkversjon=number, sekvensnummer=number)
        reading.add_version(("A", number), found)
    assert reading.is_ready
    assert reading.moves_position is False
    assert [element.trekkversjon for element in reading.elements()] == [2, 5]
    reading.chunk_done()
    assert reading.cut_chunk(state_missing((3, 3))) == []
    assert reading.is_done


def test_missing_versions_are_not_fetched_while_a_page_is():
    reading = reading_of(page(version("B")), full=True)
    reading.cut_chunk(state_missing((2, 3)))
    reading.begin_page()
    reading.chunk_done()
    assert reading.cut_chunk(state_missing((2, 3))) == []
    reading.add_page(EMPTY)
    assert reading.cut_chunk(state_missing((2, 3))) == [("A", 2), ("A", 3)]


def test_missing_versions_that_are_all_still_gone_end_the_reading():
    reading, wanted = end_of_full_reading(state_missing((1, 2)))
    for each in wanted:
        reading.add_version(each, Gone())
    assert not reading.is_ready
    assert reading.cut_chunk(state_missing((1, 2))) == []
    assert reading.is_done


def test_missing_version_that_cannot_be_understood_is_processed_too():
    reading, _ = end_of_full_reading(state_missing((1, 1)))
    reading.add_version(("A", 1), BAD)
    assert reading.elements() == [BAD]


def test_a_partial_reading_does_not_fetch_missing_versions():
    reading = reading_of(EMPTY)
    assert reading.cut_chunk(state_missing((1, 2))) == []
    assert reading.is_done


def test_missing_versions_are_fetched_in_bounded_number_the_newest_of_each_order():
    _, wanted = end_of_full_reading(state_missing((2, 1_000_000_000), newest=1_000_000_001))
    assert wanted == [("A", number) for number in range(1_000_000_000 - MISSING_PER_RANGE_MAX + 1, 1_000_000_001)]
    state = TrekkpliktigState()
    for number in range(2 * MISSING_MAX // MISSING_PER_RANGE_MAX):
        state.remember(b"%d" % number, OrderState(1000, bytes(8), 1, missing=((1, 999),)))
    _, wanted = end_of_full_reading(state)
    assert len(wanted) == MISSING_MAX


def test_missing_versions_beyond_that_number_have_their_turn_too():
    state = TrekkpliktigState()
    for number in range(2 * MISSING_MAX):
        state.remember(b"%d" % number, OrderState(9, bytes(8), 1, missing=((1, 1), (3, 4))))
    asked = set()
    days = iter(range(100))
    while len(asked) < 6 * MISSING_MAX:
        wanted = some_missing(state, seed=next(days) * 86_400_000_000)
        assert len(set(wanted)) == len(wanted) == MISSING_MAX
        asked |= set(wanted)


def test_few_missing_versions_are_all_fetched_in_order():
    state = state_missing((1, 1), (3, 4))
    assert all(some_missing(state, seed=day) == [("A", 1), ("A", 3), ("A", 4)] for day in range(20))
    assert some_missing(TrekkpliktigState(), seed=1) == []


# A reading: orders that a full list no longer holds are followed by number until no further version is found


def test_an_order_gone_from_the_full_list_is_followed_by_number_to_its_last_version():
    state = TrekkpliktigState()
    for key, newest in ((b"A", 4), (b"B", 1), (b"C", 2)):
        state.remember(key, OrderState(newest, bytes(8), 1))
    reading = reading_of(page(version("B", 1, 1)), full=True)
    reading.cut_chunk(state)
    reading.chunk_done()
    reading.begin_page()
    reading.add_page(EMPTY)
    assert reading.cut_chunk(state) == [("A", 5), ("C", 3)]
    reading.add_version(("C", 3), Gone())
    reading.add_version(("A", 5), version("A", 5, 9))
    assert reading.cut_chunk(state) == [("A", 6)]
    reading.add_version(("A", 6), Gone())
    assert reading.cut_chunk(state) == []
    assert [element.trekkversjon for element in reading.elements()] == [5]
    assert not reading.moves_position
    assert "A" in reading.moved
    reading.chunk_done()
    assert reading.cut_chunk(state) == []
    assert reading.is_done


def following(*answers, served=("987654321",)):
    """One order followed from version 2 on, met by these answers."""
    follows = Following([("A", 2)], ONE, served)
    for number, answer in enumerate(answers, start=2):
        assert follows.pop_wanted() == [("A", number)]
        follows.add(("A", number), answer)
    assert follows.pop_wanted() == []
    return follows


def test_order_that_names_another_of_ours_in_the_end_has_moved():
    moved = msgspec.structs.replace(version("A", 4), trekkpliktig="987654321")
    follows = following(version("A", 2), version("A", 3), moved)
    assert [each.trekkversjon for each in follows.elements] == [2, 3]
    assert follows.moved == {"A"}


def test_order_that_is_no_longer_listed_has_moved_when_it_still_runs_and_not_when_it_has_ended():
    ended = msgspec.structs.replace(version("A", 3), trekkstatus=Trekkstatus.AVSLUTTET)
    assert following(version("A", 2), Gone()).moved == {"A"}
    assert following(version("A", 2), ended, Gone()).moved == set()
    assert following(ended, msgspec.structs.replace(version("A", 4), trekkpliktig="987654321")).moved == {"A"}


def test_order_with_a_version_that_cannot_be_fetched_now_is_left_for_the_next_time():
    follows = following(version("A", 2), Failed("503"))
    assert (follows.elements, follows.moved) == ([], set())


def test_version_that_cannot_be_understood_does_not_end_the_following():
    assert following(BAD, version("A", 3), Gone()).elements[1].trekkversjon == 3


def test_order_of_which_nothing_was_published_is_not_followed():
    state = TrekkpliktigState()
    state.remember(b"#0123", OrderState(rejected=(bytes(8),)))
    assert vanished(state, []) == []


def test_vanished_orders_are_found_in_parts_as_well_as_at_once():
    state = TrekkpliktigState()
    for number in range(140_000):
        state.remember(b"%d" % number, OrderState(1, bytes(8), 1))
    seen = [hash(b"%d" % number) for number in range(140_000) if number % 1000]
    assert sorted(vanished(state, seen)) == sorted(b"%d" % number for number in range(0, 140_000, 1000))


def test_few_of_very_many_vanished_orders_are_followed_each_day_and_others_the_next():
    state = TrekkpliktigState()
    keys = [b"%d" % number for number in range(3 * MISSING_MAX)]
    for key in keys:
        state.remember(key, OrderState(7, bytes(8), 1))
    asked = {each for day in range(60) for each in next_versions(state, keys, seed=day)}
    assert len(next_versions(state, keys, seed=0)) == MISSING_MAX
    assert asked == {(key.decode(), 8) for key in keys}
