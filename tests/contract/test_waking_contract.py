"""The promises of a lane, kept however it learns of changes: by polling, by Altinn's calls, or by asking Altinn.

Each on the fake source and on the real adapter. Calls come over HTTP to the real receiver; Altinn is asked by the real
adapter where the source is real. The swap is one setting because nothing here depends on the way.
"""

from __future__ import annotations

from concurrent.futures import Future
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from producer import bootstrap
from producer.lane.schedule import Schedule
from producer.notifications.receiver import Gate, Receiver, receiver_server
from producer.observe.port import NullObserver
from producer.settings.model import load_settings
from producer.source.http import open_http_client
from sandbox.altinn.event_log import UPDATED, dialog_event
from sandbox.altinn.state import Behaviour
from tests.kit.fakes.event_feed import FakeEventFeed
from tests.kit.stages.lane_stage import LaneStage

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s" * 40
WAYS = {"poll": "poll", "push": "notification", "pull": "notification"}
"""Ways to learn of a change, and the origin of a version found in that way."""

POLL_SECONDS, HARDLY = 0.05, 1e6
RANDOM = Random("events")
NOW = 1_800_000_000.0


class Signals:
    """Stores what the receiver takes as signals of the one lane there is."""

    def __init__(self, lane: LaneStage) -> None:
        self._lane = lane

    def begin(self, trekkpliktig: str, value: bytes | None) -> Future[None]:
        self._lane.signal(trekkpliktig, value)
        stored: Future[None] = Future()
        stored.set_result(None)
        return stored


class Stage:
    """Two trekkpliktige, the lane that serves them, and Altinn, which announces changes in the chosen way."""

    def __init__(self, world: Any, lane: LaneStage, feed: Any, port: int, http: httpx.Client) -> None:
        self.world = world
        self.lane = lane
        self.one, self.two = lane.trekkpliktige
        self.way = "poll"
        self._feed = feed
        self._http = http
        self._address = f"http://127.0.0.1:{port}/notifications/{SECRET}"

    def start(self, way: str) -> None:
        """A new owner takes the lane."""
        self.way = way
        self.lane.start(Schedule(POLL_SECONDS if way == "poll" else HARDLY, lambda: 1.0))

    def tell(self, trekkpliktig: str, times: int = 1) -> None:
        """Altinn announces in this many equal events that something happened; polling alone learns nothing."""
        event = dialog_event(RANDOM, "https://altinn.example.test", trekkpliktig, "1", UPDATED, NOW)
        for _ in range(times):
            if self.way == "push":
                assert self._http.post(self._address, json=event).status_code == 200
            elif self.way == "pull":
                self._feed(event)

    def create(self, trekkpliktig: str) -> tuple[str, int]:
        return identity(self.world.create(trekkpliktig))

    def change(self, trekkid: str) -> tuple[str, int]:
        return identity(self.world.change(trekkid))

    def published(self) -> list[tuple[str, int]]:
        return [identity(each) for each in self.lane.versjoner()]

    def wait_for(self, *identities: tuple[str, int]) -> None:
        self.lane.wait_until(lambda: set(identities) <= set(self.published()))
        assert not self.lane.has_ended, self.lane.error

    def wait_for_reading(self, trekkpliktig: str, after: int) -> None:
        """Until more readings of it have ended than `after`."""
        self.lane.wait_until(lambda: self.lane.journal.ended[trekkpliktig] > after)


def identity(version: Any) -> tuple[str, int]:
    return version.trekkid, version.trekkversjon


@pytest.fixture(scope="module")
def altinn_feed(simulated: Any) -> Iterator[Any]:
    """The real adapter, on the Altinn of the same simulated world."""
    simulated.outside.altinn.behaviour = Behaviour(notifications=False, withhold_seconds=0)
    environment = simulated.outside.environment(["310000025"])
    settings = load_settings(None, environment, needs=frozenset({"maskinporten", "trekkpliktige"}))
    with open_http_client(5) as http:
        yield bootstrap.build_event_feed(settings, http, lambda _: None)


