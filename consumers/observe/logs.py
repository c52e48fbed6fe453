"""What a long-running consumer has to tell in, one JSON object a line on stderr out, with no national id in it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

_ELEVEN_DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9]{11}(?![0-9A-Za-z])")
_MASK = "***********"


def redact(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask eleven digits that stand alone in any text of the entry: the last line of defence."""
    return {
        name: value
        if value is None or isinstance(value, bool | int | float)
        else _ELEVEN_DIGITS.sub(_MASK, str.__str__(value) if isinstance(value, str) else repr(value))
        for name, value in event.items()
    }


def configure_logs(stream: TextIO | None = None) -> None:
    """Send what is logged to `stream` (stderr) as JSON lines with `event`, `level`, `timestamp` (UTC) and details."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
