"""What librdkafka tells of one member of a group in; whether it is refused, and what a fence of it means, out. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumers.errors import DisplacedError, FencedError, ForgottenError
from consumers.stream.forgotten import ALL_FORGOTTEN, Forgotten
from consumers.stream.kafka_errors import ALL_DOWN
from consumers.stream.statistics import Seen, seen_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from consumers.errors import ConsumerError
    from consumers.stream.diagnosis import LastReason

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
        self._reason.take(error)
        self._are_all_down |= error.code() == ALL_DOWN
        return error.fatal() or (self._are_all_down and self._reason.is_refusal)

    def judged(self, error: ConsumerError) -> ConsumerError:
        """The error; a fence that may be of our own making as what it then is.

        After a session without its coordinator librdkafka may join twice, and its second self fences its first. A true
        second process of the same name fences one that was not cut off.
        """
        was_cut_off = self._cut_off_at is not None and self._monotonic() - self._cut_off_at < FENCE_SECONDS_MAX
        return DisplacedError(str(error)) if isinstance(error, FencedError) and was_cut_off else error