@pytest.fixture
def stage(world: Any, request: pytest.FixtureRequest) -> Iterator[Stage]:
    if hasattr(world, "outside"):
        feed, tell = request.getfixturevalue("altinn_feed"), world.outside.altinn.publish
    else:
        feed = FakeEventFeed()
        tell = feed.publish
    employers = [world.register(), world.register()]
    with LaneStage(employers, feed=feed) as lane:
        lane.through = world.source
        receiver = Receiver(Gate(SECRET, [], 100_000), set(employers), Signals(lane), NullObserver())
        with (
            receiver_server(receiver, host="127.0.0.1", port=0, proxies=()) as server,
            httpx.Client() as http,
        ):
            yield Stage(world, lane, tell, server.port, http)


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_change_is_published_once_and_says_how_it_was_learnt_of(stage: Stage, way: str) -> None:
    before = stage.create(stage.one)
    stage.start(way)
    made = [stage.create(stage.one), stage.create(stage.two)]
    stage.tell(stage.one)
    stage.tell(stage.two)
    stage.wait_for(*made)
    origins = {identity(each): each.origin for each in stage.lane.versjoner()}
    assert origins == {before: "poll", made[0]: WAYS[way], made[1]: WAYS[way]}
    assert len(stage.published()) == 3


def test_versions_that_no_list_showed_come_before_the_newest(stage: Stage, way: str) -> None:
    stage.start(way)
    trekkid, _ = stage.create(stage.one)
    versions = [(trekkid, 1), *(stage.change(trekkid) for _ in range(4))]
    stage.tell(stage.one)
    stage.wait_for(*versions)
    assert [each for each in stage.published() if each[0] == trekkid] == versions


def test_notifications_that_are_repeated_or_early_publish_nothing_twice(stage: Stage, way: str) -> None:
    stage.start(way)
    readings = stage.lane.journal.ended[stage.one]
    stage.tell(stage.one, times=3)
    stage.wait_for_reading(stage.one, readings)
    first = stage.create(stage.one)
    stage.tell(stage.one, times=3)
    stage.tell(stage.one, times=2)
    stage.wait_for(first)
    second = stage.change(first[0])
    stage.tell(stage.one)
    stage.wait_for(second)
    assert stage.published() == [first, second]


def test_changes_made_while_the_lane_had_no_owner_are_published_by_the_next_one(stage: Stage, way: str) -> None:
    stage.start(way)
    first = stage.create(stage.one)
    stage.tell(stage.one)
    stage.wait_for(first)
    stage.lane.stop()
    meanwhile = [stage.change(first[0]), stage.create(stage.two)]
    stage.tell(stage.two)
    stage.start(way)
    stage.wait_for(*meanwhile)
    third = stage.change(first[0])
    stage.tell(stage.one)
    stage.wait_for(third)
    assert sorted(stage.published()) == sorted([first, *meanwhile, third])


def test_the_position_is_the_last_number_that_was_read(stage: Stage, way: str) -> None:
    stage.start(way)
    last = [stage.world.create(each) for each in (stage.one, stage.two)]
    for trekkpliktig in (stage.one, stage.two):
        stage.tell(trekkpliktig)
    numbers = [each.sekvensnummer for each in last]
    stage.lane.wait_until(lambda: [stage.lane.position(each) for each in (stage.one, stage.two)] == numbers)
    assert [stage.lane.position(each) for each in (stage.one, stage.two)] == numbers


def test_a_broken_element_is_quarantined_once_and_its_page_continues(stage: Stage, way: str) -> None:
    stage.start(way)
    stage.world.plant_broken(stage.one)
    after = stage.create(stage.one)
    stage.tell(stage.one)
    stage.wait_for(after)
    again = stage.change(after[0])
    stage.tell(stage.one)
    stage.wait_for(again)
    assert stage.lane.quarantined() == ["missing_field"]
    assert stage.published() == [after, again]


def test_a_refusal_of_one_keeps_nobody_else_from_being_read(stage: Stage, way: str) -> None:
    stage.start(way)
    stage.world.refuse_list(stage.one)
    kept_back, made = stage.create(stage.one), stage.create(stage.two)
    stage.tell(stage.one)
    stage.tell(stage.two)
    stage.wait_for(made)
    assert stage.published() == [made]
    stage.world.recover()
    stage.start(way)
    stage.wait_for(kept_back)
    assert sorted(stage.published()) == sorted([kept_back, made])


def test_switching_between_ways_continues_where_the_other_ended(stage: Stage, way: str) -> None:
    wanted = [stage.create(stage.one)]
    for each in (way, *(other for other in WAYS if other != way), way):
        wanted.append(stage.change(wanted[0][0]))
        stage.start(each)
        wanted.append(stage.change(wanted[0][0]))
        stage.tell(stage.one)
        stage.wait_for(*wanted)
        stage.lane.stop()
    assert stage.published() == wanted
    assert stage.lane.position(stage.one) > 0
