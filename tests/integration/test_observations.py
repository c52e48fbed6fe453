"""The rows of observations on a real Kafka: how lanes write to them and homes read them."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError

import producer.publish.plain_log
from producer.admin.kafka import KafkaAdmin
from producer.domain.state import ObservationOffsets
from producer.errors import ObservationsLostError
from producer.publish.observations import ROOM_MAX, KafkaObservationReader, KafkaObservationWriter
from producer.publish.plain_log import PlainLog
from producer.publish.port import ANY_PARTITION, NewObservation, Row
from producer.publish.topics import Topics, home_of, wanted_topics
from tests.kit.waiting import until
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.clients import create_producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Producer

    from producer.publish.port import ObservationWriter, ObservedRecord
    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

HOME, LANES = 1, 2
SECONDS_MAX = 60.0
FIRST = ObservationOffsets()


def new(key: bytes, home: int = HOME) -> NewObservation:
    return NewObservation(key, b"element", {}, home)


def store(writer: ObservationWriter, row: Row, records: list[NewObservation]) -> RetryableError | None:
    """How it ended, once that is known of all of them."""
    outcomes: queue.SimpleQueue[RetryableError | None] = queue.SimpleQueue()
    writer.store(row, records, outcomes.put)
    return outcomes.get(timeout=SECONDS_MAX)


class Home:
    """One home that reads, and what has come to it."""

    def __init__(self, properties: dict[str, str], topics: Topics) -> None:
        self.reader = KafkaObservationReader(properties, topics, HOME)
        self.errors: list[BaseException] = []
        self._records: list[ObservedRecord] = []
        self._receiving = threading.Lock()

    def start(self, offsets: ObservationOffsets = FIRST) -> None:
        self.reader.start(offsets, self._receive, self.errors.append)

    def _receive(self, records: list[ObservedRecord]) -> None:
        with self._receiving:
            self._records += records

    def received(self, row: Row) -> list[ObservedRecord]:
        with self._receiving:
            return [each for each in self._records if each.row is row]

    def keys(self, row: Row) -> list[bytes]:
        return [each.key for each in self.received(row)]


class Rows:
    """The two topics under one prefix."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str) -> None:
        self.properties = {"bootstrap.servers": kafka.bootstrap_servers}
        self.topics = Topics.of(prefix)
        self.admin = Admin(self.properties)
        rows = (self.topics.observations, self.topics.observations_urgent)
        KafkaAdmin(self.properties).create(
            [each for each in wanted_topics(prefix, partitions=LANES) if each.name in rows]
        )
        until(lambda: set(rows) <= set(self.admin.metadata().topics), SECONDS_MAX)

    def write(self, row: Row, *keys: bytes, home: int = HOME, value: bytes | None = b"element") -> None:
        with PlainLog(lambda: self.properties) as log:
            writer = KafkaObservationWriter(log, self.topics)
            assert store(writer, row, [NewObservation(key, value, {"observation": key}, home) for key in keys]) is None

    def first_offset(self, topic: str) -> int:
        partition = Partition(topic, HOME)
        return self.admin.begins([partition])[partition]


@pytest.fixture
def rows(kafka: EmbeddedKafka, topic_prefix: str) -> Rows:
    return Rows(kafka, topic_prefix)


@pytest.fixture
def make_home(rows: Rows) -> Iterator[Callable[[], Home]]:
    homes: list[Home] = []

    def make() -> Home:
        homes.append(Home(rows.properties, rows.topics))
        return homes[-1]

    yield make
    for home in homes:
        home.reader.close()


def test_a_home_reads_its_own_partition_of_both_rows_in_order(rows: Rows, make_home: Callable[[], Home]) -> None:
    rows.write(Row.BULK, b"a", b"b", b"c")
    rows.write(Row.BULK, b"of another home", home=0)
    rows.write(Row.URGENT, b"d", value=None)
    home = make_home()
    home.start()
    until(lambda: (len(home.received(Row.BULK)), len(home.received(Row.URGENT))) == (3, 1), SECONDS_MAX)
    rows.write(Row.URGENT, b"e")
    until(lambda: len(home.received(Row.URGENT)) == 2, SECONDS_MAX)
    assert [(each.offset, each.key, each.value, each.headers) for each in home.received(Row.BULK)] == [
        (0, b"a", b"element", {"observation": b"a"}),
        (1, b"b", b"element", {"observation": b"b"}),
        (2, b"c", b"element", {"observation": b"c"}),
    ]
    assert [(each.offset, each.key, each.value) for each in home.received(Row.URGENT)] == [
        (0, b"d", None),
        (1, b"e", b"element"),
    ]
    assert home.reader.ends() == ObservationOffsets(urgent=2, bulk=3)
    assert home.errors == []


