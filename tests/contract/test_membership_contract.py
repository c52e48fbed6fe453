"""The promises of `Membership`, kept by the fake group and by a real consumer group on a real Kafka."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import pytest

from producer.errors import LaneFencedError
from producer.group.port import Signal
from tests.contract.membership_worlds import ALL, GROUP_SECONDS_MAX, LANES, Event, FakeWorld, Members, RealWorld, World
from tests.kit.waiting import for_a_while, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

ONE, TWO = "311111111", "322222222"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest, topic_prefix: str) -> World:
    if request.param == "fake":
        return FakeWorld()
    return RealWorld(request.getfixturevalue("kafka").bootstrap_servers, topic_prefix)


@pytest.fixture
def members(world: World) -> Iterator[Members]:
    made = Members(world)
    yield made
    for number in list(made.awake):
        made.leave(number)


@pytest.fixture(autouse=True)
def _librdkafka_aside(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "librdkafka")


def test_worker_alone_is_given_every_lane_once_from_the_beginning(members: Members) -> None:
    only = members.join()
    members.poll_until(lambda: members.owned[only] == ALL)
    assert sorted(members.events) == [Event("given", only, lane) for lane in range(LANES)]
    assert set(members.offsets.values()) == {0}
    assert members.there[only].metadata() is not None


def test_a_member_knows_that_kafka_is_within_reach(members: Members) -> None:
    only = members.join()
    members.poll_until(members.there[only].is_connected)


def test_signals_come_in_order_with_their_lane_and_offset(members: Members) -> None:
    only = members.join()
    members.poll_until(lambda: members.owned[only] == ALL)
    for lane, trekkpliktig in ((1, ONE), (1, TWO), (2, ONE)):
        members.world.signal(lane, trekkpliktig)
    members.poll_until(lambda: len(members.signals[only]) == 3)
    assert sorted(members.signals[only]) == [Signal(1, 0, ONE), Signal(1, 1, TWO), Signal(2, 0, ONE)]


def test_signals_carry_their_values_verbatim(members: Members) -> None:
    for value in (b"request", b"", None):
        members.world.signal(0, ONE, value)
    only = members.join()
    members.poll_until(lambda: len(members.signals[only]) == 3)
    assert [each.value for each in members.signals[only]] == [b"request", b"", None]


def test_signals_of_before_are_delivered_too(members: Members) -> None:
    members.world.signal(0, ONE)
    only = members.join()
    members.poll_until(lambda: members.signals[only])
    assert members.signals[only] == [Signal(0, 0, ONE)]


def test_first_open_offset_is_what_was_confirmed_and_signals_come_from_there(members: Members) -> None:
    for number in range(3):
        members.world.signal(0, str(number))
    former = members.join()
    members.poll_until(lambda: len(members.signals[former]) == 3)
    assert members.there[former].confirm(0, 2)
    members.leave(former)
    following = members.join()
    members.poll_until(lambda: members.owned[following] == ALL)
    assert {lane: members.offsets[following, lane] for lane in ALL} == {0: 2, 1: 0, 2: 0}
    members.poll_until(lambda: members.signals[following])
    assert members.signals[following] == [Signal(0, 2, "2")]


def test_owner_is_confirmed(members: Members) -> None:
    only = members.join()
    members.poll_until(lambda: members.owned[only] == ALL)
    assert all(members.there[only].confirm(lane, 0) for lane in ALL)


def test_rewound_lane_delivers_its_signals_again_and_no_other_does(members: Members) -> None:
    only = members.join()
    members.poll_until(lambda: members.owned[only] == ALL)
    for lane, trekkpliktig in ((0, ONE), (0, TWO), (1, ONE)):
        members.world.signal(lane, trekkpliktig)
    members.poll_until(lambda: len(members.signals[only]) == 3)
    members.signals[only].clear()
    members.there[only].rewind(0, 1)
    members.poll_until(lambda: members.signals[only])
    assert members.signals[only] == [Signal(0, 1, TWO)]


def test_lanes_are_shared_with_a_new_member_each_revoked_before_it_is_assigned(members: Members) -> None:
    first = members.join()
    members.poll_until(lambda: members.owned[first] == ALL)
    members.events.clear()
    second = members.join()
    members.poll_until_shared()
    moved = members.owned[second]
    for lane in moved:
        story = [event for event in members.events if event.lane == lane]
        assert story == [Event("taken", first, lane), Event("given", second, lane)]
    untouched = {event.lane for event in members.events} - moved
    assert untouched == set()


def test_lanes_of_a_member_that_leaves_are_assigned_to_the_others(members: Members) -> None:
    first, second = members.join(), members.join()
    members.poll_until_shared()
    left = set(members.owned[second])
    kept = set(members.owned[first])
    members.events.clear()
    members.leave(second)
    assert sorted(members.events) == sorted(Event("taken", second, lane) for lane in left)
    members.poll_until(lambda: members.owned[first] == ALL)
    assert {event.lane for event in members.events}.isdisjoint(kept)


def test_a_reassigned_lane_continues_from_its_first_open_signal(members: Members) -> None:
    first = members.join()
    members.poll_until(lambda: members.owned[first] == ALL)
    for number, lane in itertools.product(range(3), ALL):
        members.world.signal(lane, str(number))
    members.poll_until(lambda: len(members.signals[first]) == 3 * LANES)
    for lane in ALL:
        assert members.there[first].confirm(lane, 1)
    second = members.join()
    members.poll_until_shared()
    moved = members.owned[second]
    members.poll_until(lambda: len(members.signals[second]) == 2 * len(moved))
    assert sorted(members.signals[second]) == [Signal(lane, at, str(at)) for lane in sorted(moved) for at in (1, 2)]
    assert {members.offsets[second, lane] for lane in moved} == {1}


def test_a_suspended_member_that_lost_its_lanes_is_not_confirmed_and_sees_the_revocation(members: Members) -> None:
    """It still believes that its lanes are its own: taking one of them would fence the rightful owner."""
    sleeper = members.join()
    members.poll_until(lambda: members.owned[sleeper] == ALL)
    members.awake.discard(sleeper)
    members.world.put_out(members.there[sleeper])
    heir = members.join()
    members.poll_until(lambda: members.owned[heir] == ALL)
    assert members.owned[sleeper] == ALL
    assert not any(members.there[sleeper].confirm(lane, 9) for lane in ALL)
    assert all(members.there[heir].confirm(lane, 5) for lane in ALL)
    members.events.clear()
    members.awake.add(sleeper)
    members.poll_until_shared()
    own = [event for event in members.events if event.member == sleeper]
    assert own[:LANES] == [Event("taken", sleeper, lane) for lane in range(LANES)]
    assert {members.offsets[sleeper, lane] for lane in members.owned[sleeper]} == {5}


def test_nothing_changes_hands_while_nobody_comes_or_goes(members: Members) -> None:
    members.join()
    members.join()
    members.poll_until_shared()
    members.events.clear()

    def quiet() -> bool:
        members.poll()
        return members.events == []

    for_a_while(quiet, 0.5)


@pytest.mark.kafka
def test_second_process_under_the_same_instance_id_puts_the_first_out_for_good(
    kafka: EmbeddedKafka, topic_prefix: str
) -> None:
    world = RealWorld(kafka.bootstrap_servers, topic_prefix)
    members = Members(world)
    first = members.join(world.membership("pod-0"))
    members.poll_until(lambda: members.owned[first] == ALL)
    twin = Members(world)
    twin.join(world.membership("pod-0"))

    def put_out() -> bool:
        twin.poll()
        try:
            members.poll()
        except LaneFencedError:
            return True
        return False

    until(put_out, GROUP_SECONDS_MAX)
    assert not members.there[first].confirm(0, 0)
    members.leave(first)
    twin.leave(0)


@pytest.mark.kafka
def test_restart_under_the_same_instance_id_moves_nothing(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    """A rolling update must not shake the lanes of all the others."""
    world = RealWorld(kafka.bootstrap_servers, topic_prefix)
    world.properties["session.timeout.ms"] = "10000"
    world.properties["max.poll.interval.ms"] = "10000"
    members = Members(world)
    members.join(world.membership("pod-0"))
    restarted = members.join(world.membership("pod-1"))
    members.poll_until_shared()
    lanes = set(members.owned[restarted])
    members.leave(restarted)
    members.events.clear()
    again = members.join(world.membership("pod-1"))
    members.poll_until_shared()
    assert members.owned[again] == lanes
    assert {event.member for event in members.events} == {again}
    members.leave(again)
    members.leave(0)
