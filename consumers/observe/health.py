"""What the loop, Kafka and the ledger last showed in, what is missing, how far behind and since when out."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from consumers.observe.port import OF_THE_LEDGER_CONSUMER
from trekkpaalegg.kafka.health import NO_BROKER
from trekkpaalegg.kafka.subscription import Look
from trekkpaalegg.retry import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOP_SECONDS_MAX = 90.0
"""A loop that has not turned for so long is stuck. Longer than any single call that it makes."""

LEDGER_SECONDS_MAX = 15.0
"""A ledger that takes longer over one call, without refusing it, is out of reach for all that is known."""

_DATABASES = (Service.LEDGER, Service.STATE)


class _Call(msgspec.Struct):
    """A call under way: since when, and why it failed last."""

    since: float
    reason: str | None = None


class ConsumerHealth:
    """How a consumer stands, which needs `others`. Any thread may call any method; `monotonic` gives seconds.

    Alive means that the loop turns, whatever does not answer. Ready means that Kafka, group, registry and ledger are
    in order just now. Caught up means that at some time since the start the ledger had come to where each partition
    ended when this member first saw its end; it stays so.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, others: Sequence[Service] = OF_THE_LEDGER_CONSUMER
    ) -> None:
        self.others = tuple(others)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beat: float | None = None
        self._look: Look | None = None
        self._unreachable_since: float | None = None
        self._offsets: dict[int, int] = {}
        self._targets: dict[int, int] = {}
        self._calls: dict[Service, _Call] = {}
        self._moved = monotonic()
        self._caught_up = False

    def beat(self) -> None:
        """See `Observer`."""
        with self._lock:
            self._beat = self._monotonic()

    def ended(self) -> None:
        """See `Observer`."""
        with self._lock:
            self._beat = None

    def looked(self, look: Look) -> None:
        """See `Observer`."""
        now = self._monotonic()
        with self._lock:
            self._beat, self._look = now, look
            if look.is_reachable:
                self._unreachable_since = None
            elif self._unreachable_since is None:
                self._unreachable_since = now
            for partition in self._offsets.keys() - look.partitions:
                del self._offsets[partition]
                self._targets.pop(partition, None)
            for partition in look.partitions & look.ends.keys():
                self._targets.setdefault(partition, look.ends[partition])
            if not self._lags(look):
                self._moved = now
            if look.is_member and not self._is_short_of(look, self._targets):
                self._caught_up = True

    def offsets_committed(self, next_offsets: Mapping[int, int]) -> None:
        """See `Observer`."""
        with self._lock:
            self._offsets |= next_offsets
            self._moved = self._monotonic()

    def call_begins(self, service: Service) -> None:
        """See `Observer`."""
        with self._lock:
            self._calls[service] = _Call(self._monotonic())

    def call_failed(self, service: Service, reason: str) -> None:
        """See `Observer`. It is a beat too: who waits between two attempts is alive."""
        with self._lock:
            self._calls.setdefault(service, _Call(self._monotonic())).reason = reason
            if self._beat is not None and service is not Service.LEDGER:
                self._beat = self._monotonic()

    def call_ended(self, service: Service) -> None:
        """See `Observer`."""
        with self._lock:
            self._calls.pop(service, None)

    @property
    def look(self) -> Look:
        """What Kafka looked like last."""
        with self._lock:
            return self._look or Look()

    @property
    def is_caught_up(self) -> bool:
        """See the class."""
        with self._lock:
            return self._caught_up

    def stuck(self) -> dict[str, float]:
        """Loops that have stopped turning, and for how many seconds."""
        with self._lock:
            silent = 0.0 if self._beat is None else self._monotonic() - self._beat
        return {"worker": round(silent, 1)} if silent > LOOP_SECONDS_MAX else {}

    def missing(self) -> dict[str, str]:
        """What keeps the consumer from being ready, in words, by what it is."""
        now = self._monotonic()
        with self._lock:
            found: dict[str, str] = {}
            for service, call in self._calls.items():
                if call.reason is not None:
                    found[service.value] = call.reason
                elif service in _DATABASES and now - call.since > LEDGER_SECONDS_MAX:
                    found[service.value] = f"has not answered for {now - call.since:.0f} s"
            if self._look is None:
                database = next(service.value for service in self.others if service in _DATABASES)
                found.setdefault("start", f"{database} and Kafka have not been reached yet")
            elif self._unreachable_since is not None:
                found.setdefault(Service.KAFKA.value, NO_BROKER)
            elif not self._look.is_member:
                found["partitions"] = "the group has not given out the partitions yet"
            return found

    def behind(self) -> dict[int, int]:
        """For each partition of this member how many offsets the ledger is behind its end, where that is known."""
        with self._lock:
            return {} if self._look is None else self._lags(self._look, told=True)

    def stalled_seconds(self) -> float:
        """For how long the ledger has been behind without moving; 0 when it is not behind."""
        with self._lock:
            if self._look is None or not self._lags(self._look):
                return 0.0
            return self._monotonic() - self._moved

    def waiting_seconds(self) -> dict[Service, float]:
        """For how long each has been waited for; 0 for what is not."""
        now = self._monotonic()
        with self._lock:
            waiting = {service: now - call.since for service, call in self._calls.items()}
            if self._unreachable_since is not None:
                waiting[Service.KAFKA] = max(waiting.get(Service.KAFKA, 0.0), now - self._unreachable_since)
        return {service: waiting.get(service, 0.0) for service in self.others}

    def _lags(self, look: Look, *, told: bool = False) -> dict[int, int]:
        """Partitions that are behind; with `told` those too that are not."""
        found = {
            partition: max(look.ends[partition] - self._offsets[partition], 0)
            for partition in look.partitions & look.ends.keys() & self._offsets.keys()
        }
        return found if told else {partition: behind for partition, behind in found.items() if behind}

    def _is_short_of(self, look: Look, targets: Mapping[int, int]) -> bool:
        return any(
            partition not in targets or self._offsets.get(partition, -1) < targets[partition]
            for partition in look.partitions
        )
