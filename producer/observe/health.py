"""The producer's health: heartbeats of its loops, and whether its dependencies are ready."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP_SECONDS_MAX = 90.0
"""After this time without a beat a loop has stalled. Longer than any single call that it makes."""


class ProducerHealth:
    """What `/livez` and `/readyz` report. Any thread may call any method.

    Alive means that no loop has stalled: a source or a Kafka that does not answer must not restart the process.
    Ready means that every dependency that was reported is in order right now.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beats: dict[str, tuple[float, float]] = {}
        self._unready: dict[str, str | None] = {}

    def heartbeat(self, name: str, limit_seconds: float) -> Callable[[], None]:
        """Watch a loop from now on: it must call the returned function at least every `limit_seconds`."""

        def beat() -> None:
            with self._lock:
                self._beats[name] = (self._monotonic(), limit_seconds)

        beat()
        return beat

    def unwatch(self, name: str) -> None:
        """Stop watching a loop that has ended normally."""
        with self._lock:
            self._beats.pop(name, None)

    def set_ready(self, name: str, missing: str | None = None) -> None:
        """Set what is missing of a dependency, in words; None when it is ready."""
        with self._lock:
            self._unready[name] = missing

    def stuck(self) -> dict[str, float]:
        """Loops that have stalled, and for how many seconds."""
        now = self._monotonic()
        with self._lock:
            return {name: round(now - at, 1) for name, (at, limit) in self._beats.items() if now - at > limit}

    def missing(self) -> dict[str, str]:
        """Why the process is not ready: a sentence for each dependency that is missing."""
        with self._lock:
            return {name: missing for name, missing in self._unready.items() if missing is not None}


class HealthLoopObserver:
    """Reports to `ProducerHealth` which loops run, and whether the assigned lanes have been acquired."""

    def __init__(self, health: ProducerHealth) -> None:
        self._health = health
        self._beats: dict[str, Callable[[], None]] = {}
        health.set_ready("start", "Kafka, topics and registry have not been reached yet")

    def beat(self, loop: str) -> None:
        """See `producer.service.LoopObserver`."""
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = self._health.heartbeat(loop, LOOP_SECONDS_MAX)
        beat()

    def ended(self, loop: str) -> None:
        """See `producer.service.LoopObserver`."""
        self._beats.pop(loop, None)
        self._health.unwatch(loop)

    def ready(self, what: str, missing: str | None) -> None:
        """See `producer.service.LoopObserver`."""
        self._health.set_ready(what, missing)
