"""Health and metrics of a forwarder.

No label holds an employer, let alone a person.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.observe.health import ConsumerHealth
from consumers.observe.port import OF_A_FORWARDER
from consumers.observe.prometheus import HealthObserver
from consumers.webhook.delivery import Meaning
from consumers.webhook.store import Kept
from trekkpaalegg.retry import CallObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trekkpaalegg.kafka.subscription import Look
    from trekkpaalegg.retry import Service


class Observer(CallObserver, Protocol):
    """Told by one thread; must neither block nor raise. No argument holds a value from an event."""

    def beat(self) -> None:
        """The loop has turned, or waits and knows that it does."""

    def looked(self, look: Look) -> None:
        """What Kafka looks like from here, every time that it is read."""

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """So far the state has come in these partitions."""

    def taken(self, count: int) -> None:
        """So many messages were read and are kept now."""

    def attempted(self, meaning: Meaning) -> None:
        """An event was sent, and this came of it."""

    def undecodable(self) -> None:
        """An event was not sent, as it cannot be decoded."""

    def waits(self, count: int) -> None:
        """So many are to be sent, those on their way among them: every time that the loop turns."""

    def kept(self, kept: Kept, parked_max: int) -> None:
        """What the state holds; with more than `parked_max` parked ones the forwarder ends."""


class NullObserver:
    """Listens to nothing."""

    def beat(self) -> None:
        """Ignore."""

    def looked(self, look: Look) -> None:
        """Ignore."""

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """Ignore."""

    def taken(self, count: int) -> None:
        """Ignore."""

    def attempted(self, meaning: Meaning) -> None:
        """Ignore."""

    def undecodable(self) -> None:
        """Ignore."""

    def waits(self, count: int) -> None:
        """Ignore."""

    def kept(self, kept: Kept, parked_max: int) -> None:
        """Ignore."""

    def call_begins(self, service: Service) -> None:
        """Ignore."""

    def call_failed(self, service: Service, reason: str) -> None:
        """Ignore."""

    def call_ended(self, service: Service) -> None:
        """Ignore."""


class ForwarderHealth(ConsumerHealth):
    """See `ConsumerHealth`. Caught up means that all was delivered or parked once that the topic had at the start."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(monotonic, OF_A_FORWARDER)
        self._delivered = False

    @property
    def is_caught_up(self) -> bool:
        """See the class."""
        return self._delivered

    def waits(self, count: int) -> None:
        """See `consumers.webhook.observe.Observer`."""
        self._delivered = self._delivered or (count == 0 and super().is_caught_up)


_PREFIX = "trekkpaalegg_webhook_"


class PrometheusObserver(HealthObserver):
    """The `Observer` of a forwarder. `now` gives seconds since 1970 and is there for tests to turn."""

    health: ForwarderHealth

    def __init__(self, health: ForwarderHealth, now: Callable[[], float] = time.time) -> None:
        super().__init__(health, _PREFIX, "what is read")
        self._kept_figures = _KeptFigures(now)
        self.registry.register(self._kept_figures)
        self._read = self._counter("read", "Messages read from Kafka, and kept until they are delivered.")
        self._attempts = self._counter("attempts", "Attempts to deliver an event, by what came of it.", "outcome")
        self._undecodable = self._counter("undecodable", "Messages parked as they cannot be decoded.")
        for meaning in Meaning:
            self._attempts.labels(meaning.value)

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """See `Observer`."""
        self.health.offsets_committed(next_offsets)

    def taken(self, count: int) -> None:
        """See `Observer`."""
        self._read.inc(count)

    def attempted(self, meaning: Meaning) -> None:
        """See `Observer`."""
        self._attempts.labels(meaning.value).inc()

    def undecodable(self) -> None:
        """See `Observer`."""
        self._undecodable.inc()

    def waits(self, count: int) -> None:
        """See `Observer`."""
        self.health.waits(count)

    def kept(self, kept: Kept, parked_max: int) -> None:
        """See `Observer`."""
        self._kept_figures.put(kept, parked_max)


class _KeptFigures(Collector):
    """Gauges, made when scraped: what waits goes on to age while nothing is told."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told = (Kept(), 0)

    def put(self, kept: Kept, parked_max: int) -> None:
        self._told = (kept, parked_max)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        kept, parked_max = self._told
        values = {
            "waiting_events": ("Events that are to be delivered.", kept.waiting),
            "oldest_waiting_seconds": ("For how long the oldest of them has waited.", self._age(kept.waiting_since)),
            "parked_events": ("Events that are parked.", kept.parked),
            "parked_events_max": ("With more of them it ends itself.", parked_max),
            "oldest_parked_seconds": ("For how long the oldest of them is parked.", self._age(kept.parked_since)),
            "events_behind_parked": ("Events that wait behind a parked one of their order.", kept.behind),
        }
        for name, (documentation, value) in values.items():
            yield GaugeMetricFamily(f"{_PREFIX}{name}", documentation, value=float(value))

    def _age(self, since: float | None) -> float:
        return 0.0 if since is None else max(self._now() - since, 0.0)
