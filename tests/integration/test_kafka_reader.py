"""The reader of topics on a real Kafka: ranges that have been deleted or end in a marker, starting points, seeking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from producer.admin.kafka import KafkaAdmin
from producer.publish.topics import Topic
from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, RetryableError, UnknownTopicError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.reader import Follower, RangeReader, read_to_end

if TYPE_CHECKING:
    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

SECONDS_MAX = 60.0


class Written:
    """A topic of two partitions, written to in transactions."""

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self.properties = {"bootstrap.servers": bootstrap_servers}
        KafkaAdmin(self.properties).create([Topic(name, 2, {}, 1)])
        self.name = name
        self.first, self.second = Partition(name, 0), Partition(name, 1)
        self.producer = Producer({**self.properties, "transactional.id": name})
        self.producer.init_transactions(SECONDS_MAX)

    def write(self, partition: Partition, *values: bytes, commits: bool = True) -> None:
        self.producer.begin_transaction()
        for value in values:
            self.producer.produce(self.name, value, partition=partition.partition)
        self.producer.flush(SECONDS_MAX)
        if commits:
            self.producer.commit_transaction(SECONDS_MAX)

    def delete_before(self, partition: Partition, offset: int) -> None:
        admin = AdminClient(self.properties)
        for deleted in admin.delete_records([TopicPartition(*partition, offset)]).values():
            deleted.result(SECONDS_MAX)


@pytest.fixture
def topic(kafka: EmbeddedKafka, topic_prefix: str) -> Written:
    return Written(kafka.bootstrap_servers, f"{topic_prefix}-read")


def values_of(follower: Follower, count: int) -> list[bytes]:
    values: list[bytes] = []

    def has_come() -> bool:
        values.extend(message.value() or b"" for message in follower.poll())
        return len(values) >= count

    until(has_come, SECONDS_MAX)
    return values


def test_partitions_are_read_to_their_ends_one_after_another_without_what_is_open(topic: Written) -> None:
    topic.write(topic.second, b"3")
    topic.write(topic.first, b"1", b"2")
    topic.write(topic.first, b"open", commits=False)
    found = read_to_end(topic.properties, [topic.first, topic.second])
    assert [message.value() for message in found] == [b"1", b"2", b"3"]


def test_a_range_is_read_up_to_its_end_and_no_further(topic: Written) -> None:
    topic.write(topic.first, b"1", b"2", b"3")
    topic.write(topic.second, b"4")
    with RangeReader(topic.properties) as reader:
        starts, ends = {topic.first: 1, topic.second: 1}, {topic.first: 2, topic.second: 1}
        assert [each.value() for batch in reader.read(starts, ends) for each in batch] == [b"2"]
        rest = reader.read({topic.first: 2}, {topic.first: 4})
        assert [each.value() for batch in rest for each in batch] == [b"3"]


def test_a_range_whose_beginning_was_deleted_is_an_error(topic: Written) -> None:
    topic.write(topic.first, b"1", b"2", b"3")
    topic.delete_before(topic.first, 2)
    with RangeReader(topic.properties) as reader, pytest.raises(RetryableError, match="just been deleted"):
        list(reader.read({topic.first: 0}, {topic.first: 3}))
    assert [each.value() for each in read_to_end(topic.properties, [topic.first])] == [b"3"]


def test_a_follower_starts_where_it_is_told_and_seeks(topic: Written) -> None:
    topic.write(topic.first, b"1", b"2")
    with (
        Follower(topic.properties, [topic.name], "beginning") as all_of_it,
        Follower(topic.properties, [topic.name], "end") as later,
        Follower(topic.properties, [topic.name], {topic.first: 1}) as second,
    ):
        assert later.has_reached_first_ends
        assert not all_of_it.has_reached_first_ends
        assert values_of(all_of_it, 2) == [b"1", b"2"]
        until(lambda: not all_of_it.poll() and all_of_it.has_reached_first_ends, SECONDS_MAX)
        assert values_of(second, 1) == [b"2"]
        topic.write(topic.second, b"3")
        assert values_of(later, 1) == [b"3"]
        all_of_it.seek({topic.first: 1})
        assert sorted(values_of(all_of_it, 2)) == [b"2", b"3"]


def test_what_is_open_at_the_start_can_count_to_the_end(topic: Written) -> None:
    topic.write(topic.first, b"1", commits=False)
    with (
        Follower(topic.properties, [topic.name], "beginning") as leaving,
        Follower(topic.properties, [topic.name], "beginning", waits_for_open=True) as waiting,
    ):
        assert leaving.has_reached_first_ends
        assert not waiting.has_reached_first_ends
        topic.producer.commit_transaction(SECONDS_MAX)
        assert values_of(waiting, 1) == [b"1"]
        assert waiting.has_reached_first_ends


def test_a_follower_is_not_started_where_nothing_is(topic: Written) -> None:
    topic.write(topic.first, b"1", b"2", b"3")
    topic.delete_before(topic.first, 2)
    for offset, words in ((1, "messages from 1 to 1 are deleted"), (9, "it ends at 4")):
        with pytest.raises(FatalError, match=words):
            Follower(topic.properties, [topic.name], {topic.first: offset})
    with pytest.raises(UnknownTopicError):
        Follower(topic.properties, ["no-such-topic"], "end")


def test_offsets_are_those_of_the_readers_isolation_and_of_an_instant(topic: Written) -> None:
    topic.write(topic.first, b"1")
    written_at = next(read_to_end(topic.properties, [topic.first])).timestamp()[1]
    topic.write(topic.first, b"open", commits=False)
    admin = Admin(topic.properties)
    partitions = admin.partitions(topic.name)
    assert partitions == [topic.first, topic.second]
    ends = admin.ends(partitions)
    assert ends == {topic.first: 2, topic.second: 0}
    assert admin.ends(partitions, IsolationLevel.READ_UNCOMMITTED) == {topic.first: 3, topic.second: 0}
    assert admin.offsets_since(ends, written_at) == {topic.first: 0, topic.second: 0}
    assert admin.offsets_since(ends, written_at + 3_600_000) == ends
