"""The promises of `TrekkpaaleggSource`, kept by the fake and by the real adapter against the simulated Skatteetaten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from producer.domain.trekkpaalegg import Element, Failed, Gone, Rejected, RejectionReason, Trekkpaalegg
from producer.errors import SuspendedError
from trekkpaalegg.errors import RetryableError

World = Any
"""A source and the hands that change what it sees: one of those in `conftest.py`."""

MAKS_ANTALL = 3
"""Elements in a page of theirs."""


@pytest.fixture
def trekkpliktig(world: World) -> str:
    return world.register()


def read_all(world: World, trekkpliktig: str, cursor: int = 0) -> list[Element]:
    """Every element from `cursor` on, page by page as a lane reads them."""
    found: list[Element] = []
    for _ in range(100):
        page = world.source.fetch_page(trekkpliktig, cursor)
        assert [each.sekvensnummer for each in page.elements] == sorted(each.sekvensnummer for each in page.elements)
        found += page.elements
        if page.next_cursor is None:
            return found
        assert page.next_cursor > cursor
        cursor = page.next_cursor
    raise AssertionError("the reading does not end")


def identity(version: Any) -> tuple[str | None, int | None, int | None]:
    return (version.trekkid, version.trekkversjon, version.sekvensnummer)


def test_a_trekkpliktig_without_orders_has_an_empty_page(world: World, trekkpliktig: str) -> None:
    page = world.source.fetch_page(trekkpliktig, 0)
    assert (page.elements, page.next_cursor) == ([], None)


@pytest.mark.parametrize("count", [1, MAKS_ANTALL - 1, MAKS_ANTALL, MAKS_ANTALL + 1, 3 * MAKS_ANTALL])
def test_every_order_comes_once_whatever_the_size_of_the_page(world: World, trekkpliktig: str, count: int) -> None:
    assert world.maks_antall == MAKS_ANTALL
    made = [world.create(trekkpliktig) for _ in range(count)]
    world.create(world.register())
    read = read_all(world, trekkpliktig)
    assert [identity(each) for each in read] == [identity(each) for each in made]
    assert all(isinstance(each, Trekkpaalegg) and each.trekkpliktig == trekkpliktig for each in read)


def test_the_list_holds_the_newest_version_of_a_changed_order(world: World, trekkpliktig: str) -> None:
    first, second = world.create(trekkpliktig), world.create(trekkpliktig)
    cursor = second.sekvensnummer
    world.change(first.trekkid)
    newest = world.change(first.trekkid)
    assert [identity(each) for each in read_all(world, trekkpliktig, cursor)] == [identity(newest)]
    assert [identity(each) for each in read_all(world, trekkpliktig)] == [identity(second), identity(newest)]


def test_nothing_is_newer_than_a_position_ahead_of_the_source(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    for cursor in (made.sekvensnummer, made.sekvensnummer + 10**12):
        page = world.source.fetch_page(trekkpliktig, cursor)
        assert (page.elements, page.next_cursor) == ([], None)


def test_every_version_can_be_fetched_by_number(world: World, trekkpliktig: str) -> None:
    first = world.create(trekkpliktig)
    second = world.change(first.trekkid)
    for version in (first, second):
        fetched = world.source.fetch_trekkpaalegg(trekkpliktig, version.trekkid, version.trekkversjon)
        assert isinstance(fetched, Trekkpaalegg)
        assert identity(fetched) == identity(version)
    [listed] = read_all(world, trekkpliktig)
    assert listed == world.source.fetch_trekkpaalegg(trekkpliktig, second.trekkid, second.trekkversjon)


@pytest.mark.parametrize("trekkid", ["a/b", "a b?c=d&e#f", "%2F%", "æøå", "..", ".", "10001", "x" * 900])
def test_a_trekkid_is_never_mistaken_for_a_part_of_the_url(world: World, trekkpliktig: str, trekkid: str) -> None:
    made = world.create(trekkpliktig, trekkid=f"{trekkid}{trekkpliktig}" if trekkid.strip(".") else trekkid)
    fetched = world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, made.trekkversjon)
    assert isinstance(fetched, Trekkpaalegg)
    assert fetched.trekkid == made.trekkid


def test_what_is_not_there_is_gone(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    world.change(made.trekkid)
    world.forget(made.trekkid, 1)
    of_another = world.create(world.register())
    fetch = world.source.fetch_trekkpaalegg
    assert isinstance(fetch(trekkpliktig, made.trekkid, 1), Gone)
    assert isinstance(fetch(trekkpliktig, made.trekkid, 2), Trekkpaalegg)
    assert isinstance(fetch(trekkpliktig, made.trekkid, 3), Gone)
    assert isinstance(fetch(trekkpliktig, "unknown", 1), Gone)
    assert isinstance(fetch(trekkpliktig, of_another.trekkid, 1), Gone)


def test_a_broken_element_is_rejected_and_its_page_continues(world: World, trekkpliktig: str) -> None:
    before = world.create(trekkpliktig)
    world.plant_broken(trekkpliktig)
    after = world.create(trekkpliktig)
    first, broken, last = read_all(world, trekkpliktig)
    assert (identity(first), identity(last)) == (identity(before), identity(after))
    assert isinstance(broken, Rejected)
    assert (broken.reason, broken.field_path) == (RejectionReason.MISSING_FIELD, "opprettet")
    assert broken.trekkpliktig == trekkpliktig


def test_a_refusal_concerns_its_trekkpliktig_alone(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    other = world.register()
    world.create(other)
    world.refuse_list(trekkpliktig)
    with pytest.raises(SuspendedError):
        world.source.fetch_page(trekkpliktig, 0)
    assert isinstance(world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1), Trekkpaalegg)
    assert len(world.source.fetch_page(other, 0).elements) == 1
    world.refuse_token(trekkpliktig)
    with pytest.raises(SuspendedError):
        world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1)
    assert len(world.source.fetch_page(other, 0).elements) == 1


def test_a_refused_version_concerns_that_version_alone(world: World, trekkpliktig: str) -> None:
    refused = world.create(trekkpliktig)
    newest = world.change(refused.trekkid)
    world.refuse_version(refused.trekkid, 1)
    assert world.source.fetch_trekkpaalegg(trekkpliktig, refused.trekkid, 1) == Gone("HTTP 403")
    assert isinstance(world.source.fetch_trekkpaalegg(trekkpliktig, refused.trekkid, 2), Trekkpaalegg)
    assert [identity(each) for each in read_all(world, trekkpliktig)] == [identity(newest)]


def test_an_element_is_read_again_from_its_text(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    world.change(made.trekkid)
    world.plant_broken(trekkpliktig)
    first = world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1)
    for element in (first, *read_all(world, trekkpliktig)):
        assert world.source.read_element(element.raw, trekkpliktig) == element


def test_a_busy_source_is_not_an_empty_page_and_says_how_long_to_wait(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    world.be_busy()
    with pytest.raises(RetryableError) as caught:
        world.source.fetch_page(trekkpliktig, made.sekvensnummer)
    assert caught.value.retry_after_seconds == world.pause_seconds
    assert isinstance(world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1), Failed)
    world.recover()
    assert len(read_all(world, trekkpliktig)) == 1
    assert isinstance(world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1), Trekkpaalegg)


def test_several_threads_read_at_once(world: World) -> None:
    employers = [world.register() for _ in range(8)]
    made = {employer: [identity(world.create(employer)) for _ in range(7)] for employer in employers}
    with ThreadPoolExecutor(len(employers)) as threads:
        read = threads.map(lambda employer: read_all(world, employer), employers)
        assert {
            employer: [identity(each) for each in found] for employer, found in zip(employers, read, strict=True)
        } == made
