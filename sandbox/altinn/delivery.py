"""When the simulated Altinn pushes which event: with its retries, and losses, doubles and disorder by chance.

Pure: the caller gives the time and the random numbers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from sandbox.altinn.event_log import Event

if TYPE_CHECKING:
    from random import Random

_MINUTE = 60
_HOUR = 60 * _MINUTE
LADDER_SECONDS = (
    10,
    30,
    _MINUTE,
    5 * _MINUTE,
    10 * _MINUTE,
    30 * _MINUTE,
    _HOUR,
    3 * _HOUR,
    6 * _HOUR,
    12 * _HOUR,
    12 * _HOUR,
)
"""Pauses after each failed attempt, as Altinn documents them; after the last one the event is dropped."""


class Weather(msgspec.Struct, forbid_unknown_fields=True):
    """How the delivery of events misbehaves; rates from 0 to 1. Validation events are spared."""

    loss_rate: float = 0.0
    """An event is not pushed at all."""
    double_rate: float = 0.0
    """An event is pushed twice, the second time a little later."""
    disorder_rate: float = 0.0
    """An event waits for up to `disorder_seconds`, so that later ones pass it."""
    disorder_seconds: float = 1.0


class Delivery(msgspec.Struct, frozen=True):
    """One event on its way to one address. `attempt` counts those that failed already."""

    subscription_id: int
    address: str
    event: Event
    attempt: int = 0
    is_validation: bool = False


class Deliveries:
    """What waits to be pushed. Not safe for several threads. `time_factor` scales the pauses of the ladder."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._number = 0
        self.weather = Weather()
        self.time_factor = 1.0
        self.is_paused = False
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delivery: Delivery, now: float) -> None:
        """One more event for one address: lost, doubled or held back as the weather has it."""
        if delivery.is_validation:
            self._push(delivery, now)
            return
        weather = self.weather
        if self._random.random() < weather.loss_rate:
            self.counts["lost"] += 1
            return
        delay = 0.0
        if self._random.random() < weather.disorder_rate:
            self.counts["held_back"] += 1
            delay = self._random.uniform(0, weather.disorder_seconds)
        self._push(delivery, now + delay)
        if self._random.random() < weather.double_rate:
            self.counts["doubled"] += 1
            self._push(delivery, now + delay + self._random.uniform(0, weather.disorder_seconds))

    def pop_due(self, now: float) -> Delivery | None:
        """The next one to push, which leaves the waiting; None if none is due."""
        if self.is_paused or not self._waiting or self._waiting[0][0] > now:
            return None
        return heapq.heappop(self._waiting)[2]

    def wait_seconds(self, now: float) -> float | None:
        """How long until the next one is due; None if nothing waits, or all does."""
        if self.is_paused or not self._waiting:
            return None
        return max(self._waiting[0][0] - now, 0.0)

    def succeeded(self, delivery: Delivery) -> None:
        """Any 2xx came back."""
        self.counts["validated" if delivery.is_validation else "delivered"] += 1

    def failed(self, delivery: Delivery, now: float) -> None:
        """Anything else came back, or nothing: again after the next pause of the ladder, or never."""
        if delivery.attempt >= len(LADDER_SECONDS):
            self.counts["given_up"] += 1
            return
        self.counts["failed"] += 1
        pause = LADDER_SECONDS[delivery.attempt] * self.time_factor
        self._push(msgspec.structs.replace(delivery, attempt=delivery.attempt + 1), now + pause)

    def drop(self, subscription_id: int) -> None:
        """The subscription has gone."""
        self._waiting = [each for each in self._waiting if each[2].subscription_id != subscription_id]
        heapq.heapify(self._waiting)

    def _push(self, delivery: Delivery, due: float) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (due, self._number, delivery))
