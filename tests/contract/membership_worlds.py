"""Two worlds with the same hands for the suite of memberships, a fake group and a real one; and a group's members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from confluent_kafka import Producer

from producer.admin.kafka import KafkaAdmin
from producer.group.membership import KafkaMembership
from producer.publish.topics import Topic
from tests.kit.fakes.membership import FakeGroup
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.group.port import Membership, Signal
    from tests.kit.fakes.membership import FakeMembership

LANES = 3
ALL = {0, 1, 2}
GROUP_SECONDS_MAX = 120.0


class Event(NamedTuple):
    """One lane given to or taken from one member, in the order of the whole group."""

    what: str
    member: int
    lane: int


class World(Protocol):
    """A group on its own topic of signals."""

    def membership(self) -> Membership: ...
    def signal(self, lane: int, trekkpliktig: str, value: bytes | None = None) -> None: ...
    def put_out(self, sleeper: Membership) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.group = FakeGroup(LANES)

    def membership(self) -> FakeMembership:
        return self.group.membership()

    def signal(self, lane: int, trekkpliktig: str, value: bytes | None = None) -> None:
        self.group.signal(lane, trekkpliktig, value)

    def put_out(self, sleeper: Any) -> None:
        self.group.put_out(sleeper)


class RealWorld:
    """Sessions are short, and so is the time between two polls after which a member counts as asleep."""

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self.application_id = prefix
        self.signals = f"{prefix}-signals"
        self.properties = {
            "bootstrap.servers": bootstrap_servers,
            "session.timeout.ms": "2000",
            "heartbeat.interval.ms": "300",
            "max.poll.interval.ms": "2000",
        }
        self._broker = {"bootstrap.servers": bootstrap_servers}
        KafkaAdmin(self._broker).create([Topic(self.signals, LANES, {}, 1)])

    def membership(self, instance_id: str | None = None) -> KafkaMembership:
        return KafkaMembership(lambda: self.properties, self.application_id, self.signals, instance_id)

    def signal(self, lane: int, trekkpliktig: str, value: bytes | None = None) -> None:
        producer = Producer(self._broker)
        producer.produce(self.signals, value, trekkpliktig.encode(), lane)
        assert producer.flush(10) == 0

    def put_out(self, sleeper: Any) -> None:
        """By itself, as it is not polled."""


class Members:
    """Every worker of one group, and what happened to their lanes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.offsets: dict[tuple[int, int], int] = {}
        self.owned: list[set[int]] = []
        self.signals: list[list[Signal]] = []
        self.there: list[Membership] = []
        self.awake: set[int] = set()

    def join(self, membership: Membership | None = None) -> int:
        """A new worker joins; returns its number."""
        number = len(self.there)
        membership = membership or self.world.membership()
        self.there.append(membership)
        self.owned.append(set())
        self.signals.append([])
        self.awake.add(number)

        def given(lanes: dict[int, int]) -> None:
            for lane, offset in lanes.items():
                self.owned[number].add(lane)
                self.offsets[number, lane] = offset
                self.events.append(Event("given", number, lane))

        def taken(lanes: set[int]) -> None:
            for lane in lanes & self.owned[number]:
                self.owned[number].remove(lane)
                self.events.append(Event("taken", number, lane))

        membership.join(given, taken)
        return number

    def poll(self) -> None:
        """Every worker that is awake polls once."""
        for number in sorted(self.awake):
            self.signals[number] += self.there[number].poll(0.02)

    def poll_until(self, condition: Callable[[], object]) -> None:
        def polled() -> object:
            self.poll()
            return condition()

        until(polled, GROUP_SECONDS_MAX)

    def poll_until_shared(self) -> None:
        """Until every lane is one awake worker's, and each has its share."""
        few, many = LANES // len(self.awake), -(-LANES // len(self.awake))

        def shared() -> bool:
            lanes = [lane for number in self.awake for lane in self.owned[number]]
            return sorted(lanes) == sorted(ALL) and all(few <= len(self.owned[each]) <= many for each in self.awake)

        self.poll_until(shared)

    def leave(self, number: int) -> None:
        self.awake.discard(number)
        self.there[number].leave()
