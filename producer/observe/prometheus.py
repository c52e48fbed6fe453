"""Metrics of the producer for Prometheus. No label holds an employer, let alone a person."""

from __future__ import annotations

import threading
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from producer.domain.trekkpaalegg import Origin, RejectionReason
from producer.domain.warnings import warnings_of
from producer.errors import SuspendedError
from trekkpaalegg.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from producer.detect.detect import Detection
    from producer.observe.port import LaneFigures


DISTRIBUTION = "trekkpaalegg-stream"


class Health(Protocol):
    """See `producer.observe.http.Health`."""

    def stuck(self) -> Mapping[str, float]:
        """Loops that have stopped turning."""

    def missing(self) -> Mapping[str, str]:
        """What keeps the process from being ready."""


class ProcessFigures(Collector):
    """Gauges, made when scraped. `now` gives seconds since 1970; `pull_interval_seconds` is None where nobody pulls."""

    def __init__(
        self,
        health: Health,
        poll_interval_seconds: float,
        now: Callable[[], float] = time.time,
        *,
        pull_interval_seconds: float | None = None,
    ) -> None:
        self._health = health
        self._poll_interval_seconds = poll_interval_seconds
        self._pull_interval_seconds = pull_interval_seconds
        self._now = now

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: names are known when they are collected."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as of now."""
        figures = {
            "ready": ("1 while nothing is missing, as /readyz tells.", not self._health.missing()),
            "stuck_loops": ("Loops that have stopped turning, as /livez tells.", len(self._health.stuck())),
            "poll_interval_seconds": ("How often each employer is to be read.", self._poll_interval_seconds),
            "clock_timestamp_seconds": ("What this process takes for the time.", self._now()),
        }
        if self._pull_interval_seconds is not None:
            figures["pull_interval_seconds"] = (
                "How often Altinn is to be asked for each employer.",
                self._pull_interval_seconds,
            )
        for name, (documentation, value) in figures.items():
            yield GaugeMetricFamily(f"trekkpaalegg_{name}", documentation, value=float(value))
        build = GaugeMetricFamily(
            "trekkpaalegg_build_info", "Always 1; the version of the program is a label.", labels=["version"]
        )
        build.add_metric([program_version()], 1)
        yield build


