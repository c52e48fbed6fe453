"""The health of a Kafka client and of a group member, from librdkafka's statistics and errors. Pure.

Source of the fields: librdkafka's STATISTICS.md.

When the last broker of a cluster shuts down, it may answer that the cluster has no brokers. librdkafka may then forget
all of them, those of `bootstrap.servers` too, and never connects again although Kafka comes back
(confluentinc/librdkafka#5301, seen with 2.16.0). Only a new client does; see `ClientHealth.has_forgotten_brokers`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import ALL_DOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

STATISTICS_SECONDS = 2
ALL_FORGOTTEN = "all brokers had shut down, and the Kafka client has forgotten them: replacing the client"
NO_BROKER = "no broker is connected: check that the brokers run and have room on their disks"
OUT_OF_GROUP = (
    "the consumer group does not admit this member, so it has no partition to work on: start the brokers that are "
    "down, and check their disks"
)

OUT_SECONDS_MAX = 12.0
"""A rebalance, or the move of the group to another coordinator, takes less: until then it is not reported."""

CUT_OFF_SECONDS_MIN = 4.0
"""An ordinary rebalance takes less, and does not cause a fence."""

FENCE_SECONDS_MAX = 60.0
"""How long after a lost coordinator it may cause a fence; and how soon a second fence means a real rival."""

_MICROSECONDS = 1_000_000
_CONNECTED = frozenset({"UP", "UPDATE", "REAUTH"})
_LOGICAL = "logical"
"""The source of a coordinator, which is another name for one of the brokers."""
_FORGOTTEN_TIMES_MIN = 2
"""One document without a broker may fall into the moment in which the brokers change."""


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
    rebalance_cnt: int = 0


class _Statistics(msgspec.Struct):
    ts: int = 0
    """When the document was written: microseconds of librdkafka's monotonic clock."""
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}
    cgrp: _Group = msgspec.field(default_factory=_Group)


_decode = msgspec.json.Decoder(_Statistics).decode


class ClientHealth:
    """The health of one client, as of its last statistics and errors. Used by one thread.

    `partition_count` and `ends` are those of `topic`, if it is given.
    """

    def __init__(self, topic: str | None = None) -> None:
        self._topic = topic
        self.reason = LastReason()
        self.replaced()

    def replaced(self) -> None:
        """Reset: a new client has replaced the former one, and has reported nothing yet."""
        self._times_without_broker = 0
        self.reason.clear()
        self.refusal: KafkaError | None = None
        """The error by which Kafka refused the client, or by which the client failed for good."""
        self.are_all_down = False
        """Whether all connected brokers are lost. An error reports it once, and not always; the statistics show it a
        little later."""
        self.is_connected: bool | None = None
        """Whether a broker is connected; None while that is unknown."""
        self.partition_count = 0
        self.ends: dict[int, int] = {}
        """The high watermark of each partition that is read, open transactions included: the rest of a hanging
        transaction is still to come."""

    def callbacks(self) -> dict[str, Any]:
        """The settings with which librdkafka reports here every `STATISTICS_SECONDS`, within `poll` or `consume`."""
        return {
            "statistics.interval.ms": STATISTICS_SECONDS * 1000,
            "stats_cb": self.update,
            "error_cb": self.record_error,
        }

    def update(self, text: str) -> None:
        """Record one document of statistics, as `stats_cb` receives it."""
        self._update(_decode(text))

    def _update(self, found: _Statistics) -> None:
        was_connected = self.is_connected
        self.is_connected = any(broker.state in _CONNECTED for broker in found.brokers.values())
        self.are_all_down = not self.is_connected and bool(was_connected or self.are_all_down)
        is_forgotten = all(broker.source == _LOGICAL for broker in found.brokers.values())
        self._times_without_broker = self._times_without_broker + 1 if is_forgotten else 0
        topic = found.topics.get(self._topic) if self._topic is not None else None
        if topic is None:
            self.partition_count, self.ends = 0, {}
            return
        partitions = [each for each in topic.partitions.values() if each.partition >= 0]
        self.partition_count = len(partitions)
        self.ends = {each.partition: each.hi_offset for each in partitions if each.hi_offset >= 0}

    def record_error(self, error: KafkaError) -> None:
        """Record one error, as `error_cb` receives it. librdkafka recovers from most of them by itself.

        A refusal by one of several brokers does not count while another one is connected. That all brokers are down is
        reported before a broker that comes back refuses the client.
        """
        self.reason.record(error)
        self.are_all_down |= error.code() == ALL_DOWN
        if error.fatal() or (self.are_all_down and self.reason.is_refusal):
            self.refusal = error

    @property
    def has_forgotten_brokers(self) -> bool:
        """Whether the client knows no broker that it could connect to, so that it must be replaced."""
        return self._times_without_broker >= _FORGOTTEN_TIMES_MIN


class MemberHealth(ClientHealth):
    """The health of a member of a consumer group. Used by one thread."""

    def __init__(self, topic: str | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._has_been_in = False
        self._out_since: float | None = None
        self._out_written: int | None = None
        self._cut_off_at: float | None = None
        self._joined_again_at: float | None = None
        super().__init__(topic)

    def replaced(self) -> None:
        """See `ClientHealth.replaced`. When the former client was cut off or joined again is kept."""
        super().replaced()
        self.is_member = False
        """Whether the group counts this client as a member, and no rebalance is under way."""
        self.rebalances = 0
        """How many rebalances there were since the client joined."""

    def _update(self, found: _Statistics) -> None:
        super()._update(found)
        self.rebalances = found.cgrp.rebalance_cnt
        self.is_member = found.cgrp.join_state == "steady"
        has_coordinator = bool(self.is_connected) and found.cgrp.state == "up"
        if self.is_member and has_coordinator:
            self._has_been_in, self._out_since, self._out_written = True, None, None
            return
        now = self._monotonic()
        if self._out_since is None or self._out_written is None:
            self._out_since, self._out_written = now, found.ts
        # By librdkafka's clock: a thread that could not poll for a while reads several documents at once, then a fence.
        out_seconds = (found.ts - self._out_written) / _MICROSECONDS
        if self._has_been_in and (not has_coordinator or out_seconds >= CUT_OFF_SECONDS_MIN):
            self._cut_off_at = now

    def trouble(self) -> str | None:
        """Why Kafka or the group does not answer, and what to do; None if both do."""
        if self.is_connected is False:
            return NO_BROKER
        since = self._out_since
        return OUT_OF_GROUP if since is not None and self._monotonic() - since > OUT_SECONDS_MAX else None

    def is_fence_self_inflicted(self) -> bool:
        """Whether a fence at this moment was probably caused by this client itself, which should then join again.

        After a session without its coordinator, librdkafka may join twice, and the second join fences the first. A real
        second process with the same id fences a member that was not cut off, or fences again soon.
        """
        now = self._monotonic()
        was_cut_off = self._cut_off_at is not None and now - self._cut_off_at < FENCE_SECONDS_MAX
        is_again = self._joined_again_at is not None and now - self._joined_again_at < FENCE_SECONDS_MAX
        return was_cut_off and not is_again

    def joined_again(self) -> None:
        """Record that the client joins again after a fence."""
        self._joined_again_at = self._monotonic()
