"""What a forwarder's `Observer` is told in, figures for Prometheus and what health addresses ask for out.

No label holds an employer, let alone a person.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.observe.prometheus import StandingFigures
from consumers.webhook.answer import Meaning
from consumers.webhook.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.observe.port import Look, Other
    from consumers.webhook.standing import ForwarderStanding

_PREFIX = "trekkpaalegg_webhook_"


class PrometheusObserver:
    """An `Observer` with a registry of its own; `exposition` is what a scraper gets, `standing` what readiness asks.

    `now` gives seconds since 1970 and is there for tests to turn.
    """

    def __init__(self, standing: ForwarderStanding, now: Callable[[], float] = time.time) -> None:
        self.standing = standing
        self.registry = CollectorRegistry()
        self._kept_figures = _KeptFigures(now)
        self.registry.register(StandingFigures(standing, _PREFIX, "what is read"))
        self.registry.register(self._kept_figures)
        ProcessCollector(registry=self.registry)
        self._read = self._counter("read", "Messages read from Kafka, and kept until they are delivered.")
        self._attempts = self._counter("attempts", "Attempts to deliver an event, by what came of it.", "outcome")
        self._undecodable = self._counter("undecodable", "Messages parked as they cannot be decoded.")
        self._failures = self._counter("failures", "Calls that failed in passing, by what was called.", "other")
        for meaning in Meaning:
            self._attempts.labels(meaning.value)
        for other in standing.others:
            self._failures.labels(other.value)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def beat(self) -> None:
        """See `Observer`."""
        self.standing.beat()

    def looked(self, look: Look) -> None:
        """See `Observer`."""
        self.standing.looked(look)

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """See `Observer`."""
        self.standing.ledger_stands(next_offsets)

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
        self.standing.waits(count)

    def kept(self, kept: Kept, parked_max: int) -> None:
        """See `Observer`."""
        self._kept_figures.put(kept, parked_max)

    def call_begins(self, other: Other) -> None:
        """See `Observer`."""
        self.standing.call_begins(other)

    def call_failed(self, other: Other, reason: str) -> None:
        """See `Observer`."""
        self._failures.labels(other.value).inc()
        self.standing.call_failed(other, reason)

    def call_ended(self, other: Other) -> None:
        """See `Observer`."""
        self.standing.call_ended(other)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}{name}", documentation, labels, registry=self.registry)


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
