"""What a forwarder's `Observer` is told in, figures for Prometheus and what health addresses ask for out.

No label holds an employer, let alone a person.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.observe.prometheus import StandingObserver
from consumers.webhook.answer import Meaning
from consumers.webhook.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.webhook.standing import ForwarderStanding

_PREFIX = "trekkpaalegg_webhook_"


class PrometheusObserver(StandingObserver):
    """The `Observer` of a forwarder. `now` gives seconds since 1970 and is there for tests to turn."""

    standing: ForwarderStanding

    def __init__(self, standing: ForwarderStanding, now: Callable[[], float] = time.time) -> None:
        super().__init__(standing, _PREFIX, "what is read")
        self._kept_figures = _KeptFigures(now)
        self.registry.register(self._kept_figures)
        self._read = self._counter("read", "Messages read from Kafka, and kept until they are delivered.")
        self._attempts = self._counter("attempts", "Attempts to deliver an event, by what came of it.", "outcome")
        self._undecodable = self._counter("undecodable", "Messages parked as they cannot be decoded.")
        for meaning in Meaning:
            self._attempts.labels(meaning.value)

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
