"""Prometheus metrics of one process: a registry whose names share a prefix, and gauges computed at scrape time."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trekkpaalegg.http import Health

_DISTRIBUTION = "trekkpaalegg-stream"


def program_version() -> str:
    """Version of the installed package; `unknown` if the program runs from a copy that was not installed."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """A registry of its own, with the metrics of the process. Names of metrics begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        """A new counter; Prometheus adds `_total` to its name."""
        return Counter(f"{self._prefix}{name}", documentation, labels, registry=self.registry)

    def gauge(self, name: str, documentation: str) -> Gauge:
        """A new gauge that keeps the value that it was set to."""
        return Gauge(f"{self._prefix}{name}", documentation, registry=self.registry)

    def histogram(self, name: str, documentation: str, buckets: Sequence[float], *labels: str) -> Histogram:
        """A new histogram."""
        return Histogram(f"{self._prefix}{name}", documentation, labels, registry=self.registry, buckets=buckets)

    def collect_at_scrape(self, collect: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Add the gauges that `collect` returns at each scrape, so that an age keeps growing between two events."""
        self.registry.register(_AtScrape(collect))

    def gauges(self, values: Mapping[str, tuple[str, float]]) -> Iterator[GaugeMetricFamily]:
        """Gauges of one value each, for `collect_at_scrape`: documentation and value by name."""
        for name, (documentation, value) in values.items():
            yield GaugeMetricFamily(f"{self._prefix}{name}", documentation, value=float(value))

    def labelled_gauge(
        self, name: str, documentation: str, label: str, values: Mapping[str, float]
    ) -> GaugeMetricFamily:
        """A gauge with a value for each value of a label, for `collect_at_scrape`."""
        family = GaugeMetricFamily(f"{self._prefix}{name}", documentation, labels=[label])
        for each, value in values.items():
            family.add_metric([each], value)
        return family

    def health_gauges(self, health: Health, now: Callable[[], float] = time.time) -> Iterator[GaugeMetricFamily]:
        """Health, clock and version of the process, for `collect_at_scrape`. `now` gives seconds since 1970."""
        yield from self.gauges(
            {
                "ready": ("1 while nothing is missing, as /readyz reports.", not health.missing()),
                "stuck_loops": ("Loops that have stalled, as /livez reports.", len(health.stuck())),
                "clock_timestamp_seconds": ("The current time according to this process.", now()),
            }
        )
        documentation = "Always 1; the version of the program is a label."
        yield self.labelled_gauge("build_info", documentation, "version", {program_version(): 1})


class _AtScrape(Collector):
    def __init__(self, collect: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._collect = collect

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())  # names are known when they are collected

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._collect()
