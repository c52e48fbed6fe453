"""`run`: the service, from its start until a signal stops it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from producer import bootstrap
from producer.observe.health import ProducerHealth
from producer.observe.prometheus import PrometheusObserver
from producer.service import ProducerService
from trekkpaalegg.cli import STOP_SECONDS_MAX, ExitCode, run_interruptible, stopped_by_signals
from trekkpaalegg.http import HealthServer
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from producer.observe.port import Observer
    from producer.settings.model import Settings

LOOP_SECONDS_MAX = 90.0
"""After this time without a beat a loop has stalled. Longer than any single call that it makes."""

_log = structlog.get_logger(__name__)


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


def run_service(settings: Settings) -> ExitCode:
    """Publish until SIGTERM or Ctrl-C. Raises `FatalError` if it cannot go on."""
    configure_logs(level="INFO")

    def on_signal(number: int) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        # A commit that hangs blocks its thread in librdkafka, so a timer ends the process.
        watchdog = threading.Timer(STOP_SECONDS_MAX, _end_now)
        watchdog.daemon = True
        watchdog.start()

    observer, health = PrometheusObserver(), ProducerHealth()
    pull_interval_seconds = settings.pull_interval_seconds if settings.pulls else None
    observer.observe_process(health, settings.poll_interval_seconds, pull_interval_seconds)
    host, port = settings.http_host, settings.http_port
    with (
        stopped_by_signals(on_signal) as stopping,
        HealthServer(health, observer.exposition, host=host, port=port, setting="TREKKPAALEGG_HTTP_PORT") as server,
    ):
        _log.info("started", http_port=server.port, application_id=settings.application_id, source=settings.source)
        service = ProducerService(settings, observer, HealthLoopObserver(health), stopping)
        with _receiving(settings, service.served, observer):
            run_interruptible(service.run, stopping)
    _log.info("stopped")
    return ExitCode.DONE


@contextmanager
def _receiving(settings: Settings, served: Container[str], observer: Observer) -> Iterator[None]:
    """Run the receiver of notifications if the settings ask for it. Raises `SettingsError` if its port is in use."""
    if not settings.receives:
        yield
        return
    with (
        bootstrap.build_signal_log(settings) as signals,
        bootstrap.build_receiver(settings, served, signals, observer) as server,
    ):
        _log.info("receiving notifications", webhook_port=server.port)
        yield


def _end_now() -> None:
    _log.error("a transaction did not end in time; the next owner of the lane aborts it by fencing")
    os._exit(ExitCode.STOPPED)
