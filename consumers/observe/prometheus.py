"""Prometheus metrics and health of a consumer. No label holds an employer, let alone a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.observe.port import LedgerObserver
from trekkpaalegg.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import GaugeMetricFamily

    from consumers.observe.health import ConsumerHealth
    from consumers.observe.port import Applied
    from trekkpaalegg.kafka.subscription import ClientStatus
    from trekkpaalegg.retry import Service

OUTCOMES = ("new", "late", "correction", "conflict", "known")
_BATCH_BUCKETS_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)
_PREFIX = "trekkpaalegg_consumer_"


class HealthObserver(Metrics):
    """Counts and passes on to `health` what every consumer reports. `reader` says what follows the topic."""

    def __init__(self, health: ConsumerHealth, prefix: str, reader: str) -> None:
        super().__init__(prefix)
        self.health = health
        self._reader = reader
        self._failures = self.counter("failures", "Calls that failed temporarily, by service.", "service")
        for service in health.services:
            self._failures.labels(service.value)
        self.collect_at_scrape(self._health_gauges)

    def beat(self) -> None:
        """See `LedgerObserver`."""
        self.health.beat()

    def client_checked(self, status: ClientStatus) -> None:
        """See `LedgerObserver`."""
        self.health.client_checked(status)

    def call_begins(self, service: Service) -> None:
        """See `LedgerObserver`."""
        self.health.call_begins(service)

    def call_failed(self, service: Service, reason: str) -> None:
        """See `LedgerObserver`."""
        self._failures.labels(service.value).inc()
        self.health.call_failed(service, reason)

    def call_ended(self, service: Service) -> None:
        """See `LedgerObserver`."""
        self.health.call_ended(service)

    def _health_gauges(self) -> Iterator[GaugeMetricFamily]:
        health, reader = self.health, self._reader
        status = health.client_status
        yield self.labelled_gauge(
            "lag",
            f"Offsets that {reader} is behind the end of a partition.",
            "partition",
            {str(partition): lag for partition, lag in sorted(health.behind().items())},
        )
        yield self.labelled_gauge(
            "waiting_seconds",
            "How long it has been waiting for a service that does not answer, by service.",
            "service",
            {service.value: seconds for service, seconds in health.waiting_seconds().items()},
        )
        yield from self.gauges(
            {
                "stalled_seconds": (
                    f"How long {reader} has been behind without moving.",
                    health.stalled_seconds(),
                ),
                "partitions": ("Partitions assigned to this process.", len(status.partitions)),
                "topic_partitions": ("Partitions of the topic, 0 while unknown.", status.partition_count),
                "caught_up": (
                    f"1 once {reader} has reached the end that the topic had at the start.",
                    health.is_caught_up,
                ),
            }
        )
        yield from self.health_gauges(health)


class PrometheusLedgerObserver(HealthObserver, LedgerObserver):
    """The `LedgerObserver` of a ledger's consumer."""

    def __init__(self, health: ConsumerHealth) -> None:
        super().__init__(health, _PREFIX, "the ledger")
        self._events = self.counter("events", "Events applied to the ledger, by outcome.", "outcome")
        self._messages_undecodable = self.counter("undecodable", "Messages set aside because they cannot be decoded.")
        self._undecodable = self.gauge("undecodable_messages", "Undecodable messages that the ledger holds.")
        self._undecodable_max = self.gauge("undecodable_messages_max", "The consumer exits if the ledger holds more.")
        self._newest = self.gauge(
            "newest_applied_timestamp_seconds", "When the newest message in the ledger was written to Kafka."
        )
        self._batch_seconds = self.histogram(
            "batch_seconds", "Time to write a batch to the ledger, waiting included.", _BATCH_BUCKETS_SECONDS
        )
        self._overtaken = self.counter(
            "overtaken", "Batches not written, because another consumer had moved the ledger's offsets."
        )
        for outcome in OUTCOMES:
            self._events.labels(outcome)

    def ended(self) -> None:
        """See `LedgerObserver`."""
        self.health.ended()

    def offsets_committed(self, next_offsets: Mapping[int, int]) -> None:
        """See `LedgerObserver`."""
        self.health.offsets_committed(next_offsets)

    def applied(self, applied: Applied) -> None:
        """See `LedgerObserver`."""
        for outcome in OUTCOMES:
            self._events.labels(outcome).inc(getattr(applied, outcome))
        self._messages_undecodable.inc(applied.undecodable)
        if applied.newest_at is not None:
            self._newest.set(applied.newest_at)

    def batch_written(self, seconds: float) -> None:
        """See `LedgerObserver`."""
        self._batch_seconds.observe(seconds)

    def overtaken(self) -> None:
        """See `LedgerObserver`."""
        self._overtaken.inc()

    def undecodable(self, count: int, limit: int) -> None:
        """See `LedgerObserver`."""
        self._undecodable.set(count)
        self._undecodable_max.set(limit)
