"""The health of a group member, judged from librdkafka's statistics and errors. Pure.

Source: librdkafka's STATISTICS.md.

A Kafka whose last broker shuts down may answer that it has none. librdkafka may then forget all of them, those of the
settings too, and never connects again although Kafka comes back (confluentinc/librdkafka#5301, seen with 2.16.0): only
a new client does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from trekkpaalegg.errors import DisplacedError, FencedError, ForgottenError
from trekkpaalegg.kafka.errors import ALL_DOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from trekkpaalegg.errors import TrekkpaaleggError
    from trekkpaalegg.kafka.diagnosis import LastReason


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


ALL_FORGOTTEN = "Kafka's brokers had all shut down, and the client has forgotten them"
_TIMES_MIN = 2


class Forgotten:
    """Whether it has. Told twice, as the brokers may just be changing. Used by one thread."""

    def __init__(self) -> None:
        self._times = 0

    def take(self, seen: Seen) -> None:
        """What one document says."""
        self._times = self._times + 1 if seen.knows_no_broker else 0

    def __bool__(self) -> bool:
        return self._times >= _TIMES_MIN


CUT_OFF_SECONDS_MIN = 4.0
"""A hand-over that goes well takes less, and is no reason for a fence."""

FENCE_SECONDS_MAX = 60.0
"""How long after a lost coordinator a fence may come of it."""


class Standing:
    """How a member stands, as of the last statistics; `reason` keeps what librdkafka said last. Used by one thread."""

    def __init__(self, topic: str, reason: LastReason, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._topic = topic
        self._reason = reason
        self._monotonic = monotonic
        self._are_all_down = self._is_silent = False
        self._forgotten = Forgotten()
        self._has_been_in = False
        self._out_since: float | None = None
        self._cut_off_at: float | None = None
        self.seen = Seen()

    def take(self, text: str) -> None:
        """One document of statistics, as `stats_cb` gets it."""
        was_reachable = self.seen.is_reachable
        self.seen = seen = seen_in(text, self._topic)
        self._forgotten.take(seen)
        self._are_all_down = not seen.is_reachable and (was_reachable or self._are_all_down)
        if seen.is_member and seen.has_coordinator:
            self._has_been_in, self._out_since = True, None
            return
        now = self._monotonic()
        if self._out_since is None:
            self._out_since = now
        if self._has_been_in and (not seen.has_coordinator or now - self._out_since >= CUT_OFF_SECONDS_MIN):
            self._cut_off_at = now

    def begins_silence(self) -> bool:
        """Whether no broker is left, and one was when this was last asked.

        An error says so once, and not always; the statistics show it a little later.
        """
        was_silent, self._is_silent = self._is_silent, self._are_all_down
        return self._are_all_down and not was_silent

    def check(self) -> None:
        """Raises `ForgottenError` when the client must be made anew."""
        if self._forgotten:
            raise ForgottenError(ALL_FORGOTTEN)

    def is_refused(self, error: KafkaError) -> bool:
        """Whether this error, as `error_cb` gets it, says that Kafka refuses us or that the client has failed for good.

        That all brokers are down is told once: of one that comes back and refuses us, before it does.
        """
        self._reason.record(error)
        self._are_all_down |= error.code() == ALL_DOWN
        return error.fatal() or (self._are_all_down and self._reason.is_refusal)

    def judged(self, error: TrekkpaaleggError) -> TrekkpaaleggError:
        """The error; a fence that may be of our own making as what it then is.

        After a session without its coordinator librdkafka may join twice, and its second self fences its first. A true
        second process of the same name fences one that was not cut off.
        """
        was_cut_off = self._cut_off_at is not None and self._monotonic() - self._cut_off_at < FENCE_SECONDS_MAX
        return DisplacedError(str(error)) if isinstance(error, FencedError) and was_cut_off else error
