"""What librdkafka logs in, the same log out; and which connections were lost: to the coordinator, to any broker.

librdkafka sends a request again over a new connection when the old one is lost, and tells of it in its log alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_COORDINATOR_THREAD = "[thrd:TxnCoordinator]"
_LOST = frozenset({"FAIL", "REQTMOUT"})
"""librdkafka's names of log lines: a connection has failed, a request was not answered in time."""

LOGGED: dict[str, str] = {"log_level": "6", "log.connection.close": "true"}
"""The properties of a client under which every lost connection is logged (librdkafka, CONFIGURATION.md)."""


class CoordinatorLog:
    """To be a producer's `logger`. It is told when the producer is polled, so poll before asking."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.has_lost_connection = False
        self.has_lost_broker = False

    def log(self, level: int, message: str, *arguments: object) -> None:
        """What confluent-kafka calls: the first argument is the name of the line, the last its text."""
        self._log.log(level, message, *arguments)
        if arguments and arguments[0] in _LOST:
            self.has_lost_broker = True
            if str(arguments[-1]).startswith(_COORDINATOR_THREAD):
                self.has_lost_connection = True

    def forget(self) -> None:
        """Nothing was lost from now on."""
        self.has_lost_connection = self.has_lost_broker = False
