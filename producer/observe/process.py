"""What health and settings say of this process in, figures for Prometheus out: what alerts compare the others with."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
