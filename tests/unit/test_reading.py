"""One reading: pages come in, chunks that detection can decide on go out, and memory stays bounded."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from producer.by_number import MISSING_MAX, MISSING_PER_RANGE_MAX, Following, next_versions, some_missing, vanished
from producer.domain.state import OrderState, TrekkpliktigState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected, RejectionReason, Trekkstatus
from producer.errors import RetryableError
from producer.reading import FETCHES_MAX, PAGES_WAITING_MAX, Reading
from producer.source.port import Page
from sandbox.fake_source import make_trekkpaalegg

ONE = "311111111"
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
BAD = Rejected(ONE, b"{}", bytes(16), RejectionReason.TOO_LARGE, "$", "", "A", 1)


def version(trekkid="A", trekkversjon=1, sekvensnummer=1):
    return msgspec.structs.replace(TEMPLATE, trekkid=trekkid, trekkversjon=trekkversjon, sekvensnummer=sekvensnummer)


def page(*elements, end=False):
    return Page(list(elements), None if end else elements[-1].sekvensnummer)


def reading_of(*pages, full=False, cursor=0):
    reading = Reading(ONE, Origin.POLL, cursor, 0, full=full)
    for each in pages:
        assert reading.next_cursor() is not None
        reading.take_page(each)
    return reading


EMPTY = Page([], None)


def test_one_page_is_asked_for_at_a_time_each_from_the_highest_number_of_the_one_before():
    reading = Reading(ONE, Origin.POLL, 5, 0, full=False)
    assert reading.next_cursor() == 5
    assert reading.next_cursor() is None
    reading.take_page(page(version(sekvensnummer=9)))
    assert reading.next_cursor() == 9
    reading.take_page(EMPTY)
    assert reading.next_cursor() is None


def test_pages_that_wait_are_bounded():
    reading = reading_of(*(page(version(sekvensnummer=number)) for number in range(1, PAGES_WAITING_MAX + 1)))
    assert reading.next_cursor() is None
    reading.cut_chunk(TrekkpliktigState())
    assert reading.next_cursor() == PAGES_WAITING_MAX


def test_page_is_cut_into_chunks_of_the_size_that_is_wanted_in_their_order():
    reading = reading_of(page(*(version(str(number), sekvensnummer=number) for number in range(1, 8))))
    chunks = []
    for elements_max in (3, 2, 5):
        assert reading.cut_chunk(TrekkpliktigState(), (), elements_max) == []
        chunks.append([each.sekvensnummer for each in reading.elements()])
        reading.chunk_done()
    assert chunks == [[1, 2, 3], [4, 5], [6, 7]]


def test_chunk_is_ready_when_every_version_that_it_wants_has_come():
    reading = reading_of(page(version(trekkversjon=3)))
    assert not reading.is_ready
    assert reading.cut_chunk(TrekkpliktigState()) == [("A", 1), ("A", 2)]
    assert reading.is_waiting
    reading.take_version(("A", 1), version())
    assert not reading.is_ready
    reading.take_version(("A", 2), Gone())
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
            reading.take_version(each, Gone())
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
    assert reading.next_cursor() == 1
    reading.take_page(EMPTY)
    assert reading.has_all_pages
    assert not reading.is_done
    reading.chunk_done()
    assert reading.is_done


def test_reading_with_a_page_under_way_is_not_done():
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    assert not reading.is_done
    reading.next_cursor()
    assert not reading.is_done
    assert not reading.has_all_pages
    reading.take_page(EMPTY)
    assert reading.is_done


def test_failed_page_ends_the_reading_after_those_that_came_before_it():
    reading = reading_of(page(version()), full=True)
    reading.next_cursor()
    reading.page_failed(RetryableError("503"))
    assert reading.next_cursor() is None
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
    assert reading.next_cursor() == 0
    assert (reading.full, reading.origin) == (True, Origin.RECONCILE)


def state_missing(*ranges, key=b"A", newest=1000):
    state = TrekkpliktigState()
    state.remember(key, OrderState(newest, bytes(8), 1, missing=ranges))
    return state


def end_of_full_reading(state):
    """A full reading that has shown every order of the state, and what it then asks for by number."""
    shown = [version(key.decode(), state.newest(key), number) for number, key in enumerate(state.keys(), start=1)]
    reading = reading_of(page(*shown), full=True)
    reading.cut_chunk(state)
    reading.next_cursor()
    reading.take_page(EMPTY)
    reading.chunk_done()
    return reading, reading.cut_chunk(state)


def test_full_reading_ends_with_what_was_missing_in_rising_order():
    reading, wanted = end_of_full_reading(state_missing((2, 3), (5, 5)))
    assert wanted == [("A", 2), ("A", 3), ("A", 5)]
    assert not reading.is_done
    for number in (5, 3, 2):
        found = Gone() if number == 3 else version(trekkversjon=number, sekvensnummer=number)
        reading.take_version(("A", number), found)
    assert reading.is_ready
    assert reading.moves_position is False
    assert [element.trekkversjon for element in reading.elements()] == [2, 5]
    reading.chunk_done()
    assert reading.cut_chunk(state_missing((3, 3))) == []
    assert reading.is_done


def test_missing_versions_are_not_asked_for_while_a_page_is_under_way():
    reading = reading_of(page(version("B")), full=True)
    reading.cut_chunk(state_missing((2, 3)))
    reading.next_cursor()
    reading.chunk_done()
    assert reading.cut_chunk(state_missing((2, 3))) == []
    reading.take_page(EMPTY)
    assert reading.cut_chunk(state_missing((2, 3))) == [("A", 2), ("A", 3)]


def test_order_that_has_gone_from_the_full_list_is_followed_by_number_until_nothing_more_comes():
    state = TrekkpliktigState()
    for key, newest in ((b"A", 4), (b"B", 1), (b"C", 2)):
        state.remember(key, OrderState(newest, bytes(8), 1))
    reading = reading_of(page(version("B", 1, 1)), full=True)
    reading.cut_chunk(state)
    reading.chunk_done()
    reading.next_cursor()
    reading.take_page(EMPTY)
    assert reading.cut_chunk(state) == [("A", 5), ("C", 3)]
    reading.take_version(("C", 3), Gone())
    reading.take_version(("A", 5), version("A", 5, 9))
    assert reading.cut_chunk(state) == [("A", 6)]
    reading.take_version(("A", 6), Gone())
    assert reading.cut_chunk(state) == []
    assert [element.trekkversjon for element in reading.elements()] == [5]
    assert not reading.moves_position
    assert "A" in reading.moved
    reading.chunk_done()
    assert reading.cut_chunk(state) == []
    assert reading.is_done


def following(*answers, own=("987654321",)):
    """One order followed from version 2 on, met by these answers."""
    follows = Following([("A", 2)], ONE, own)
    for number, answer in enumerate(answers, start=2):
        assert follows.next_wanted() == [("A", number)]
        follows.take(("A", number), answer)
    assert follows.next_wanted() == []
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


def test_order_of_which_a_version_cannot_be_had_now_is_left_for_the_next_time():
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
    for number in range(200_000):
        state.remember(b"%d" % number, OrderState(1, bytes(8), 1))
    seen = [hash(b"%d" % number) for number in range(200_000) if number % 1000]
    assert sorted(vanished(state, seen)) == sorted(b"%d" % number for number in range(0, 200_000, 1000))


def test_few_of_very_many_vanished_orders_are_followed_each_day_and_others_the_next():
    state = TrekkpliktigState()
    keys = [b"%d" % number for number in range(3 * MISSING_MAX)]
    for key in keys:
        state.remember(key, OrderState(7, bytes(8), 1))
    asked = {each for day in range(60) for each in next_versions(state, keys, seed=day)}
    assert len(next_versions(state, keys, seed=0)) == MISSING_MAX
    assert asked == {(key.decode(), 8) for key in keys}


def test_versions_before_one_that_another_lane_publishes_are_not_asked_for():
    reading = reading_of(page(version("A", 3, 3)))
    trekkpliktig = version("A", 3, 3).trekkpliktig
    reading.trekkpliktig = "000000000"
    assert reading.cut_chunk(TrekkpliktigState(), own={trekkpliktig}) == []
    other = reading_of(page(version("A", 3, 3)))
    other.trekkpliktig = "000000000"
    assert other.cut_chunk(TrekkpliktigState(), own=()) == [("A", 1), ("A", 2)]


def test_missing_versions_that_are_all_still_gone_end_the_reading():
    reading, wanted = end_of_full_reading(state_missing((1, 2)))
    for each in wanted:
        reading.take_version(each, Gone())
    assert not reading.is_ready
    assert reading.cut_chunk(state_missing((1, 2))) == []
    assert reading.is_done


def test_missing_version_that_cannot_be_understood_is_looked_at_too():
    reading, _ = end_of_full_reading(state_missing((1, 1)))
    reading.take_version(("A", 1), BAD)
    assert reading.elements() == [BAD]


def test_partial_reading_does_not_ask_for_what_is_missing():
    reading = reading_of(EMPTY)
    assert reading.cut_chunk(state_missing((1, 2))) == []
    assert reading.is_done


def test_missing_versions_are_asked_for_in_bounded_number_the_newest_of_each_order():
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
    for day in range(100):
        wanted = some_missing(state, seed=day * 86_400_000_000)
        assert len(set(wanted)) == len(wanted) == MISSING_MAX
        asked |= set(wanted)
    assert len(asked) == 6 * MISSING_MAX


def test_few_missing_versions_are_all_asked_for_in_their_order():
    state = state_missing((1, 1), (3, 4))
    assert all(some_missing(state, seed=day) == [("A", 1), ("A", 3), ("A", 4)] for day in range(20))
    assert some_missing(TrekkpliktigState(), seed=1) == []


@pytest.mark.parametrize("between", [False, True])
def test_version_that_does_not_fit_is_replaced_wherever_it_stands(between):
    newest = version(trekkversjon=2, sekvensnummer=2)
    reading = reading_of(page(newest))
    reading.cut_chunk(TrekkpliktigState())
    first = version()
    reading.take_version(("A", 1), first)
    reading.replace(first if between else newest, BAD)
    assert reading.elements() == ([newest] if between else [BAD])
    assert reading.versions == {("A", 1): BAD if between else first}
