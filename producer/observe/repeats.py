"""librdkafka's log lines in; each kind once in a while out, with how many like it came meanwhile.

While a broker is away it tells of every try to connect, some twenty a second for each client.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATED_SECONDS = 30.0
KINDS_MAX = 1000
_LOGGER = "librdkafka"
_VARYING = re.compile(r" \(after [0-9]+ms in state .*$")


class Repeats(logging.Filter):
    """Lets a line pass when none like it has for `REPEATED_SECONDS`. Lines that differ in a duration are alike."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._passed: dict[str, tuple[float, int]] = {}
        """When a line of this kind last passed, and how many have been kept back since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        if record.name != _LOGGER:
            return True
        told = record.getMessage()
        kind = _VARYING.sub("", told)
        now = self._now()
        passed_at, kept_back = self._passed.get(kind, (-REPEATED_SECONDS, 0))
        if now - passed_at < REPEATED_SECONDS:
            self._passed[kind] = (passed_at, kept_back + 1)
            return False
        if len(self._passed) >= KINDS_MAX:
            self._passed.clear()
        self._passed[kind] = (now, 0)
        if kept_back:
            record.msg, record.args = f"{told} ({kept_back} more like it since the last)", None
        return True
