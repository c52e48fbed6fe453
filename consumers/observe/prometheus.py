"""What the `Observer` is told in, figures for Prometheus and what health addresses ask for out.

No label holds an employer, let alone a person.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumers.observe.health import ConsumerHealth
    from consumers.observe.port import Applied
    from trekkpaalegg.kafka.subscription import Look
    from trekkpaalegg.retry import Service

DISTRIBUTION = "trekkpaalegg-stream"
OUTCOMES = ("new", "late", "correction", "conflict", "known")
_BATCH_BUCKETS_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)
_PREFIX = "trekkpaalegg_consumer_"


class HealthObserver:
    """What the `Observer` of every consumer does alike; a scraper gets its `exposition`.

    It has a registry of its own, whose names begin with `prefix`; `reader` is what comes behind the topic, in words.
    """

    def __init__(self, health: ConsumerHealth, prefix: str, reader: str) -> None:
        self._prefix = prefix
        self.health = health
        self.registry = CollectorRegistry()
        self.registry.register(HealthCollector(health, prefix, reader))
        ProcessCollector(registry=self.registry)
        self._failures = self._counter("failures", "Calls that failed in passing, by what was called.", "other")
        for service in health.others:
            self._failures.labels(service.value)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def beat(self) -> None:
        """See `Observer`."""
        self.health.beat()

    def looked(self, look: Look) -> None:
        """See `Observer`."""
        self.health.looked(look)

    def call_begins(self, service: Service) -> None:
        """See `Observer`."""
        self.health.call_begins(service)

    def call_failed(self, service: Service, reason: str) -> None:
        """See `Observer`."""
        self._failures.labels(service.value).inc()
        self.health.call_failed(service, reason)

    def call_ended(self, service: Service) -> None:
        """See `Observer`."""
        self.health.call_ended(service)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"{self._prefix}{name}", documentation, labels, registry=self.registry)


class PrometheusObserver(HealthObserver):
    """The `Observer` of a ledger's consumer."""

    def __init__(self, health: ConsumerHealth) -> None:
        super().__init__(health, _PREFIX, "the ledger")
        self._events = self._counter("events", "Events applied to the ledger, by what became of them.", "outcome")
        self._messages_undecodable = self._counter("undecodable", "Messages put aside as they cannot be decoded.")
        self._undecodable = self._gauge("undecodable_messages", "Undecodable messages that lie in the ledger now.")
        self._undecodable_max = self._gauge(
            "undecodable_messages_max", "With more of them in the ledger it ends itself."
        )
        self._newest = self._gauge(
            "newest_applied_timestamp_seconds", "When the newest message in the ledger was written to Kafka."
        )
        self._batch_seconds = Histogram(
            f"{_PREFIX}batch_seconds",
            "Time to write a batch to the ledger, with what was waited for.",
            registry=self.registry,
            buckets=_BATCH_BUCKETS_SECONDS,
        )
        self._overtaken = self._counter("overtaken", "Batches not written, as another moved the ledger's offsets.")
        for outcome in OUTCOMES:
            self._events.labels(outcome)

    def ended(self) -> None:
        """See `Observer`."""
        self.health.ended()

    def offsets_committed(self, next_offsets: Mapping[int, int]) -> None:
        """See `Observer`."""
        self.health.offsets_committed(next_offsets)

    def applied(self, applied: Applied) -> None:
        """See `Observer`."""
        for outcome in OUTCOMES:
            self._events.labels(outcome).inc(getattr(applied, outcome))
        self._messages_undecodable.inc(applied.undecodable)
        if applied.newest_at is not None:
            self._newest.set(applied.newest_at)

    def batch_written(self, seconds: float) -> None:
        """See `Observer`."""
        self._batch_seconds.observe(seconds)

    def overtaken(self) -> None:
        """See `Observer`."""
        self._overtaken.inc()

    def undecodable(self, count: int, limit: int) -> None:
        """See `Observer`."""
        self._undecodable.set(count)
        self._undecodable_max.set(limit)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"{_PREFIX}{name}", documentation, registry=self.registry)


class HealthCollector(Collector):
    """Gauges, made when scraped: what is waited for goes on to age while nothing is told.

    Their names begin with `prefix`; `reader` is what comes behind the topic, in words.
    """

    def __init__(self, health: ConsumerHealth, prefix: str, reader: str) -> None:
        self._health = health
        self._prefix = prefix
        self._reader = reader

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: names are known when they are collected."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as of now."""
        look, health = self._health.look, self._health
        lag = self._family("lag", f"Offsets that {self._reader} is behind the end of a partition.", "partition")
        for partition, behind in sorted(health.behind().items()):
            lag.add_metric([str(partition)], behind)
        what = "For how long it has been waited for, by what does not answer."
        waiting = self._family("waiting_seconds", what, "other")
        for service, seconds in health.waiting_seconds().items():
            waiting.add_metric([service.value], seconds)
        yield lag
        yield waiting
        values = {
            "stalled_seconds": (
                f"For how long {self._reader} has been behind and not moved.",
                health.stalled_seconds(),
            ),
            "partitions": ("Partitions that this process reads.", len(look.partitions)),
            "topic_partitions": ("Partitions that the topic has, 0 while unknown.", look.partition_count),
            "ready": ("1 while nothing is missing, as /readyz tells.", not health.missing()),
            "stuck_loops": ("Loops that have stopped turning, as /livez tells.", len(health.stuck())),
            "clock_timestamp_seconds": ("What this process takes for the time.", time.time()),
            "caught_up": (
                f"1 once {self._reader} had come to where the topic ended at the start.",
                health.is_caught_up,
            ),
        }
        for name, (documentation, value) in values.items():
            yield GaugeMetricFamily(f"{self._prefix}{name}", documentation, value=float(value))
        build = self._family("build_info", "Always 1; the version of the program is a label.", "version")
        build.add_metric([program_version()], 1)
        yield build

    def _family(self, name: str, documentation: str, label: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{self._prefix}{name}", documentation, labels=[label])


def program_version() -> str:
    """Version of the installed package; `unknown` where the folder was copied out and runs without."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
