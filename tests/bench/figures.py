"""Measure what a piece of work costs: wall time, CPU seconds of this process with all its threads, memory."""

from __future__ import annotations

import gc
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

PER_VERSIONS = 100_000
_STATUS_FILE = Path("/proc/self/status")


class Figures(msgspec.Struct, frozen=True):
    """What one case cost. `cpu_seconds` is user and system time of the process, librdkafka's threads included.

    `wall_seconds` counts from the first call or record to the last commit; `before_bytes`, `after_bytes` and
    `peak_bytes` are resident memory, None where the system does not tell. `rows_digest` stands for all rows that a
    ledger was filled with, where one was.
    """

    case: str
    versions: int
    orders: int
    wall_seconds: float
    cpu_seconds: float
    before_bytes: int | None
    after_bytes: int | None
    peak_bytes: int | None
    rows_digest: str | None = None

    @property
    def versions_a_second(self) -> float:
        return self.versions / self.wall_seconds

    @property
    def versions_a_cpu_second(self) -> float:
        return self.versions / self.cpu_seconds

    @property
    def cpu_seconds_a_100_000(self) -> float:
        return self.cpu_seconds * PER_VERSIONS / self.versions

    @property
    def grown_bytes_an_order(self) -> float | None:
        if self.after_bytes is None or self.before_bytes is None:
            return None
        return (self.after_bytes - self.before_bytes) / self.orders


class Stopwatch:
    """From the first to the last time that something happened."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def touch(self) -> None:
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last

    @property
    def seconds(self) -> float:
        return self._last - (self._first or 0.0)


def measured(case: str, work: Callable[[], tuple[int, int, float]]) -> Figures:
    """Run `work`, which returns versions, orders and wall seconds. What it keeps alive counts as grown memory."""
    gc.collect()
    before_bytes = _status_bytes("VmRSS")
    started = cpu_seconds()
    versions, orders, wall_seconds = work()
    used = cpu_seconds() - started
    gc.collect()
    return Figures(
        case, versions, orders, wall_seconds, used, before_bytes, _status_bytes("VmRSS"), _status_bytes("VmHWM")
    )


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    return time.process_time()


def cpu_seconds_of(pid: int) -> float:
    """User and system time of another process so far; 0 where the system does not tell."""
    file = Path(f"/proc/{pid}/stat")
    if not file.exists():
        return 0.0
    fields = file.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """Resident memory of this process now; 0 where the system does not tell."""
    return _status_bytes("VmRSS") or 0


def peak_bytes() -> int:
    """Resident memory of this process at its highest; 0 where the system does not tell."""
    return _status_bytes("VmHWM") or 0


def _status_bytes(line: str) -> int | None:
    """`VmRSS` now, `VmHWM` at its highest."""
    if not _STATUS_FILE.exists():
        return None
    found = re.search(rf"^{line}:\s+(\d+) kB", _STATUS_FILE.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
