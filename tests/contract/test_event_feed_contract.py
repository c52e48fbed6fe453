"""The promises of `EventFeed`, kept by the fake and by the real adapter against the simulated Altinn."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from producer import bootstrap
from producer.domain.state import NO_EVENT, EventCursor
from producer.errors import SuspendedError
from producer.notifications.feed import AltinnEventFeed
from producer.settings.model import load_settings
from producer.source.http import open_http_client
from sandbox.altinn.event_log import RESOURCE, SEEN, UPDATED, dialog_event
from sandbox.altinn.state import ApiFault, Behaviour
from sandbox.control.world import OutsideWorld
from tests.kit.fakes.event_feed import FakeEventFeed
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.notifications.port import EventFeed, Pulled
    from producer.settings.model import Settings

MADE = itertools.count(1)
RANDOM = Random("ids")


class World(Protocol):
    """A feed and the hands that make what it gives."""

    feed: EventFeed

    def register(self) -> str: ...
    def tell(self, trekkpliktig: str, kind: str = UPDATED, **fields: Any) -> str: ...
    def forget(self) -> None: ...
    def refuse(self, trekkpliktig: str) -> None: ...
    def be_down(self, trekkpliktig: str) -> None: ...


def new_trekkpliktig() -> str:
    return f"{310_100_000 + next(MADE):09}"


class FakeWorld:
    def __init__(self) -> None:
        self.fake = FakeEventFeed()
        self.feed: EventFeed = self.fake

    def register(self) -> str:
        return new_trekkpliktig()

    def tell(self, trekkpliktig: str, kind: str = UPDATED, **fields: Any) -> str:
        event = {**dialog_event(RANDOM, "https://altinn", trekkpliktig, "1", kind, 1_800_000_000.0), **fields}
        self.fake.publish(event)
        return event["id"]

    def forget(self) -> None:
        self.fake.forget()

    def refuse(self, trekkpliktig: str) -> None:
        self.fake.refusals[trekkpliktig] = SuspendedError("refused")

    def be_down(self, trekkpliktig: str) -> None:
        self.fake.refusals[trekkpliktig] = RetryableError("down")


class RealWorld:
    def __init__(self, outside: OutsideWorld, feed: EventFeed) -> None:
        self.outside = outside
        self.feed = feed

    def register(self) -> str:
        trekkpliktig = new_trekkpliktig()
        self.outside.register(trekkpliktig)
        return trekkpliktig

    def tell(self, trekkpliktig: str, kind: str = UPDATED, **fields: Any) -> str:
        return self.outside.altinn.emit_event(trekkpliktig, "1", kind, fields)["id"]

    def forget(self) -> None:
        self.outside.altinn.log.forget()

    def refuse(self, trekkpliktig: str) -> None:
        self.outside.altinn.faults.append(ApiFault(403, "events", trekkpliktig, times=None))

    def be_down(self, trekkpliktig: str) -> None:
        self.outside.altinn.faults.append(ApiFault(503, "events", trekkpliktig, times=None))


@pytest.fixture(scope="module")
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld(seed=9) as made:
        made.altinn.behaviour = Behaviour(withhold_seconds=0)
        yield made


def settings_of(outside: OutsideWorld) -> Settings:
    return load_settings(None, outside.environment(["310000025"]), needs=frozenset({"maskinporten", "trekkpliktige"}))


@pytest.fixture(scope="module")
def real_feed(outside: OutsideWorld) -> Iterator[EventFeed]:
    with open_http_client(5) as http:
        yield bootstrap.build_event_feed(settings_of(outside), http, lambda _: None)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    return RealWorld(request.getfixturevalue("outside"), request.getfixturevalue("real_feed"))


def drained(feed: EventFeed, trekkpliktig: str, cursor: EventCursor = NO_EVENT) -> list[Pulled]:
    pulled = [feed.pull(trekkpliktig, cursor, {trekkpliktig})]
    while pulled[-1].has_more:
        pulled.append(feed.pull(trekkpliktig, pulled[-1].cursor, {trekkpliktig}))
    return pulled


def woken(pulled: list[Pulled]) -> list[str]:
    return [notification.event_id for each in pulled for notification in each.notifications]


def test_all_that_happened_comes_once_and_then_nothing(world: World) -> None:
    one = world.register()
    told = [world.tell(one) for _ in range(5)]
    first = drained(world.feed, one)
    assert woken(first) == told
    again = drained(world.feed, one, first[-1].cursor)
    assert woken(again) == []
    assert again[-1].cursor == first[-1].cursor
    later = world.tell(one)
    assert woken(drained(world.feed, one, again[-1].cursor)) == [later]


def test_nothing_yet_is_no_failure(world: World) -> None:
    pulled = world.feed.pull(world.register(), NO_EVENT, ())
    assert (pulled.notifications, pulled.cursor, pulled.has_more) == ((), NO_EVENT, False)


def test_others_do_not_come(world: World) -> None:
    one, other = world.register(), world.register()
    world.tell(other)
    told = world.tell(one)
    assert woken(drained(world.feed, one)) == [told]


def test_an_echo_and_another_resource_wake_nobody_and_are_passed(world: World) -> None:
    one = world.register()
    world.tell(one, SEEN)
    pulled = drained(world.feed, one)
    assert woken(pulled) == []
    assert pulled[0].outcomes == {"echo": 1}
    assert pulled[-1].cursor != NO_EVENT


def test_a_cursor_that_is_not_known_begins_at_the_oldest(world: World) -> None:
    """Nothing is lost by it: everything wakes again."""
    one = world.register()
    told = [world.tell(one) for _ in range(3)]
    assert woken(drained(world.feed, one, EventCursor("a-lost-id"))) == told


def test_events_that_are_gone_leave_a_cursor_that_works(world: World) -> None:
    one = world.register()
    world.tell(one)
    cursor = drained(world.feed, one)[-1].cursor
    world.forget()
    assert woken(drained(world.feed, one, cursor)) == []
    later = world.tell(one)
    assert woken(drained(world.feed, one, cursor)) == [later]


def test_a_refusal_concerns_one_employer_and_a_failure_never_looks_like_no_data(world: World) -> None:
    refused, down, well = world.register(), world.register(), world.register()
    world.refuse(refused)
    world.be_down(down)
    told = world.tell(well)
    with pytest.raises(SuspendedError):
        world.feed.pull(refused, NO_EVENT, {refused})
    with pytest.raises(RetryableError):
        world.feed.pull(down, NO_EVENT, {down})
    assert woken(drained(world.feed, well)) == [told]


# What only the real adapter meets.


@pytest.fixture
def small_feed(outside: OutsideWorld) -> Iterator[AltinnEventFeed]:
    """Pages of two, at most three of them a call, against an Altinn that cuts them short by chance."""
    with open_http_client(5) as http:
        client = bootstrap.build_altinn_client(settings_of(outside), http, lambda _: None)
        yield AltinnEventFeed(client, page_events=2, pages_max=3)
    outside.altinn.behaviour = Behaviour(withhold_seconds=0)
    outside.altinn.faults.clear()


@pytest.mark.parametrize("next_when_empty", [True, False])
def test_short_and_empty_pages_lose_nothing(
    outside: OutsideWorld, small_feed: AltinnEventFeed, *, next_when_empty: bool
) -> None:
    outside.altinn.behaviour = Behaviour(withhold_seconds=0, short_page_rate=0.5, next_when_empty=next_when_empty)
    world = RealWorld(outside, small_feed)
    one = world.register()
    told = [world.tell(one) for _ in range(40)]
    came: list[str] = []
    cursor = NO_EVENT
    for _ in range(200):
        pulled = small_feed.pull(one, cursor, {one})
        came += [each.event_id for each in pulled.notifications]
        cursor = pulled.cursor
        if len(came) >= len(told):
            break
    assert came == told


def test_what_came_before_a_page_that_failed_is_kept(outside: OutsideWorld, small_feed: AltinnEventFeed) -> None:
    world = RealWorld(outside, small_feed)
    one = world.register()
    told = [world.tell(one) for _ in range(3)]
    first_page = small_feed.pull(one, NO_EVENT, {one})
    assert woken([first_page]) == told
    answered = outside.altinn.calls["events", 200]
    outside.altinn.faults.append(ApiFault(503, "events", one, times=None))
    with pytest.raises(RetryableError):
        small_feed.pull(one, first_page.cursor, {one})
    assert outside.altinn.calls["events", 200] == answered


def test_young_events_come_when_they_are_old_enough(outside: OutsideWorld, small_feed: AltinnEventFeed) -> None:
    world = RealWorld(outside, small_feed)
    one = world.register()
    outside.altinn.behaviour = Behaviour(withhold_seconds=3600)
    told = world.tell(one)
    pulled = small_feed.pull(one, NO_EVENT, {one})
    assert (pulled.notifications, pulled.cursor) == ((), NO_EVENT)
    outside.altinn.behaviour = Behaviour(withhold_seconds=0)
    assert woken(drained(small_feed, one)) == [told]


def test_a_token_that_expires_early_is_fetched_again(outside: OutsideWorld, small_feed: AltinnEventFeed) -> None:
    world = RealWorld(outside, small_feed)
    one = world.register()
    small_feed.pull(one, NO_EVENT, {one})
    outside.altinn.tokens.revoke_all()
    outside.tokens.revoke_all()
    told = world.tell(one)
    assert woken(drained(small_feed, one)) == [told]


def test_only_the_configured_address_is_ever_called(outside: OutsideWorld, small_feed: AltinnEventFeed) -> None:
    """`next` may name any host: it would get the token."""
    world = RealWorld(outside, small_feed)
    one = world.register()
    told = [world.tell(one, resource=RESOURCE) for _ in range(4)]
    base_url, outside.altinn.base_url = outside.altinn.base_url, "http://127.0.0.1:1"
    try:
        assert woken(drained(small_feed, one)) == told
    finally:
        outside.altinn.base_url = base_url
