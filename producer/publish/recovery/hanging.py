"""Finds the records of a lane's hanging transactions: those above the last stable offset while it has none open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import IsolationLevel

from producer.publish.recovery.records import trekkpliktig_of
from producer.publish.topics import lane_of
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import RangeReader, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

    from producer.publish.topics import Topics

MARKER_SECONDS_MAX = 3.0
"""A marker may take so long to reach readers, even after the fence has waited until it was written."""

SECONDS_MAX = 60.0
"""Longer than a transaction of another lane can stay open; the owners of other lanes recover their own."""

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.05, 0.4


class Found(NamedTuple):
    """The lane's hanging records by partition, in their order: of the partitions listed, all.

    `decided` are the last stable offsets: below them nothing is open. `lanes` is how many lanes there are.
    """

    hanging: dict[Partition, list[Message]]
    decided: dict[Partition, int]
    lanes: int


def find_hanging(
    properties: Mapping[str, str], topics: Topics, lane: int, answer_seconds_max: float = CALL_SECONDS_MAX
) -> Found:
    """The lane's records in hanging transactions. Call it only while the lane has no transaction open.

    More may be found behind these once they have ended. The first request to Kafka times out after
    `answer_seconds_max`. Raises `RetryableError` if Kafka does not answer, or if open transactions of other lanes hide
    ours for too long, `RefusedError` if we may not read a topic.
    """
    with as_retryable():
        return _find(Admin(properties), properties, topics, lane, answer_seconds_max)


def _find(admin: Admin, properties: Mapping[str, str], topics: Topics, lane: int, answer_seconds_max: float) -> Found:
    places, lanes = _places(admin, topics, lane, answer_seconds_max)
    found = Found({}, {}, lanes)
    written = admin.ends(places, IsolationLevel.READ_UNCOMMITTED)
    since: dict[tuple[Partition, int], float] = {}
    began = time.monotonic()
    pause_seconds = PAUSE_SECONDS_MIN
    while time.monotonic() - began < SECONDS_MAX:
        decided = admin.ends(written)
        found.decided.update(decided)
        open_at = {place: offset for place, offset in decided.items() if offset < written[place]}
        if not open_at:
            return found
        now = time.monotonic()
        for place, offset in open_at.items():
            since.setdefault((place, offset), now)
        if pause_seconds > PAUSE_SECONDS_MIN:  # most transactions that are open at first end in a moment
            own: dict[Partition, list[Message]] = {}
            for message in _read_open(properties, open_at, written):
                place = partition_of(message)
                if place.topic == topics.positions or _lane_of(message, lanes) == lane:
                    own.setdefault(place, []).append(message)
            written = {place: written[place] for place in own}
            # The LSO is the first open record of a partition: if that record is ours, nobody else will end it.
            first = {place: messages for place, messages in own.items() if messages[0].offset() == open_at[place]}
            if all(now - since[place, open_at[place]] >= MARKER_SECONDS_MAX for place in first) and (first or not own):
                return found._replace(hanging=first)
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
    raise RetryableError(f"lane {lane} cannot be recovered: open transactions of other lanes hide its own")


def _read_open(
    properties: Mapping[str, str], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> Iterator[Message]:
    with RangeReader(properties, isolation=IsolationLevel.READ_UNCOMMITTED) as reader:
        for messages in reader.read(starts, {each: ends[each] for each in starts}):
            yield from messages


def _places(admin: Admin, topics: Topics, lane: int, answer_seconds_max: float) -> tuple[list[Partition], int]:
    """All partitions that the lane writes events and state to, and the number of lanes."""
    found = admin.metadata(seconds_max=answer_seconds_max).topics
    written = (topics.versjoner, topics.gjeldende, topics.quarantine, topics.positions)
    for topic in written:
        if topic not in found or not found[topic].partitions:
            raise RetryableError(
                f"hanging transactions of lane {lane} cannot be searched for: topic {topic} is not visible"
            )
    places = [Partition(topic, partition) for topic in written[:-1] for partition in found[topic].partitions]
    return [Partition(topics.positions, lane), *places], len(found[topics.positions].partitions)


def _lane_of(message: Message, lanes: int) -> int | None:
    trekkpliktig = trekkpliktig_of(message)
    return None if trekkpliktig is None else lane_of(trekkpliktig, lanes)
