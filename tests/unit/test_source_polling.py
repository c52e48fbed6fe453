"""Paging: when reading continues, when it ends, and when a page is an error."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.trekkpaalegg import Element, Rejected, RejectionReason
from producer.source.polling import page_of
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.errors import RetryableError

TREKKPLIKTIG = "312345678"


def version(sekvensnummer: int) -> Element:
    return make_trekkpaalegg(TREKKPLIKTIG, Random(sekvensnummer), sekvensnummer=sekvensnummer)


def unreadable(sekvensnummer: int | None = None) -> Rejected:
    reason = RejectionReason.INVALID_FIELD
    return Rejected(TREKKPLIKTIG, b"{}", b"", reason, "$", "Broken.", sekvensnummer=sekvensnummer)


def numbers(elements: list[Element]) -> list[int | None]:
    return [element.sekvensnummer for element in elements]


def test_elements_are_sorted_by_sekvensnummer_and_reading_continues_from_the_highest() -> None:
    page = page_of([version(7), version(3), unreadable(), version(5)], 2, 100)
    assert numbers(page.elements) == [None, 3, 5, 7]
    assert page.next_cursor == 7


def test_an_empty_answer_ends_the_reading() -> None:
    assert page_of([], 0, 100).next_cursor is None


def test_a_server_that_caps_the_page_lower_does_not_end_the_reading() -> None:
    assert page_of([version(3)], 2, 2500).next_cursor == 3


def test_the_number_of_a_rejected_element_skips_nothing_that_was_understood() -> None:
    assert page_of([version(3), unreadable(9)], 2, 100).next_cursor == 3


def test_a_rejected_elements_number_advances_the_reading_if_nothing_else_does() -> None:
    assert page_of([version(2), unreadable(9)], 2, 100).next_cursor == 9


def test_an_inclusive_server_ends_the_reading_with_the_element_at_the_cursor() -> None:
    page = page_of([version(7)], 7, 100)
    assert (numbers(page.elements), page.next_cursor) == ([7], None)


def test_an_answer_of_unreadable_elements_only_ends_the_reading_but_is_not_lost() -> None:
    page = page_of([unreadable()], 7, 100)
    assert (len(page.elements), page.next_cursor) == (1, None)


@pytest.mark.parametrize("below", [[version(6)], [version(6), version(7)], [unreadable(1)]])
def test_only_elements_below_the_cursor_are_an_error(below: list[Element]) -> None:
    with pytest.raises(RetryableError, match="fraSekvensnummer"):
        page_of(below, 7, 100)


@pytest.mark.parametrize("full", [[unreadable(), unreadable()], [version(7), version(7)]])
def test_a_full_page_that_does_not_move_is_an_error(full: list[Element]) -> None:
    with pytest.raises(RetryableError, match="full answer"):
        page_of(full, 7, 2)


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(0, 30), st.integers(1, 8))
def test_reading_moves_on_or_ends_and_never_repeats_itself(given_numbers: list[int], cursor: int, maks: int) -> None:
    try:
        page = page_of([version(number) for number in given_numbers], cursor, maks)
    except RetryableError:
        assert given_numbers
        assert max(given_numbers) <= cursor
        return
    assert numbers(page.elements) == sorted(given_numbers)
    if page.next_cursor is None:
        assert all(number == cursor for number in given_numbers)
    else:
        assert page.next_cursor == max(given_numbers) > cursor
