"""What librdkafka tells of itself every few seconds in, what readiness and lag need of it out. Pure.

Source: librdkafka's STATISTICS.md.
"""

from __future__ import annotations

import msgspec

INTERVAL_SECONDS = 2
_CONNECTED = frozenset({"UP", "UPDATE", "REAUTH"})
_STEADY, _UP = "steady", "up"
_LOGICAL = "logical"
"""A coordinator, which stands for one of the other brokers."""


class _Broker(msgspec.Struct):
    state: str = ""
    source: str = ""


class _Partition(msgspec.Struct):
    partition: int = -1
    hi_offset: int = -1


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition] = {}


class _Group(msgspec.Struct):
    state: str = ""
    join_state: str = ""


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}
    cgrp: _Group | None = None


class Seen(msgspec.Struct, frozen=True):
    """Whether a broker is connected, whether the group counts us as a member, the topic's partitions and their ends.

    `has_coordinator`: whether the one of the group is connected. `knows_no_broker`: there is none that could be.

    An end is the high watermark, open transactions included: what has not been read of a transaction that hangs is
    still to come. Ends of partitions that are not read are left out.
    """

    is_reachable: bool = False
    is_member: bool = False
    partition_count: int = 0
    ends: dict[int, int] = {}
    has_coordinator: bool = False
    knows_no_broker: bool = False


_decode = msgspec.json.Decoder(_Statistics).decode


def seen_in(text: str, topic: str) -> Seen:
    """What one statistics document says of this topic."""
    found = _decode(text)
    partitions = [each for each in found.topics.get(topic, _Topic()).partitions.values() if each.partition >= 0]
    is_reachable = any(broker.state in _CONNECTED for broker in found.brokers.values())
    return Seen(
        is_reachable,
        found.cgrp is not None and found.cgrp.join_state == _STEADY,
        len(partitions),
        {each.partition: each.hi_offset for each in partitions if each.hi_offset >= 0},
        is_reachable and found.cgrp is not None and found.cgrp.state == _UP,
        all(broker.source == _LOGICAL for broker in found.brokers.values()),
    )