def test_a_home_continues_from_the_offsets_that_it_is_given(rows: Rows, make_home: Callable[[], Home]) -> None:
    rows.write(Row.BULK, b"a", b"b")
    rows.write(Row.URGENT, b"c")
    home = make_home()
    home.start(ObservationOffsets(urgent=1, bulk=1))
    until(lambda: home.keys(Row.BULK) == [b"b"], SECONDS_MAX)
    rows.write(Row.URGENT, b"d")
    until(lambda: home.keys(Row.URGENT) == [b"d"], SECONDS_MAX)


def test_a_row_waits_while_too_much_of_it_is_outstanding_and_the_other_does_not(
    rows: Rows, make_home: Callable[[], Home]
) -> None:
    keys = [str(number).encode() for number in range(2 * ROOM_MAX)]
    rows.write(Row.BULK, *keys)
    home = make_home()
    home.start()
    until(lambda: len(home.received(Row.BULK)) >= ROOM_MAX, SECONDS_MAX)
    rows.write(Row.URGENT, b"urgent")
    until(lambda: home.keys(Row.URGENT) == [b"urgent"], SECONDS_MAX)
    outstanding = len(home.received(Row.BULK))
    assert outstanding < 2 * ROOM_MAX
    home.reader.done(Row.BULK, outstanding)
    until(lambda: len(home.received(Row.BULK)) >= 2 * ROOM_MAX, SECONDS_MAX)
    assert home.keys(Row.BULK) == keys


def test_what_a_home_is_done_with_is_deleted_and_what_it_is_not_is_kept(
    rows: Rows, make_home: Callable[[], Home]
) -> None:
    rows.write(Row.BULK, b"a", b"b", b"c")
    rows.write(Row.URGENT, b"d")
    home = make_home()
    home.start()
    home.reader.delete_before(ObservationOffsets(urgent=0, bulk=2))
    until(lambda: rows.first_offset(rows.topics.observations) == 2, SECONDS_MAX)
    assert rows.first_offset(rows.topics.observations_urgent) == 0
    late = make_home()
    late.start(ObservationOffsets(urgent=0, bulk=2))
    until(lambda: (late.keys(Row.BULK), late.keys(Row.URGENT)) == ([b"c"], [b"d"]), SECONDS_MAX)


@pytest.mark.parametrize("offset", [0, 4], ids=["deleted", "beyond the end"])
def test_observations_that_are_gone_are_not_passed_over_in_silence(
    rows: Rows, make_home: Callable[[], Home], offset: int
) -> None:
    rows.write(Row.BULK, b"a", b"b", b"c")
    home = make_home()
    home.reader.delete_before(ObservationOffsets(bulk=2))
    until(lambda: rows.first_offset(rows.topics.observations) == 2, SECONDS_MAX)
    home.start(ObservationOffsets(bulk=offset))
    until(lambda: len(home.errors) == 1, SECONDS_MAX)
    assert isinstance(home.errors[0], ObservationsLostError)
    assert f"{rows.topics.observations}/{HOME}" in str(home.errors[0])
    assert home.received(Row.BULK) == []


def test_a_record_that_cannot_be_stored_is_told(rows: Rows) -> None:
    with PlainLog(lambda: rows.properties) as log:
        writer = KafkaObservationWriter(log, rows.topics)
        error = store(writer, Row.BULK, [new(b"stored"), new(b"not stored", home=LANES + 5)])
        assert isinstance(error, RetryableError)
        assert "try again" in str(error)


def test_kafka_finds_the_home_of_an_order(rows: Rows, make_home: Callable[[], Home]) -> None:
    keys = [str(number).encode() for number in range(20)]
    rows.write(Row.BULK, *keys, home=ANY_PARTITION)
    home = make_home()
    home.start()
    expected = [key for key in keys if home_of(key, LANES) == HOME]
    until(lambda: len(home.keys(Row.BULK)) >= len(expected), SECONDS_MAX)
    assert home.keys(Row.BULK) == expected


def test_a_writer_whose_client_has_failed_for_good_goes_on_with_another(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def make(settings: dict[str, Any]) -> Producer:
        made.append(settings)
        return create_producer(settings)

    monkeypatch.setattr(producer.publish.plain_log, "create_producer", make)
    with PlainLog(lambda: rows.properties) as log:
        writer = KafkaObservationWriter(log, rows.topics)
        assert store(writer, Row.BULK, [new(b"a")]) is None
        made[0]["error_cb"](KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "lost", True))
        until(lambda: len(made) == 2, SECONDS_MAX)
        assert store(writer, Row.BULK, [new(b"b")]) is None


def test_nothing_is_delivered_after_the_reader_was_closed(rows: Rows, make_home: Callable[[], Home]) -> None:
    home = make_home()
    home.start()
    rows.write(Row.BULK, b"a")
    until(lambda: home.keys(Row.BULK) == [b"a"], SECONDS_MAX)
    home.reader.close()
    rows.write(Row.BULK, b"b")
    assert (home.keys(Row.BULK), home.errors) == ([b"a"], [])
