"""Health and metrics of the forwarder. No label names an employer or a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumers.observe.health import ConsumerHealth
from consumers.observe.port import FORWARDER_SERVICES
from consumers.observe.prometheus import HealthObserver
from consumers.webhook.delivery import ResultKind
from consumers.webhook.store import StateCounts
from trekkpaalegg.retry import CallObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import GaugeMetricFamily

    from trekkpaalegg.kafka.subscription import ClientStatus


class ForwarderObserver(CallObserver):
    """What the forwarder reports about itself; this class ignores it.

    Called by one thread; must neither block nor raise. No argument contains a value from an event.
    """

    def beat(self) -> None:
        """The loop is alive: it has completed a pass, or is waiting for something it knows of."""

    def client_checked(self, status: ClientStatus) -> None:
        """The state of Kafka as seen from here, at every read."""

    def stored_to(self, next_offsets: Mapping[int, int]) -> None:
        """All messages before these offsets, by partition, are stored or delivered."""

    def stored(self, count: int) -> None:
        """This number of messages was read from Kafka and stored."""

    def attempted(self, kind: ResultKind) -> None:
        """An event was sent, with this result."""

    def undecodable(self) -> None:
        """An event was not sent because it cannot be decoded."""

    def pending(self, count: int) -> None:
        """This number of events remains to be delivered, those in flight included. Called at every pass of the loop."""

    def counts(self, counts: StateCounts, parked_max: int) -> None:
        """How many events the state holds; the forwarder stops when more than `parked_max` are parked."""


class ForwarderHealth(ConsumerHealth):
    """See `ConsumerHealth`. Caught up: everything that the topic held at the start was delivered or parked once."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(monotonic, FORWARDER_SERVICES)
        self._delivered = False

    @property
    def is_caught_up(self) -> bool:
        """See the class."""
        return self._delivered

    def pending(self, count: int) -> None:
        """See `ForwarderObserver.pending`."""
        self._delivered = self._delivered or (count == 0 and super().is_caught_up)


_PREFIX = "trekkpaalegg_webhook_"


class PrometheusForwarderObserver(HealthObserver, ForwarderObserver):
    """Counts in Prometheus metrics. `now` gives seconds since 1970; tests replace it."""

    health: ForwarderHealth

    def __init__(self, health: ForwarderHealth, now: Callable[[], float] = time.time) -> None:
        super().__init__(health, _PREFIX, "what is read")
        self._now = now
        self._state = (StateCounts(), 0)
        self.collect_at_scrape(self._state_gauges)
        self._read = self.counter("read", "Messages read from Kafka and stored until they are delivered.")
        self._attempts = self.counter("attempts", "Attempts to deliver an event, by result.", "outcome")
        self._undecodable = self.counter("undecodable", "Messages parked because they cannot be decoded.")
        for kind in ResultKind:
            self._attempts.labels(kind.value)

    def stored_to(self, next_offsets: Mapping[int, int]) -> None:
        """See `ForwarderObserver`."""
        self.health.offsets_committed(next_offsets)

    def stored(self, count: int) -> None:
        """See `ForwarderObserver`."""
        self._read.inc(count)

    def attempted(self, kind: ResultKind) -> None:
        """See `ForwarderObserver`."""
        self._attempts.labels(kind.value).inc()

    def undecodable(self) -> None:
        """See `ForwarderObserver`."""
        self._undecodable.inc()

    def pending(self, count: int) -> None:
        """See `ForwarderObserver`."""
        self.health.pending(count)

    def counts(self, counts: StateCounts, parked_max: int) -> None:
        """See `ForwarderObserver`."""
        self._state = (counts, parked_max)

    def _state_gauges(self) -> Iterator[GaugeMetricFamily]:
        counts, parked_max = self._state
        return self.gauges(
            {
                "waiting_events": ("Events that are waiting to be delivered.", counts.waiting),
                "oldest_waiting_seconds": ("Age of the oldest event that is waiting.", self._age(counts.waiting_since)),
                "parked_events": ("Events that are parked.", counts.parked),
                "parked_events_max": ("The forwarder stops when more events are parked.", parked_max),
                "oldest_parked_seconds": (
                    "How long the oldest parked event has been parked.",
                    self._age(counts.parked_since),
                ),
                "events_behind_parked": ("Events that wait behind a parked one of their order.", counts.behind),
            }
        )

    def _age(self, since: float | None) -> float:
        return 0.0 if since is None else max(self._now() - since, 0.0)