def program_version() -> str:
    """Version of the installed package; `unknown` where it was not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


CLASSES = ("healthy", "failing", "suspended", "suspended_by_operator")
_CALL_BUCKETS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_TRANSACTION_BUCKETS_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
_DELAY_BUCKETS_SECONDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_CHECKED_MAX = 250
_NOTIFIED = ("wake_up", "double", "unknown_type", "not_stored", "refused_secret", "pull_failed", "pull_refused")
_MICROS_PER_SECOND = 1_000_000
_ORIGIN, _LATE = attrgetter("origin._value_"), attrgetter("late")
_CORRECTION, _CURRENT = attrgetter("correction"), attrgetter("current")
_OPPRETTET = attrgetter("trekkpaalegg.opprettet")
"""Of every publication, and there are millions: `_value_` is what `value` looks up at length."""


class PrometheusObserver:
    """An `Observer` with a registry of its own; `exposition` is what a scraper gets.

    `monotonic` and `now` give seconds and are there for tests to turn.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self.registry = CollectorRegistry()
        self._standing = _StandingFigures(monotonic)
        self.registry.register(self._standing)
        ProcessCollector(registry=self.registry)
        self._calls = self._counter("calls", "Calls to the API, by operation and HTTP status.", "operation", "status")
        self._call_seconds = Histogram(
            "trekkpaalegg_call_seconds",
            "Time of a call to the API.",
            ("operation",),
            registry=self.registry,
            buckets=_CALL_BUCKETS_SECONDS,
        )
        self._tokens = self._counter("tokens", "Tokens asked for at Maskinporten, by outcome.", "outcome")
        self._notifications = self._counter("notifications", "What tells of changes, by what came of it.", "outcome")
        self._transactions = self._counter("transactions", "Kafka transactions, by outcome.", "outcome")
        self._transaction_seconds = Histogram(
            "trekkpaalegg_transaction_seconds",
            "Time from begin to the answer of commit.",
            registry=self.registry,
            buckets=_TRANSACTION_BUCKETS_SECONDS,
        )
        self._recovered = self._counter(
            "recovered_records",
            "Records of hanging transactions aborted, or written to repair a lane, by kind.",
            "kind",
        )
        self._events = self._counter("events", "Events committed, by what led to them.", "origin")
        self._late = self._counter("late_events", "Older versions that came late.")
        self._corrections = self._counter("corrections", "Corrections of versions published before.")
        self._delay_seconds = Histogram(
            "trekkpaalegg_delay_seconds",
            "Lag: from opprettet to committed, of the oldest newest version in each batch.",
            registry=self.registry,
            buckets=_DELAY_BUCKETS_SECONDS,
        )
        self._quarantined = self._counter("quarantined", "Records put in quarantine, by reason.", "reason")
        self._gaps = self._counter("gap_versions", "Versions that the list had passed over, by what became.", "outcome")
        self._changed = self._counter("changed_content", "Versions whose content the source has changed.")
        self._version_jumps = self._counter("version_jumps", "Version numbers too far ahead to be believed.")
        self._foreign = self._counter("foreign", "Orders naming another employer than asked for.", "handling")
        self._checked = self._counter("checked", "Published versions looked at for warnings; a sample of big batches.")
        self._warnings = self._counter("warnings", "Oddities in the versions looked at, by kind.", "kind")
        self._readings = self._counter("readings", "Readings of an employer, by outcome.", "outcome")
        self._vanished = self._counter("vanished_orders", "Known orders that a full reading did not show.")
        self._signals = self._counter("signals", "Signals that came to a lane, by kind.", "kind")
        self._unannounced = self._counter(
            "unannounced_changes", "Versions that polling found and published, and that no signal had told of."
        )
        self._positions_ahead = self._counter("positions_ahead", "Positions found above all that the source has.")
        self._begin_at_zero()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

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
            self._foreign: ("published", "left"),
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
        self._standing.found(lanes)

    def lane_taken(self, lane: int, trekkpliktige: int, orders: int) -> None:  # noqa: ARG002  figures() tells them anew
        """See `Observer`."""
        self._standing.take(lane)

    def lane_left(self, lane: int) -> None:
        """See `Observer`."""
        self._standing.leave(lane)

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        """See `Observer`."""
        self._transactions.labels(outcome).inc()
        self._transaction_seconds.observe(seconds)

    def records_recovered(self, kind: str, records: int) -> None:
        """See `Observer`."""
        self._recovered.labels(kind).inc(records)

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:  # noqa: ARG002  they are no labels
        """See `Observer`."""
        publications = detection.publications
        for origin, count in Counter(map(_ORIGIN, publications)).items():
            self._events.labels(origin).inc(count)
        # Checking costs a fifth of what publishing an event does, so of a back-fill's big batches a sample must do.
        sample = publications[:: len(publications) // _CHECKED_MAX + 1]
        self._checked.inc(len(sample))
        for kind, count in Counter(kind for each in sample for kind in warnings_of(each.trekkpaalegg)).items():
            self._warnings.labels(kind).inc(count)
        for reason, count in Counter(each.reason.value for each in detection.rejected).items():
            self._quarantined.labels(reason).inc(count)
        self._late.inc(sum(map(_LATE, publications)))
        self._corrections.inc(len(publications) - list(map(_CORRECTION, publications)).count(None))
        oldest = min(map(_OPPRETTET, filter(_CURRENT, publications)), default=None)
        if oldest is not None:
            self._delay_seconds.observe(max(self._now() - oldest / _MICROS_PER_SECOND, 0))
        tally = detection.tally
        self._gaps.labels("filled").inc(tally.gaps_filled)
        self._gaps.labels("missing").inc(tally.gaps_missing)
        self._gaps.labels("given_up").inc(tally.gaps_given_up)
        self._changed.inc(tally.changed_content)
        self._version_jumps.inc(tally.version_jumps)
        self._foreign.labels("published").inc(tally.foreign_published)
        self._foreign.labels("left").inc(tally.foreign_left)

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:  # noqa: ARG002  they are no labels
        """See `Observer`."""
        self._readings.labels(_reading_outcome(error)).inc()
        self._vanished.inc(vanished)

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:  # noqa: ARG002  they are no labels
        """See `Observer`."""
        self._positions_ahead.inc()

    def signal_taken(self, lane: int, kind: str) -> None:  # noqa: ARG002  lanes are no labels
        """See `Observer`."""
        self._signals.labels(kind).inc()

    def unannounced(self, versions: int) -> None:
        """See `Observer`."""
        self._unannounced.inc(versions)

    def figures(self, lane: int, figures: LaneFigures) -> None:
        """See `Observer`."""
        self._standing.put(lane, figures)

    def _counter(self, name: str, documentation: str, *labels: str) -> CounterMetric:
        return CounterMetric(f"trekkpaalegg_{name}", documentation, labels, registry=self.registry)


def _reading_outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    for kind, outcome in ((RetryableError, "failed"), (SuspendedError, "suspended"), (FatalError, "fatal")):
        if isinstance(error, kind):
            return outcome
    return "unexpected"


class _StandingFigures(Collector):
    """Gauges, made when scraped from what the lanes told last: an age grows on while its lane is silent."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._lanes: dict[int, tuple[float, LaneFigures] | None] = {}
        self._lane_count = 0

    def found(self, lanes: int) -> None:
        self._lane_count = lanes

    def take(self, lane: int) -> None:
        with self._lock:
            self._lanes[lane] = None

    def leave(self, lane: int) -> None:
        with self._lock:
            self._lanes.pop(lane, None)

    def put(self, lane: int, figures: LaneFigures) -> None:
        with self._lock:
            if lane in self._lanes:
                self._lanes[lane] = (self._monotonic(), figures)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            owned = len(self._lanes)
            told = [each for each in self._lanes.values() if each is not None]
        now = self._monotonic()
        yield GaugeMetricFamily("trekkpaalegg_lanes", "Lanes that this process owns.", value=owned)
        yield GaugeMetricFamily(
            "trekkpaalegg_application_lanes",
            "Lanes that all processes of the application share, 0 while unknown.",
            value=self._lane_count,
        )
        counts = GaugeMetricFamily("trekkpaalegg_trekkpliktige", "Employers read for, by class.", labels=["class"])
        ages = GaugeMetricFamily(
            "trekkpaalegg_oldest_reading_age_seconds",
            "Age of the last successful reading of the employer that has waited longest, by class.",
            labels=["class"],
        )
        pulls = GaugeMetricFamily(
            "trekkpaalegg_oldest_pull_age_seconds",
            "Age of Altinn's last answer for the employer that has waited longest, by class; where Altinn is asked.",
            labels=["class"],
        )
        for name in CLASSES:
            counts.add_metric([name], sum(figures.trekkpliktige.get(name, 0) for _, figures in told))
        _add_oldest(ages, [(now - told_at, figures.oldest_read_seconds) for told_at, figures in told])
        _add_oldest(pulls, [(now - told_at, figures.oldest_pull_seconds) for told_at, figures in told])
        yield counts
        yield ages
        yield pulls
        sums = {
            "orders": ("Orders remembered.", sum(figures.orders for _, figures in told)),
            "missing_versions": ("Versions published around.", sum(figures.versions_missing for _, figures in told)),
            "position": (
                "Highest sekvensnummer published.",
                max((figures.position_max for _, figures in told), default=0),
            ),
        }
        for name, (documentation, value) in sums.items():
            yield GaugeMetricFamily(f"trekkpaalegg_{name}", documentation, value=value)


def _add_oldest(family: GaugeMetricFamily, told: Iterable[tuple[float, dict[str, float]]]) -> None:
    """Per class the greatest age of all lanes; each was told so many seconds ago."""
    for name in CLASSES:
        found = [ages[name] + ago for ago, ages in told if name in ages]
        if found:
            family.add_metric([name], max(found))
