"""What librdkafka's statistics tell in, whether it has forgotten every broker out. Pure.

A Kafka whose last broker shuts down may answer that it has none. librdkafka may then forget all of them, those of the
settings too, and never connects again although Kafka comes back (confluentinc/librdkafka#5301, seen with 2.16.0): only
a new client does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumers.stream.statistics import Seen

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
