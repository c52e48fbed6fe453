"""Handle each event exactly once: your own writes and Kafka's offsets commit in one SQL transaction.

`ExactlyOnce` is the way in; `docs/exactly-once.md` explains it. Importing this package imports neither Kafka's client
nor SQLAlchemy, until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trekkpaalegg.exactly_once.consumer import ExactlyOnce
    from trekkpaalegg.exactly_once.retry import RetryOutcome
    from trekkpaalegg.exactly_once.store import StoreTables, define_tables
    from trekkpaalegg.exactly_once.worker import Tally
    from trekkpaalegg.incoming import IncomingEvent

__all__ = ["ExactlyOnce", "IncomingEvent", "RetryOutcome", "StoreTables", "Tally", "define_tables"]

_MODULES = {
    "ExactlyOnce": "exactly_once.consumer",
    "IncomingEvent": "incoming",
    "RetryOutcome": "exactly_once.retry",
    "StoreTables": "exactly_once.store",
    "Tally": "exactly_once.worker",
    "define_tables": "exactly_once.store",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the names above
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trekkpaalegg.{_MODULES[name]}"), name)
