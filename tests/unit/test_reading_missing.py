"""A reading: after a full list it fetches missing versions by number, a bounded number of them."""

from __future__ import annotations

from producer.detect.by_number import MISSING_MAX, MISSING_PER_RANGE_MAX, some_missing
from producer.domain.state import OrderState, TrekkpliktigState
from producer.domain.trekkpaalegg import Gone
from tests.unit.readings import BAD, EMPTY, page, reading_of, version


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


def test_missing_version_that_cannot_be_understood_is_looked_at_too():
    reading, _ = end_of_full_reading(state_missing((1, 1)))
    reading.add_version(("A", 1), BAD)
    assert reading.elements() == [BAD]


def test_partial_reading_does_not_ask_for_what_is_missing():
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
    for day in range(100):
        wanted = some_missing(state, seed=day * 86_400_000_000)
        assert len(set(wanted)) == len(wanted) == MISSING_MAX
        asked |= set(wanted)
    assert len(asked) == 6 * MISSING_MAX


def test_few_missing_versions_are_all_fetched_in_order():
    state = state_missing((1, 1), (3, 4))
    assert all(some_missing(state, seed=day) == [("A", 1), ("A", 3), ("A", 4)] for day in range(20))
    assert some_missing(TrekkpliktigState(), seed=1) == []
