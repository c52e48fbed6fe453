"""What librdkafka's statistics tell of the brokers in; whether one is connected, and whether all are forgotten, out.

A Kafka whose last broker shuts down may answer that it has none. librdkafka may then forget all of them, those of the
settings too, and never connects again although Kafka comes back (confluentinc/librdkafka#5301, seen with 2.16.0): only
a new client does. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INTERVAL_SECONDS = 2
ALL_FORGOTTEN = "Kafka's brokers had all shut down, and the client has forgotten them: connecting anew"
_CONNECTED = frozenset({"UP", "UPDATE", "REAUTH"})
_LOGICAL = "logical"
"""A coordinator, which stands for one of the others. Source: librdkafka's STATISTICS.md."""
_FORGOTTEN_TIMES_MIN = 2


class Broker(msgspec.Struct):
    """One of them in the statistics."""

    state: str = ""
    source: str = ""


class _Statistics(msgspec.Struct):
    brokers: dict[str, Broker] = {}


class Brokers:
    """As of the last statistics. Used by one thread."""

    def __init__(self) -> None:
        self._forgotten_times = 0
        self.is_connected: bool | None = None
        """Whether a broker is connected; None while that is unknown."""

    @property
    def are_forgotten(self) -> bool:
        """Whether there is none left that could be connected to. Told twice, as they may be changing."""
        return self._forgotten_times >= _FORGOTTEN_TIMES_MIN

    def take(self, text: str) -> None:
        """One document of statistics, as `stats_cb` gets it."""
        self.see(msgspec.json.decode(text, type=_Statistics).brokers.values())

    def see(self, brokers: Iterable[Broker]) -> None:
        """The brokers of one document."""
        told = list(brokers)
        self.is_connected = any(broker.state in _CONNECTED for broker in told)
        is_forgotten = all(broker.source == _LOGICAL for broker in told)
        self._forgotten_times = self._forgotten_times + 1 if is_forgotten else 0

    def connecting_anew(self) -> None:
        """There is a new client, of which nothing was told yet."""
        self._forgotten_times, self.is_connected = 0, None


def watching(take: Callable[[str], None]) -> dict[str, Any]:
    """The settings under which `take` gets the statistics, every two seconds, when the client is polled."""
    return {"statistics.interval.ms": INTERVAL_SECONDS * 1000, "stats_cb": take}
