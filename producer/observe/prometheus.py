"""Metrics of the producer for Prometheus. No label holds an employer, let alone a person."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import astuple

from producer.domain.trekkpaalegg import Origin, RejectionReason
from producer.domain.warnings import warnings_of
from producer.errors import SuspendedError
from producer.observe.port import Observer
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Counter as CounterMetric
    from prometheus_client.core import GaugeMetricFamily

    from producer.detect.decide import Decision
    from producer.observe.port import LaneMetrics
    from trekkpaalegg.http import Health


CLASSES = ("healthy", "failing", "suspended", "suspended_by_operator")
ROWS = ("urgent", "bulk")
_CALL_BUCKETS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_TRANSACTION_BUCKETS_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
_DELAY_BUCKETS_SECONDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_CHECKED_MAX = 250
_NOTIFIED = ("wake_up", "double", "unknown_type", "not_stored", "refused_secret", "pull_failed", "pull_refused")
_MICROS_PER_SECOND = 1_000_000
_PUBLICATIONS, _REJECTED, _COUNTS = attrgetter("publications"), attrgetter("rejected"), attrgetter("counts")
_ORIGIN, _LATE = attrgetter("origin._value_"), attrgetter("late")
_CORRECTION, _CURRENT = attrgetter("correction"), attrgetter("current")
_OPPRETTET = attrgetter("trekkpaalegg.opprettet")
"""Of every order and every publication, and there are millions: `_value_` is what `value` looks up at length."""


class PrometheusObserver(Metrics, Observer):
    """The `Observer` that counts. `monotonic` and `now` give seconds; tests pass clocks of their own."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__("trekkpaalegg_")
        self._now = now
        self._lanes = _Lanes(monotonic)
        self.collect_at_scrape(lambda: self._lanes.gauges(self))
        self._calls = self.counter("calls", "Calls to the API, by operation and HTTP status.", "operation", "status")
        self._call_seconds = self.histogram(
            "call_seconds", "Duration of a call to the API.", _CALL_BUCKETS_SECONDS, "operation"
        )
        self._tokens = self.counter("tokens", "Tokens requested from Maskinporten, by outcome.", "outcome")
        self._notifications = self.counter(
            "notifications", "Notifications of changes, and pulls for them, by outcome.", "outcome"
        )
        self._transactions = self.counter("transactions", "Kafka transactions, by outcome.", "outcome")
        self._transaction_seconds = self.histogram(
            "transaction_seconds", "Time from begin to the answer of the commit.", _TRANSACTION_BUCKETS_SECONDS
        )
        self._recovered = self.counter(
            "recovered_records",
            "Records of hanging transactions aborted, or written to repair a lane, by kind.",
            "kind",
        )
        self._events = self.counter("events", "Events committed, by origin.", "origin")
        self._late = self.counter("late_events", "Older versions that were published late.")
        self._corrections = self.counter("corrections", "Corrections of versions published before.")
        self._delay_seconds = self.histogram(
            "delay_seconds",
            "Lag from opprettet to committed, of the oldest current version in each batch.",
            _DELAY_BUCKETS_SECONDS,
        )
        self._quarantined = self.counter("quarantined", "Records put in quarantine, by reason.", "reason")
        self._gaps = self.counter("gap_versions", "Versions that the list had skipped, by outcome.", "outcome")
        self._changed = self.counter("changed_content", "Versions whose content the source changed after publication.")
        self._version_jumps = self.counter("version_jumps", "Version numbers too far ahead to be plausible.")
        self._handed_over = self.counter(
            "observations", "Orders of which employers' lists showed something new, handed over to their homes.", "row"
        )
        self._lowered = self.counter("lowered_versions", "Orders that a list showed with a lower version than before.")
        self._unrecorded = self.counter(
            "unrecorded_elements",
            "Elements without trekkid that were not put in quarantine, as too many came that day.",
        )
        self._checked = self.counter("checked", "Published versions checked for warnings; a sample of large batches.")
        self._warnings = self.counter("warnings", "Oddities in the versions checked, by kind.", "kind")
        self._readings = self.counter("readings", "Readings of an employer, by outcome.", "outcome")
        self._vanished = self.counter("vanished_orders", "Known orders that a full reading did not show.")
        self._signals = self.counter("signals", "Signals that a lane received, by kind.", "kind")
        self._unannounced = self.counter(
            "unannounced_changes", "Versions that polling found and published without a notification."
        )
        self._positions_ahead = self.counter("positions_ahead", "Positions found above the source's sekvensnummer.")
        self._begin_at_zero()

    def observe_process(
        self,
        health: Health,
        *,
        poll_interval_seconds: float,
        reconcile_interval_seconds: float,
        pull_interval_seconds: float | None = None,
    ) -> None:
        """Add health and intervals of the process; `pull_interval_seconds` is None if Altinn is not polled."""
        intervals = {
            "poll_interval_seconds": ("How often each employer is to be read.", poll_interval_seconds),
            "reconcile_interval_seconds": (
                "How often each employer's list is to be compared in full.",
                reconcile_interval_seconds,
            ),
        }
        if pull_interval_seconds is not None:
            documentation = "How often Altinn is to be polled for each employer."
            intervals["pull_interval_seconds"] = (documentation, pull_interval_seconds)
        self.collect_at_scrape(lambda: self.gauges(intervals))
        self.collect_at_scrape(lambda: self.health_gauges(health, self._now))

    def _begin_at_zero(self) -> None:
        """A series that appears with its first event hides that event from Prometheus' `increase`."""
        known: dict[CounterMetric, Iterable[str]] = {
            self._tokens: ("ok", "retry", "suspended", "fatal"),
            self._notifications: _NOTIFIED,
            self._transactions: ("committed", "aborted", "fenced", "unknown"),
            self._recovered: ("hanging", "incomplete"),
            self._events: (each.value for each in Origin),
            self._quarantined: (each.value for each in RejectionReason),
            self._gaps: ("filled", "missing", "given_up"),
            self._handed_over: ROWS,
            self._readings: ("ok", "failed", "suspended", "fatal", "unexpected"),
        }
        for counter, labels in known.items():
            for label in labels:
                counter.labels(label)

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        """See `Observer`."""
        self._calls.labels(operation, status).inc()
        self._call_seconds.labels(operation).observe(seconds)

    def token_fetched(self, outcome: str) -> None:
        """See `Observer`."""
        self._tokens.labels(outcome).inc()

    def notification_received(self, outcome: str) -> None:
        """See `Observer`."""
        self._notifications.labels(outcome).inc()

    def lanes_found(self, lanes: int) -> None:
        """See `Observer`."""
        self._lanes.application_lanes = lanes

    def lane_acquired(self, lane: int, trekkpliktige: int, orders: int) -> None:  # noqa: ARG002  lane_metrics() reports them
        """See `Observer`."""
        self._lanes.acquire(lane)

    def lane_released(self, lane: int) -> None:
        """See `Observer`."""
        self._lanes.release(lane)

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        """See `Observer`."""
        self._transactions.labels(outcome).inc()
        self._transaction_seconds.observe(seconds)

    def records_recovered(self, kind: str, records: int) -> None:
        """See `Observer`."""
        self._recovered.labels(kind).inc(records)

    def handed_over(self, row: str, observations: int) -> None:
        """See `Observer`."""
        self._handed_over.labels(row).inc(observations)

    def versions_lowered(self, trekkpliktig: str, versions: int) -> None:  # noqa: ARG002  employers are no labels
        """See `Observer`."""
        self._lowered.inc(versions)

    def unrecorded(self, elements: int) -> None:
        """See `Observer`."""
        self._unrecorded.inc(elements)

    def published(self, lane: int, decisions: Sequence[Decision]) -> None:  # noqa: ARG002  lanes are no labels
        """See `Observer`."""
        publications = list(chain.from_iterable(map(_PUBLICATIONS, decisions)))
        for origin, count in Counter(map(_ORIGIN, publications)).items():
            self._events.labels(origin).inc(count)
        # Checking costs a fifth of what publishing an event does, so of a back-fill's big batches a sample must do.
        sample = publications[:: len(publications) // _CHECKED_MAX + 1]
        self._checked.inc(len(sample))
        for kind, count in Counter(kind for each in sample for kind in warnings_of(each.trekkpaalegg)).items():
            self._warnings.labels(kind).inc(count)
        rejected = chain.from_iterable(map(_REJECTED, decisions))
        for reason, count in Counter(each.reason.value for each in rejected).items():
            self._quarantined.labels(reason).inc(count)
        self._late.inc(sum(map(_LATE, publications)))
        self._corrections.inc(len(publications) - list(map(_CORRECTION, publications)).count(None))
        oldest = min(map(_OPPRETTET, filter(_CURRENT, publications)), default=None)
        if oldest is not None:
            self._delay_seconds.observe(max(self._now() - oldest / _MICROS_PER_SECOND, 0))
        for counts in map(_COUNTS, decisions):
            if any(astuple(counts)):
                self._gaps.labels("filled").inc(counts.gaps_filled)
                self._gaps.labels("missing").inc(counts.gaps_missing)
                self._gaps.labels("given_up").inc(counts.gaps_given_up)
                self._changed.inc(counts.changed_content)
                self._version_jumps.inc(counts.version_jumps)

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:  # noqa: ARG002  they are no labels
        """See `Observer`."""
        self._readings.labels(_reading_outcome(error)).inc()
        self._vanished.inc(vanished)

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:  # noqa: ARG002  they are no labels
        """See `Observer`."""
        self._positions_ahead.inc()

    def signal_received(self, lane: int, kind: str) -> None:  # noqa: ARG002  lanes are no labels
        """See `Observer`."""
        self._signals.labels(kind).inc()

    def unannounced(self, versions: int) -> None:
        """See `Observer`."""
        self._unannounced.inc(versions)

    def lane_metrics(self, lane: int, metrics: LaneMetrics) -> None:
        """See `Observer`."""
        self._lanes.update(lane, metrics)


def _reading_outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    for kind, outcome in ((RetryableError, "failed"), (SuspendedError, "suspended"), (FatalError, "fatal")):
        if isinstance(error, kind):
            return outcome
    return "unexpected"


class _Lanes:
    """What the lanes reported last; an age keeps growing while its lane is silent. Safe for several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._lanes: dict[int, tuple[float, LaneMetrics] | None] = {}
        self.application_lanes = 0

    def acquire(self, lane: int) -> None:
        with self._lock:
            self._lanes[lane] = None

    def release(self, lane: int) -> None:
        with self._lock:
            self._lanes.pop(lane, None)

    def update(self, lane: int, metrics: LaneMetrics) -> None:
        with self._lock:
            if lane in self._lanes:
                self._lanes[lane] = (self._monotonic(), metrics)

    def gauges(self, metrics: Metrics) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            owned = len(self._lanes)
            reports = [each for each in self._lanes.values() if each is not None]
        now = self._monotonic()
        lanes = [each for _, each in reports]
        yield from metrics.gauges(
            {
                "lanes": ("Lanes that this process owns.", owned),
                "application_lanes": (
                    "Lanes that all processes of the application share, 0 while unknown.",
                    self.application_lanes,
                ),
                "orders": ("Orders remembered.", sum(each.orders for each in lanes)),
                "orders_waiting": (
                    "Orders that wait, as a version of theirs cannot be fetched now.",
                    sum(each.orders_waiting for each in lanes),
                ),
                "missing_versions": (
                    "Versions that were skipped, as the source did not return them.",
                    sum(each.versions_missing for each in lanes),
                ),
                "position": ("Highest sekvensnummer read.", max((each.position_max for each in lanes), default=0)),
            }
        )
        yield metrics.labelled_gauge(
            "observations_waiting",
            "Orders that were handed over to their homes, which have not decided on them yet.",
            "row",
            {row: sum(each.observations_waiting.get(row, 0) for each in lanes) for row in ROWS},
        )
        yield metrics.labelled_gauge(
            "trekkpliktige",
            "Employers read for, by class.",
            "class",
            {name: sum(each.trekkpliktige.get(name, 0) for each in lanes) for name in CLASSES},
        )
        yield metrics.labelled_gauge(
            "oldest_reading_age_seconds",
            "Age of the last successful reading of the employer that has waited longest, by class.",
            "class",
            _oldest((now - at, each.oldest_read_seconds) for at, each in reports),
        )
        yield metrics.labelled_gauge(
            "oldest_comparison_age_seconds",
            "Age of the last full comparison of the employer that has waited longest for one, by class.",
            "class",
            _oldest((now - at, each.oldest_comparison_seconds) for at, each in reports),
        )
        yield metrics.labelled_gauge(
            "oldest_pull_age_seconds",
            "Age of Altinn's last answer for the employer that has waited longest, by class; if Altinn is polled.",
            "class",
            _oldest((now - at, each.oldest_pull_seconds) for at, each in reports),
        )


def _oldest(reports: Iterable[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Per class the greatest age of all lanes; each was reported so many seconds ago."""
    found: dict[str, float] = {}
    for ago, ages in reports:
        for name, age in ages.items():
            found[name] = max(found.get(name, 0.0), age + ago)
    return found
