"""The health of a consumer: whether its loop has stalled, what is missing, how far it is behind and since when."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from consumers.observe.port import LEDGER_CONSUMER_SERVICES
from trekkpaalegg.kafka.health import NO_BROKER
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOP_SECONDS_MAX = 90.0
"""A loop that has made no progress for so long has stalled. Longer than any single call that it makes."""

LEDGER_SECONDS_MAX = 15.0
"""A ledger that takes longer for a call, without refusing it, counts as out of reach."""

_DATABASES = (Service.LEDGER, Service.STATE)


class _Call(msgspec.Struct):
    """A call in progress: since when, and why its last attempt failed."""

    since: float
    reason: str | None = None


class ConsumerHealth:
    """The health of a consumer that calls `services`. Any thread may call any method; `monotonic` gives seconds.

    Alive means that the loop makes progress, even if a service does not answer. Ready means that Kafka, group, registry
    and ledger are in order right now. Caught up means that since the start the ledger has once reached the end that
    each partition had when this member first saw it; it stays so.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, services: Sequence[Service] = LEDGER_CONSUMER_SERVICES
    ) -> None:
        self.services = tuple(services)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beat: float | None = None
        self._status: ClientStatus | None = None
        self._unreachable_since: float | None = None
        self._offsets: dict[int, int] = {}
        self._targets: dict[int, int] = {}
        self._calls: dict[Service, _Call] = {}
        self._moved = monotonic()
        self._caught_up = False

    def beat(self) -> None:
        """See `WorkerObserver`."""
        with self._lock:
            self._beat = self._monotonic()

    def ended(self) -> None:
        """See `WorkerObserver`."""
        with self._lock:
            self._beat = None

    def client_checked(self, status: ClientStatus) -> None:
        """See `WorkerObserver`."""
        now = self._monotonic()
        with self._lock:
            self._beat, self._status = now, status
            if status.is_reachable:
                self._unreachable_since = None
            elif self._unreachable_since is None:
                self._unreachable_since = now
            for partition in self._offsets.keys() - status.partitions:
                del self._offsets[partition]
                self._targets.pop(partition, None)
            for partition in status.partitions & status.ends.keys():
                self._targets.setdefault(partition, status.ends[partition])
            if not self._lags(status):
                self._moved = now
            if status.is_member and not self._is_short_of(status, self._targets):
                self._caught_up = True

    def offsets_committed(self, next_offsets: Mapping[int, int]) -> None:
        """See `WorkerObserver`."""
        with self._lock:
            self._offsets |= next_offsets
            self._moved = self._monotonic()

    def call_begins(self, service: Service) -> None:
        """See `WorkerObserver`."""
        with self._lock:
            self._calls[service] = _Call(self._monotonic())

    def call_failed(self, service: Service, reason: str) -> None:
        """See `WorkerObserver`. It counts as a beat: a loop that waits between two attempts is alive."""
        with self._lock:
            self._calls.setdefault(service, _Call(self._monotonic())).reason = reason
            if self._beat is not None and service is not Service.LEDGER:
                self._beat = self._monotonic()

    def call_ended(self, service: Service) -> None:
        """See `WorkerObserver`."""
        with self._lock:
            self._calls.pop(service, None)

    @property
    def client_status(self) -> ClientStatus:
        """Kafka as this member last saw it."""
        with self._lock:
            return self._status or ClientStatus()

    @property
    def is_caught_up(self) -> bool:
        """See the class."""
        with self._lock:
            return self._caught_up

    def stuck(self) -> dict[str, float]:
        """Loops that have stalled, and for how many seconds."""
        with self._lock:
            silent = 0.0 if self._beat is None else self._monotonic() - self._beat
        return {"worker": round(silent, 1)} if silent > LOOP_SECONDS_MAX else {}

    def missing(self) -> dict[str, str]:
        """Why the consumer is not ready: a sentence for each dependency that is missing."""
        now = self._monotonic()
        with self._lock:
            found: dict[str, str] = {}
            for service, call in self._calls.items():
                if call.reason is not None:
                    found[service.value] = call.reason
                elif service in _DATABASES and now - call.since > LEDGER_SECONDS_MAX:
                    found[service.value] = f"has not answered for {now - call.since:.0f} s"
            if self._status is None:
                database = next(service.value for service in self.services if service in _DATABASES)
                found.setdefault("start", f"{database} and Kafka have not been reached yet")
            elif self._unreachable_since is not None:
                found.setdefault(Service.KAFKA.value, NO_BROKER)
            elif not self._status.is_member:
                found["partitions"] = "the group has not given out the partitions yet"
            return found

    def behind(self) -> dict[int, int]:
        """The lag of the ledger behind the end of each partition of this member, in offsets, if known."""
        with self._lock:
            return {} if self._status is None else self._lags(self._status, with_zero=True)

    def stalled_seconds(self) -> float:
        """How long the ledger has been behind without moving; 0 if it is not behind."""
        with self._lock:
            if self._status is None or not self._lags(self._status):
                return 0.0
            return self._monotonic() - self._moved

    def waiting_seconds(self) -> dict[Service, float]:
        """How long each service has been waited for; 0 if it is not."""
        now = self._monotonic()
        with self._lock:
            waiting = {service: now - call.since for service, call in self._calls.items()}
            if self._unreachable_since is not None:
                waiting[Service.KAFKA] = max(waiting.get(Service.KAFKA, 0.0), now - self._unreachable_since)
        return {service: waiting.get(service, 0.0) for service in self.services}

    def _lags(self, status: ClientStatus, *, with_zero: bool = False) -> dict[int, int]:
        """Lag by partition, of those behind; with `with_zero` also of those not behind."""
        found = {
            partition: max(status.ends[partition] - self._offsets[partition], 0)
            for partition in status.partitions & status.ends.keys() & self._offsets.keys()
        }
        return found if with_zero else {partition: behind for partition, behind in found.items() if behind}

    def _is_short_of(self, status: ClientStatus, targets: Mapping[int, int]) -> bool:
        return any(
            partition not in targets or self._offsets.get(partition, -1) < targets[partition]
            for partition in status.partitions
        )
