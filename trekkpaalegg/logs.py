"""Logging: everything that a program and its libraries log, as JSON lines on stderr, with national ids masked."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from trekkpaalegg.identifiers import mask_national_ids

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

    from structlog.typing import WrappedLogger

_QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "uvicorn.error", "asyncio", "confluent_kafka")
"""Libraries that log at level INFO what we log ourselves."""


def redact(_logger: WrappedLogger, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask national ids in every text of the entry, keys included.

    This is the last line of defence, behind the types that mask themselves.
    """
    return {str(_redacted(key)): _redacted(value) for key, value in event.items()}


def _redacted(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_redacted(key): _redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(each) for each in value]
    # A Foedselsnummer is a str too, and a JSON encoder would write its digits: the pattern masks it as any other text.
    return mask_national_ids(value if isinstance(value, str) else repr(value))


def configure_logs(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Write everything that this process logs, through structlog or `logging`, to `stream` (stderr) as JSON lines.

    An entry has `event`, `level`, `logger`, `timestamp` (UTC), the fields of the call, and `exception` if there was
    one. Call it once, when a program starts; another call replaces the former configuration.
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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(capture=True)
