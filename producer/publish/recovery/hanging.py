"""Finds the records of a lane's hanging transactions: those above the last stable offset while it has none open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import IsolationLevel

from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import RangeReader, partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from producer.publish.topics import Topics

MARKER_SECONDS_MAX = 3.0
"""A marker may take so long to reach readers, even after the fence has waited until it was written."""

PAUSE_SECONDS = 0.05


class Found(NamedTuple):
    """The partitions of one lane, by topic: the records that hang, in their order, and the last stable offsets.

    Below those offsets nothing is open. A topic without hanging records is not among the keys of `hanging`.
    """

    hanging: dict[str, list[Message]]
    ends: dict[str, int]


def find_hanging(
    properties: Mapping[str, str], topics: Topics, lane: int, answer_seconds_max: float = CALL_SECONDS_MAX
) -> Found:
    """The lane's records in hanging transactions. Call it only while the lane has no transaction open.

    The first request to Kafka times out after `answer_seconds_max`. Raises `RetryableError` if Kafka does not answer,
    `RefusedError` if we may not read a topic.
    """
    with as_retryable():
        admin = Admin(properties)
        admin.metadata(seconds_max=answer_seconds_max)
        places = [
            Partition(topic, lane)
            for topic in (topics.versjoner, topics.gjeldende, topics.quarantine, topics.positions)
        ]
        written = admin.ends(places, IsolationLevel.READ_UNCOMMITTED)
        deadline = time.monotonic() + MARKER_SECONDS_MAX
        while True:
            ends = admin.ends(places)
            open_at = {place: offset for place, offset in ends.items() if offset < written[place]}
            if not open_at or time.monotonic() > deadline:
                break
            time.sleep(PAUSE_SECONDS)
        return Found(_read(properties, open_at, written), {place.topic: offset for place, offset in ends.items()})


def _read(
    properties: Mapping[str, str], starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {}
    if starts:
        with RangeReader(properties, isolation=IsolationLevel.READ_UNCOMMITTED) as reader:
            for messages in reader.read(starts, {place: ends[place] for place in starts}):
                for message in messages:
                    found.setdefault(partition_of(message).topic, []).append(message)
    return found
