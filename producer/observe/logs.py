"""Log calls of ours and of the libraries in, one JSON object a line on a stream out, with no national id in it."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

from producer.observe.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

    from structlog.typing import WrappedLogger

_ELEVEN_DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9]{11}(?![0-9A-Za-z])")
_MASK = "***********"
_QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "uvicorn.error", "asyncio", "confluent_kafka")
"""Libraries that tell on level INFO what we tell ourselves."""


def redact(_logger: WrappedLogger, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask eleven digits that stand alone in any text of the entry, keys included.

    The last line of defence: types that mask themselves come before it. Digits beside a letter are left, so that
    the last group of a UUID stays whole.
    """
    return {str(_redacted(key)): _redacted(value) for key, value in event.items()}


def _redacted(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_redacted(key): _redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(each) for each in value]
    # A Foedselsnummer is a str whose digits a JSON encoder would write: it goes by the pattern as any other.
    return _ELEVEN_DIGITS.sub(_MASK, value if isinstance(value, str) else repr(value))


def configure_logs(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send everything logged in this process, through structlog or `logging`, to `stream` (stderr) as JSON lines.

    The entry's fields come from the call: `event`, `level`, `logger`, `timestamp` (UTC), and `exception` where there
    was one. Call it once, at the start of a program; calling it again replaces what was before.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(capture=True)
