"""`run`: the service, from its start until a signal stops it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from producer import bootstrap
from producer.cli import example, settings_of
from producer.observe.health import HealthLoopObserver, ProducerHealth
from producer.observe.prometheus import PrometheusObserver
from producer.settings.model import ALL_NEEDS
from trekkpaalegg.cli import (
    STOP_SECONDS_MAX,
    EnvFile,
    ExitCode,
    freeze_imported_modules,
    run_interruptible,
    stopped_by_signals,
)
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    import typer

    from producer.observe.port import Observer
    from producer.settings.model import Settings

_log = structlog.get_logger(__name__)


def run_service(settings: Settings) -> ExitCode:
    """Publish until SIGTERM or Ctrl-C. Raises `FatalError` if it cannot continue."""
    configure_logs(level="INFO")
    freeze_imported_modules()

    def on_signal(number: int) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        # A commit that hangs blocks its thread in librdkafka, so a timer ends the process.
        watchdog = threading.Timer(STOP_SECONDS_MAX, _end_now)
        watchdog.daemon = True
        watchdog.start()

    observer, health = PrometheusObserver(), ProducerHealth()
    with (
        stopped_by_signals(on_signal) as stopping,
        bootstrap.build_health_server(settings, observer, health) as server,
    ):
        _log.info("started", http_port=server.port, application_id=settings.application_id, source=settings.source)
        service = bootstrap.build_service(settings, observer, stopping, HealthLoopObserver(health))
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
        bootstrap.open_signal_log(settings) as signals,
        bootstrap.build_receiver(settings, served, signals, observer) as server,
    ):
        _log.info("receiving notifications", webhook_port=server.port)
        yield


def _end_now() -> None:
    _log.error("a transaction did not end in time; the next owner of the lane aborts it by fencing")
    os._exit(ExitCode.STOPPED)


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.command(epilog=example("run"))(run)


def run(*, env_file: EnvFile = None) -> int:
    """Run the service, which publishes new versions until SIGTERM stops it, cleanly and within ten seconds."""
    return run_service(settings_of(env_file, ALL_NEEDS | {"receiver"}))
