"""The promises of observations' writer and reader, kept by those in memory and by the real ones on a real Kafka."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import pytest

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import ObservationOffsets
from producer.errors import ObservationsLostError
from producer.publish.observations import ROOM_MAX, KafkaObservationReader, KafkaObservationWriter
from producer.publish.plain_log import PlainLog
from producer.publish.port import ANY_PARTITION, NewObservation, Row
from producer.publish.topics import Topics, home_of, wanted_topics
from tests.kit.fakes.observations import FakeObservations, WriteFault
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producer.publish.port import ObservationReader, ObservationWriter, ObservedRecord
    from sandbox.servers.kafka import EmbeddedKafka

HOME, OTHER, LANES = 1, 0, 2
SECONDS_MAX = 60.0
FIRST = ObservationOffsets()


class World(Protocol):
    """Both rows, empty at first."""

    writer: ObservationWriter

    def reader(self) -> ObservationReader: ...


class FakeWorld:
    def __init__(self) -> None:
        self.observations = FakeObservations(LANES, room_max=ROOM_MAX)
        self.writer = self.observations.writer()

    def reader(self) -> ObservationReader:
        return self.observations.reader(HOME)


class RealWorld:
    def __init__(self, kafka: EmbeddedKafka, prefix: str, log: PlainLog) -> None:
        self._properties = {"bootstrap.servers": kafka.bootstrap_servers}
        self._topics = Topics.of(prefix)
        rows = (self._topics.observations, self._topics.observations_urgent)
        admin = KafkaAdmin(self._properties)
        admin.create([each for each in wanted_topics(prefix, partitions=LANES, replication=1) if each.name in rows])
        self.writer = KafkaObservationWriter(log, self._topics)

    def reader(self) -> ObservationReader:
        return KafkaObservationReader(self._properties, self._topics, HOME)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    kafka = request.getfixturevalue("kafka")
    with PlainLog(lambda: {"bootstrap.servers": kafka.bootstrap_servers}) as log:
        yield RealWorld(kafka, request.getfixturevalue("topic_prefix"), log)


class Home:
    """A reader, and what came to it."""

    def __init__(self, reader: ObservationReader) -> None:
        self.reader = reader
        self.errors: list[BaseException] = []
        self._records: list[ObservedRecord] = []
        self._lock = threading.Lock()

    def start(self, offsets: ObservationOffsets = FIRST) -> None:
        self.reader.start(offsets, self._receive, self.errors.append)

    def _receive(self, records: list[ObservedRecord]) -> None:
        with self._lock:
            self._records += records

    def received(self, row: Row) -> list[ObservedRecord]:
        with self._lock:
            return [each for each in self._records if each.row is row]

    def keys(self, row: Row) -> list[bytes]:
        return [each.key for each in self.received(row)]


@pytest.fixture
def make_home(world: World) -> Iterator[Callable[[], Home]]:
    homes: list[Home] = []

    def make() -> Home:
        homes.append(Home(world.reader()))
        return homes[-1]

    yield make
    for home in homes:
        home.reader.close()


@pytest.fixture
def home(make_home: Callable[[], Home]) -> Home:
    return make_home()


def begin(
    world: World, row: Row, *keys: bytes, home: int = HOME, value: bytes | None = b"element"
) -> list[RetryableError | None]:
    """Begin to write records together; what becomes of them is in the list once that is told."""
    told: list[RetryableError | None] = []
    world.writer.store(row, [NewObservation(key, value, {"observation": key}, home) for key in keys], told.append)
    return told


def write(world: World, row: Row, *keys: bytes, home: int = HOME, value: bytes | None = b"element") -> None:
    told = begin(world, row, *keys, home=home, value=value)
    until(lambda: told, SECONDS_MAX)
    assert told == [None]


def test_a_home_reads_its_own_partition_of_both_rows_in_order(world: World, home: Home) -> None:
    write(world, Row.BULK, b"a", b"b")
    write(world, Row.BULK, b"of another home", home=OTHER)
    write(world, Row.URGENT, b"c", value=None)
    home.start()
    until(lambda: (home.keys(Row.BULK), home.keys(Row.URGENT)) == ([b"a", b"b"], [b"c"]), SECONDS_MAX)
    write(world, Row.URGENT, b"d")
    until(lambda: home.keys(Row.URGENT) == [b"c", b"d"], SECONDS_MAX)
    assert [(each.offset, each.key, each.value, each.headers) for each in home.received(Row.URGENT)] == [
        (0, b"c", None, {"observation": b"c"}),
        (1, b"d", b"element", {"observation": b"d"}),
    ]
    assert home.errors == []


def test_a_record_for_no_home_in_particular_goes_to_that_of_its_key(world: World, home: Home) -> None:
    keys = [str(number).encode() for number in range(20)]
    write(world, Row.BULK, *keys, home=ANY_PARTITION)
    write(world, Row.BULK, b"last")
    home.start()
    until(lambda: home.keys(Row.BULK)[-1:] == [b"last"], SECONDS_MAX)
    assert home.keys(Row.BULK) == [*(key for key in keys if home_of(key, LANES) == HOME), b"last"]


def test_a_home_continues_from_the_offsets_that_it_is_given(world: World, home: Home) -> None:
    write(world, Row.BULK, b"a", b"b")
    write(world, Row.URGENT, b"c")
    home.start(ObservationOffsets(urgent=1, bulk=1))
    write(world, Row.URGENT, b"d")
    until(lambda: (home.keys(Row.BULK), home.keys(Row.URGENT)) == ([b"b"], [b"d"]), SECONDS_MAX)


def test_the_ends_are_where_the_next_records_will_be_written(world: World, home: Home) -> None:
    assert home.reader.ends() == FIRST
    write(world, Row.BULK, b"a", b"b")
    write(world, Row.URGENT, b"c")
    write(world, Row.URGENT, b"of another home", home=OTHER)
    assert home.reader.ends() == ObservationOffsets(urgent=1, bulk=2)


def test_a_row_waits_while_too_much_of_it_is_outstanding_and_the_other_does_not(world: World, home: Home) -> None:
    keys = [str(number).encode() for number in range(2 * ROOM_MAX)]
    write(world, Row.BULK, *keys)
    home.start()
    until(lambda: len(home.received(Row.BULK)) >= ROOM_MAX, SECONDS_MAX)
    write(world, Row.URGENT, b"urgent")
    until(lambda: home.keys(Row.URGENT) == [b"urgent"], SECONDS_MAX)
    outstanding = len(home.received(Row.BULK))
    assert outstanding < 2 * ROOM_MAX
    home.reader.done(Row.BULK, outstanding)
    until(lambda: len(home.received(Row.BULK)) >= 2 * ROOM_MAX, SECONDS_MAX)
    assert home.keys(Row.BULK) == keys


def test_what_a_home_is_done_with_is_deleted_and_what_it_is_not_is_kept(
    world: World, make_home: Callable[[], Home]
) -> None:
    write(world, Row.BULK, b"a", b"b", b"c")
    write(world, Row.URGENT, b"d")
    make_home().reader.delete_before(ObservationOffsets(urgent=0, bulk=2))

    def is_lost() -> bool:
        late = make_home()
        late.start(ObservationOffsets(urgent=0, bulk=1))
        until(lambda: late.errors or late.received(Row.BULK), SECONDS_MAX)
        return bool(late.errors)

    until(is_lost, SECONDS_MAX)
    home = make_home()
    home.start(ObservationOffsets(urgent=0, bulk=2))
    until(lambda: (home.keys(Row.BULK), home.keys(Row.URGENT)) == ([b"c"], [b"d"]), SECONDS_MAX)
    assert home.reader.ends() == ObservationOffsets(urgent=1, bulk=3)


def test_records_that_are_gone_are_a_failure_that_is_told_once(world: World, home: Home) -> None:
    write(world, Row.BULK, b"a")
    home.start(ObservationOffsets(urgent=0, bulk=2))
    until(lambda: home.errors, SECONDS_MAX)
    write(world, Row.URGENT, b"b")
    home.reader.done(Row.URGENT, 0)
    for_a_while(lambda: len(home.errors) == 1)
    assert isinstance(home.errors[0], ObservationsLostError)
    assert (home.keys(Row.BULK), home.keys(Row.URGENT)) == ([], [])


def test_nothing_is_delivered_after_the_reader_was_closed(world: World, home: Home) -> None:
    home.start()
    write(world, Row.BULK, b"a")
    until(lambda: home.keys(Row.BULK) == [b"a"], SECONDS_MAX)
    home.reader.close()
    write(world, Row.BULK, b"b")
    home.reader.done(Row.BULK, 1)
    for_a_while(lambda: home.keys(Row.BULK) == [b"a"])
    assert home.errors == []


@pytest.mark.parametrize(
    ("fault", "is_stored", "is_late"),
    [
        (WriteFault.REFUSED, False, False),
        (WriteFault.ANSWER_LOST, True, False),
        (WriteFault.ANSWER_LATE, True, True),
        (WriteFault.LATE, False, True),
    ],
)
def test_writes_in_memory_fail_or_are_late_on_demand(fault: WriteFault, is_stored: bool, is_late: bool) -> None:
    world = FakeWorld()
    world.observations.fail(fault, row=Row.BULK)
    told = begin(world, Row.BULK, b"a", b"b")
    write(world, Row.URGENT, b"c")
    write(world, Row.BULK, b"d")
    keys = [each.key for each in world.observations.records(HOME, Row.BULK)]
    assert keys == [*([b"a"] if is_stored else []), b"b", b"d"]
    assert bool(told) is not is_late
    world.observations.catch_up()
    assert [error is None for error in told] == [is_late]
    keys = sorted(each.key for each in world.observations.records(HOME, Row.BULK))
    assert keys == [*([b"a"] if is_stored or is_late else []), b"b", b"d"]


def test_observations_in_memory_are_out_of_reach_on_demand() -> None:
    world = FakeWorld()
    home = Home(world.reader())
    home.start()
    world.observations.is_reachable = False
    [error] = begin(world, Row.BULK, b"a")
    assert isinstance(error, RetryableError)
    with pytest.raises(RetryableError):
        home.reader.ends()
    world.observations.heal()
    write(world, Row.BULK, b"b")
    assert home.keys(Row.BULK) == [b"b"]
