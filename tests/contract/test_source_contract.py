"""The promises of `TrekkpaaleggSource`, kept by the fake and by the real adapter against the simulated Skatteetaten."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import pytest

from producer.domain.trekkpaalegg import Element, Failed, Gone, Rejected, RejectionReason, Trekkpaalegg
from producer.errors import RetryableError, SuspendedError
from producer.retry import call_retries
from producer.source.client import SkatteetatenClient
from producer.source.exchange import open_http_client
from producer.source.grant import load_client_key
from producer.source.maskinporten import MaskinportenTokens
from producer.source.polling import PollingSource
from producer.source.well_known import WellKnown
from sandbox.fake_source import FakeSource
from sandbox.outside import OutsideWorld
from sandbox.skatteetaten.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.source.port import TrekkpaaleggSource

MAKS_ANTALL = 3
PAUSE_SECONDS = 60.0
MADE = itertools.count(1)


class Version(Protocol):
    """What both worlds tell of a version that they made."""

    @property
    def trekkid(self) -> str: ...
    @property
    def trekkversjon(self) -> int: ...
    @property
    def sekvensnummer(self) -> int: ...


class World(Protocol):
    """A source and the hands that change what it sees."""

    source: TrekkpaaleggSource

    def register(self) -> str: ...
    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version: ...
    def change(self, trekkid: str) -> Version: ...
    def forget(self, trekkid: str, trekkversjon: int) -> None: ...
    def plant_broken(self, trekkpliktig: str) -> None: ...
    def refuse(self, trekkpliktig: str) -> None: ...
    def be_busy(self) -> None: ...
    def recover(self) -> None: ...


def new_trekkpliktig() -> str:
    return f"{310_000_000 + next(MADE):09}"


class FakeWorld:
    def __init__(self) -> None:
        self.fake = FakeSource(maks_antall=MAKS_ANTALL)
        self.source: TrekkpaaleggSource = self.fake

    def register(self) -> str:
        return new_trekkpliktig()

    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version:
        return self.fake.create(trekkpliktig, **({"trekkid": trekkid} if trekkid else {}))

    def change(self, trekkid: str) -> Version:
        return self.fake.change(trekkid)

    def forget(self, trekkid: str, trekkversjon: int) -> None:
        self.fake.forget(trekkid, trekkversjon)

    def plant_broken(self, trekkpliktig: str) -> None:
        newest = max((version.sekvensnummer for version in self.fake.versions()), default=0)
        reason = RejectionReason.MISSING_FIELD
        broken = Rejected(trekkpliktig, b"{}", b"", reason, "opprettet", "Missing.", sekvensnummer=newest + 1)
        self.fake.plant(trekkpliktig, broken)

    def refuse(self, trekkpliktig: str) -> None:
        self.fake.fail(SuspendedError("refused"), times=None, trekkpliktig=trekkpliktig)

    def be_busy(self) -> None:
        self.fake.fail(RetryableError("busy", retry_after_seconds=PAUSE_SECONDS), times=None)

    def recover(self) -> None:
        self.fake.heal()


class SimulatedWorld:
    def __init__(self, outside: OutsideWorld, source: TrekkpaaleggSource) -> None:
        self.outside = outside
        self.source = source

    def register(self) -> str:
        trekkpliktig = new_trekkpliktig()
        self.outside.register(trekkpliktig)
        return trekkpliktig

    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version:
        return self.outside.skatteetaten.create(trekkpliktig, {"trekkid": trekkid} if trekkid else None)

    def change(self, trekkid: str) -> Version:
        return self.outside.skatteetaten.change(trekkid)

    def forget(self, trekkid: str, trekkversjon: int) -> None:
        self.outside.skatteetaten.book.forget(trekkid, trekkversjon)

    def plant_broken(self, trekkpliktig: str) -> None:
        skatteetaten = self.outside.skatteetaten
        number = skatteetaten.next_sekvensnummer()
        wire = {"trekkid": "broken", "trekkversjon": 1, "sekvensnummer": number}
        skatteetaten.plant(trekkpliktig, json.dumps(wire), sekvensnummer=number)

    def refuse(self, trekkpliktig: str) -> None:
        fault = Fault(FaultKind.STATUS, trekkpliktig=trekkpliktig, times=None, status=403, kode="KB-005")
        self.outside.skatteetaten.add_fault(fault)

    def be_busy(self) -> None:
        self.outside.skatteetaten.add_fault(Fault(FaultKind.STATUS, times=None, status=429, seconds=PAUSE_SECONDS))

    def recover(self) -> None:
        self.outside.skatteetaten.faults.clear()


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedWorld]:
    with OutsideWorld(seed=1) as outside, open_http_client(5) as http:
        environment = outside.environment([])
        tokens = MaskinportenTokens(
            http,
            WellKnown(http, environment["MASKINPORTEN_WELL_KNOWN_URL"]),
            load_client_key(environment["MASKINPORTEN_CLIENT_JWK"]),
            client_id=environment["MASKINPORTEN_CLIENT_ID"],
            scope=environment["MASKINPORTEN_SCOPES"],
            authentication="systembruker",
        )
        client = SkatteetatenClient(http, environment["TREKKPAALEGG_API_URL"], tokens)
        retries = call_retries(threading.Event())
        yield SimulatedWorld(outside, PollingSource(client, retries, maks_antall=MAKS_ANTALL))


@pytest.fixture(params=["fake", "polling"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    built: World = FakeWorld() if request.param == "fake" else request.getfixturevalue("simulated")
    yield built
    built.recover()


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


def identity(version: Element | Version) -> tuple[str | None, int | None, int | None]:
    return (version.trekkid, version.trekkversjon, version.sekvensnummer)


def test_a_trekkpliktig_without_orders_has_an_empty_page(world: World, trekkpliktig: str) -> None:
    page = world.source.fetch_page(trekkpliktig, 0)
    assert (page.elements, page.next_cursor) == ([], None)


@pytest.mark.parametrize("count", [1, MAKS_ANTALL - 1, MAKS_ANTALL, MAKS_ANTALL + 1, 3 * MAKS_ANTALL])
def test_every_order_comes_once_whatever_the_size_of_the_page(world: World, trekkpliktig: str, count: int) -> None:
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


def test_every_version_can_be_had_by_number(world: World, trekkpliktig: str) -> None:
    first = world.create(trekkpliktig)
    second = world.change(first.trekkid)
    for version in (first, second):
        fetched = world.source.fetch_trekkpaalegg(trekkpliktig, version.trekkid, version.trekkversjon)
        assert isinstance(fetched, Trekkpaalegg)
        assert identity(fetched) == identity(version)
    [listed] = read_all(world, trekkpliktig)
    assert listed == world.source.fetch_trekkpaalegg(trekkpliktig, second.trekkid, second.trekkversjon)


@pytest.mark.parametrize("trekkid", ["a/b", "a b?c=d&e#f", "%2F%", "æøå", "..", ".", "10001", "x" * 900])
def test_a_trekkid_is_never_mistaken_for_a_part_of_the_address(world: World, trekkpliktig: str, trekkid: str) -> None:
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


def test_a_broken_element_is_rejected_and_its_page_goes_on(world: World, trekkpliktig: str) -> None:
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
    world.refuse(trekkpliktig)
    with pytest.raises(SuspendedError):
        world.source.fetch_page(trekkpliktig, 0)
    with pytest.raises(SuspendedError):
        world.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1)
    assert len(world.source.fetch_page(other, 0).elements) == 1


def test_a_busy_source_is_no_empty_page_and_tells_how_long_to_wait(world: World, trekkpliktig: str) -> None:
    made = world.create(trekkpliktig)
    world.be_busy()
    with pytest.raises(RetryableError) as caught:
        world.source.fetch_page(trekkpliktig, made.sekvensnummer)
    assert caught.value.retry_after_seconds == PAUSE_SECONDS
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
