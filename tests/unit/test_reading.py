"""A reading: from pages to chunks that detection can decide on, in bounded memory."""

from __future__ import annotations

from producer.domain.state import OrderState, TrekkpliktigState
from producer.domain.trekkpaalegg import Gone, Origin
from producer.lane.reading import FETCHES_MAX, PAGES_WAITING_MAX, Reading
from tests.unit.readings import EMPTY, ONE, page, reading_of, version
from trekkpaalegg.errors import RetryableError


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
