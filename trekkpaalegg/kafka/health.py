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
NO_BROKER = "no broker is connected: see whether the brokers run and have room on their disks"
OUT_OF_GROUP = (
    "the consumer group does not admit this member, so it has no partition to work on: start the brokers that are "
    "down, and check their disks"
)

OUT_SECONDS_MAX = 12.0
"""A rebalance, or the move of the group to another coordinator, takes less: until then it is not reported."""

CUT_OFF_SECONDS_MIN = 4.0
"""A rebalance without trouble takes less, and does not cause a fence."""

FENCE_SECONDS_MAX = 60.0
"""How long after a lost coordinator a fence may come of it; and how soon another one means a true rival."""

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

    `topic` is the one whose partitions and ends are of interest, if any.
    """

    def __init__(self, topic: str | None = None) -> None:
        self._topic = topic
        self.reason = LastReason()
        self.replaced()

    def replaced(self) -> None:
        """Start again: a new client has taken the place of the former, and has reported nothing yet."""
        self._times_without_broker = 0
        self.reason.clear()
        self.refusal: KafkaError | None = None
        """The error by which Kafka refused the client, or by which the client failed for good."""
        self.are_all_down = False
        """Whether no broker is left of those that were connected. An error says so once, and not always; the
        statistics show it a little later."""
        self.is_connected: bool | None = None
        """Whether a broker is connected; None while that is unknown."""
        self.partition_count = 0
        self.ends: dict[int, int] = {}
        """The high watermark of each partition that is read, open transactions included: what has not been read of a
        transaction that hangs is still to come."""

    def callbacks(self) -> dict[str, Any]:
        """The settings under which librdkafka reports here, within `poll` or `consume`, every `STATISTICS_SECONDS`."""
        return {
            "statistics.interval.ms": STATISTICS_SECONDS * 1000,
            "stats_cb": self.update,
            "error_cb": self.record_error,
        }

    def update(self, text: str) -> None:
        """Take over one document of statistics, as `stats_cb` gets it."""
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
        """Take over one error, as `error_cb` gets it. Most of them librdkafka mends by itself.

        A refusal by one of several brokers is none while another one is connected. That all brokers are down is
        reported before a broker that comes back refuses the client.
        """
        self.reason.record(error)
        self.are_all_down |= error.code() == ALL_DOWN
        if error.fatal() or (self.are_all_down and self.reason.is_refusal):
            self.refusal = error

    @property
    def has_forgotten_brokers(self) -> bool:
        """Whether the client knows no broker any more that it could connect to, so that it must be replaced."""
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
        """See `ClientHealth.replaced`. When the former was cut off or joined again is remembered."""
        super().replaced()
        self.is_member = False
        """Whether the group counts this client as a member, and no rebalance is under way."""
        self.rebalances = 0
        """How many the group has had since the client joined."""

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
        # By librdkafka's clock: whoever was kept from polling reads several documents at once, and a fence after them.
        out_seconds = (found.ts - self._out_written) / _MICROSECONDS
        if self._has_been_in and (not has_coordinator or out_seconds >= CUT_OFF_SECONDS_MIN):
            self._cut_off_at = now

    def trouble(self) -> str | None:
        """What keeps Kafka or the group from answering, and what to do; None when nothing does."""
        if self.is_connected is False:
            return NO_BROKER
        since = self._out_since
        return OUT_OF_GROUP if since is not None and self._monotonic() - since > OUT_SECONDS_MAX else None

    def is_fence_self_inflicted(self) -> bool:
        """Whether a fence of our static id, now, probably comes from ourselves, so that the client should join again.

        After a session without its coordinator librdkafka may join twice, and its second self fences its first. A true
        second process of the same id fences a member that was not cut off, or fences again soon.
        """
        now = self._monotonic()
        was_cut_off = self._cut_off_at is not None and now - self._cut_off_at < FENCE_SECONDS_MAX
        is_again = self._joined_again_at is not None and now - self._joined_again_at < FENCE_SECONDS_MAX
        return was_cut_off and not is_again

    def joined_again(self) -> None:
        """Record that the client joins again after a fence."""
        self._joined_again_at = self._monotonic()
