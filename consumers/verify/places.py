"""Whether each record is in the partition that it belongs to, and the topics are those that were recorded. Pure.

The partition of an order is that of its trekkid by murmur2, as Java's clients place a key, in every topic. A record in
another partition is out of the reach of its order's home, which reads and writes that partition alone. It happens when
partitions are added to a topic, or when a topic is restored with another number of partitions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from consumers.verify.findings import IDENTITY, PLACES, Check, Difference
from consumers.verify.history import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from consumers.verify.history import Current, History
    from consumers.verify.positions import Identity, Positions

_WITHOUT_TREKKID = re.compile(rb"#([0-9a-f]{32})")
"""The key of a state of an element whose trekkid is not known: it is where its quarantine record is."""

_SEED = 0x9747B28C
_FACTOR = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_WORD_BYTES = 4


class FoundTopic(NamedTuple):
    """A topic as it is now. `id` is Kafka's own."""

    name: str
    id: str
    partitions: int


def murmur2(key: bytes) -> int:
    """The hash by which Java's clients place a key: org.apache.kafka.common.utils.Utils.murmur2, unsigned."""
    found = _SEED ^ len(key)
    whole = len(key) // _WORD_BYTES * _WORD_BYTES
    for start in range(0, whole, _WORD_BYTES):
        word = int.from_bytes(key[start : start + _WORD_BYTES], "little") * _FACTOR & _MASK
        found = (found * _FACTOR & _MASK) ^ ((word ^ (word >> 24)) * _FACTOR & _MASK)
    if whole < len(key):
        found = (found ^ int.from_bytes(key[whole:], "little")) * _FACTOR & _MASK
    found = (found ^ (found >> 13)) * _FACTOR & _MASK
    return found ^ (found >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of the order with this key, among so many."""
    without_trekkid = _WITHOUT_TREKKID.fullmatch(key)
    return (murmur2(key if without_trekkid is None else without_trekkid[1]) & _POSITIVE) % partitions


def places(history: History, current: Current, positions: Positions, partitions: int) -> Check:
    """The check that events and states of each order are in its partition, where each topic has so many."""
    homes = history.partition
    wrong = [key for key, place in history.places.items() if homes[place] != partition_of(key, partitions)]
    of_wrong = set(wrong)

    def is_right(key: bytes, partition: int) -> bool:
        place = history.places.get(key)
        if place is None or key in of_wrong or partition != homes[place]:
            return partition == partition_of(key, partitions)
        return True  # it is beside its events, which are where they belong

    found = [(history.topic, key, homes[history.places[key]]) for key in wrong]
    found += [(current.topic, key, each) for key, each in current.partitions() if not is_right(key, each)]
    for each, orders in positions.orders.items():
        found += [(positions.topic, key, each) for key in orders if not is_right(key, each)]
    differences = [
        Difference(f"its key belongs to partition {partition_of(key, partitions)}", shown(key), place=f"{topic}/{each}")
        for topic, key, each in found
    ]
    return Check(PLACES, "orders", len(history.places), differences)


def identity(
    positions: Positions,
    cluster_id: str,
    topics: Sequence[FoundTopic],
    hidden: Collection[str] = (),
    application_id: str | None = None,
) -> Check:
    """The check that cluster and topics, which include positions, are those that every partition of it records.

    `hidden` are the names of topics that may not be seen; `application_id` is that of the producer, None if not known.
    """
    (own,) = [topic for topic in topics if topic.name == positions.topic]
    check = Check(IDENTITY, "partitions", own.partitions)
    first = positions.identities.get(0)
    for partition in range(own.partitions):
        recorded = positions.identities.get(partition)
        place = f"{positions.topic}/{partition}"
        if recorded is None:
            check.add(Difference("it is not recorded whose topics these are", place=place))
        elif first is not None and recorded != first:
            check.add(Difference("other than in partition 0 is recorded whose topics these are", place=place))
    if first is not None:
        check.differences += _differences(first, cluster_id, topics, hidden)
        if application_id not in {None, first.application_id}:
            check.add(Difference("the topics are recorded as those of another application"))
    if hidden:
        check.notes.append(f"{len(hidden)} topics may not be seen by this client")
    return check


def _differences(
    recorded: Identity, cluster_id: str, topics: Iterable[FoundTopic], hidden: Collection[str]
) -> Iterator[Difference]:
    if recorded.cluster_id != cluster_id:
        yield Difference("the topics are recorded as those of another cluster")
    left = [name for name in recorded.topics if name not in hidden]
    for topic in topics:
        topic_id, partitions = recorded.topics.get(topic.name, ("", 0))
        if not topic_id:
            yield Difference("the topic is not recorded", place=topic.name)
        else:
            left.remove(topic.name)
            if recorded.cluster_id == cluster_id and topic.id != topic_id:
                yield Difference("the topic was made again since it was recorded", place=topic.name)
        if topic.partitions != recorded.lanes or (topic_id and partitions != recorded.lanes):
            what = f"the topic has {topic.partitions} partitions, and there are {recorded.lanes} lanes"
            yield Difference(what, place=topic.name)
    for name in left:
        yield Difference("the topic is recorded, and is not there now", place=name)
