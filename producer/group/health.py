"""What librdkafka tells of a member every few seconds in, how it stands with Kafka and with its group out. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from trekkpaalegg.kafka.brokers import Broker, Brokers

if TYPE_CHECKING:
    from collections.abc import Callable

OUT_SECONDS_MAX = 12.0
"""A hand-over of lanes, or of the group to another coordinator, takes less: until then it is not worth a word."""

CUT_OFF_SECONDS_MIN = 4.0
"""A hand-over that goes well takes less, and is no reason for a fence."""

FENCE_SECONDS_MAX = 60.0
"""How long after a lost coordinator a fence may come of it; and how soon another one means a true rival."""

_NO_BROKER = "no broker is connected: see whether the brokers run and have room on their disks"
_OUT_OF_GROUP = (
    "the group of workers does not take this one in, so that it has no lane to work on: start the brokers that are "
    "down, and look at their disks"
)


class _Group(msgspec.Struct):
    state: str = ""
    join_state: str = ""
    rebalance_cnt: int = 0


class _Statistics(msgspec.Struct):
    """What is needed of librdkafka's statistics; source: its STATISTICS.md."""

    brokers: dict[str, Broker] = {}
    cgrp: _Group = msgspec.field(default_factory=_Group)


class Standing:
    """How one member stands, as of the last statistics. Used by one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._joined_again_at: float | None = None
        self._out_since: float | None = None
        self._cut_off_at: float | None = None
        self._has_been_in = False
        self.brokers = Brokers()
        self.rebalances = 0
        """How many the group has had since we joined."""

    def take(self, text: str) -> None:
        """One document of statistics, as `stats_cb` gets it."""
        found = msgspec.json.decode(text, type=_Statistics)
        self.brokers.see(found.brokers.values())
        self.rebalances = found.cgrp.rebalance_cnt
        has_coordinator = self.brokers.is_connected and found.cgrp.state == "up"
        if has_coordinator and found.cgrp.join_state == "steady":
            self._has_been_in, self._out_since = True, None
            return
        now = self._monotonic()
        if self._out_since is None:
            self._out_since = now
        if self._has_been_in and (not has_coordinator or now - self._out_since >= CUT_OFF_SECONDS_MIN):
            self._cut_off_at = now

    def trouble(self) -> str | None:
        """What keeps Kafka or the group from answering, and what to do; None when nothing does."""
        if self.brokers.is_connected is False:
            return _NO_BROKER
        since = self._out_since
        return _OUT_OF_GROUP if since is not None and self._monotonic() - since > OUT_SECONDS_MAX else None

    def may_join_again(self) -> bool:
        """Whether a fence of our static id may be of our own making, so that it is to be answered by joining anew.

        After a session without its coordinator librdkafka may join twice, and its second self fences its first. A true
        second process of the same id fences one that was not cut off, or fences again soon.
        """
        now = self._monotonic()
        was_cut_off = self._cut_off_at is not None and now - self._cut_off_at < FENCE_SECONDS_MAX
        is_again = self._joined_again_at is not None and now - self._joined_again_at < FENCE_SECONDS_MAX
        if not was_cut_off or is_again:
            return False
        self._joined_again_at = now
        return True
