"""When transactions can be left hanging: lost connections to the coordinator, and a cluster with a single broker.

librdkafka sends a request again over a new connection when the old one is lost, and tells of it in its log alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are not in its __all__
    ConfigResource,
    ResourceType,
)

from trekkpaalegg.errors import KafkaSettingsError
from trekkpaalegg.kafka.clients import create_admin_client

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping


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


CALL_SECONDS_MAX = 5.0
HANDS_OVER = "controlled.shutdown.enable"
WARNING = (
    f"the only broker hands over before it ends, and Kafka leaves out the ends of transactions meanwhile, so that "
    f"events hang until their lane is taken anew: set {HANDS_OVER}=false there, or stop the producers before it"
)


def lone_broker_warnings(properties: Mapping[str, str]) -> list[str]:
    """A sentence where the cluster has one broker, and that hands over; none where we may not see its configuration.

    Source: seen with Kafka 4.3.1; `producer/DESIGN.md`, "When Kafka leaves markers out".
    """
    settings: dict[str, Any] = {**properties, "socket.timeout.ms": str(int(CALL_SECONDS_MAX * 1000))}
    try:
        client = create_admin_client(settings)
        brokers = client.list_topics(timeout=CALL_SECONDS_MAX).brokers
        if len(brokers) != 1:
            return []
        asked = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
        found = client.describe_configs([asked], request_timeout=CALL_SECONDS_MAX)[asked].result()
    except (KafkaException, KafkaSettingsError):
        return []
    return [WARNING] if HANDS_OVER in found and found[HANDS_OVER].value == "true" else []
