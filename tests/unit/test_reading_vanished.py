"""A reading: orders that a full list no longer holds are followed by number until no further version is found."""

from __future__ import annotations

import msgspec

from producer.detect.by_number import MISSING_MAX, Following, next_versions, vanished
from producer.domain.state import OrderState, TrekkpliktigState
from producer.domain.trekkpaalegg import Failed, Gone, Trekkstatus
from tests.unit.readings import BAD, EMPTY, ONE, page, reading_of, version


def test_order_that_has_gone_from_the_full_list_is_followed_by_number_until_nothing_more_comes():
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
