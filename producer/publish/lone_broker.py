"""Kafka properties in, what stopping a cluster's only broker may do to transactions out; it asks Kafka."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_SECONDS_MAX = 5.0
HANDS_OVER = "controlled.shutdown.enable"
WARNING = (
    f"the only broker hands over before it ends, and Kafka leaves out the ends of transactions meanwhile, so that "
    f"events hang until their lane is taken anew: set {HANDS_OVER}=false there, or stop the producers before it"
)
_LOGGER = logging.getLogger(f"{__name__}.librdkafka")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


def lone_broker_warnings(properties: Mapping[str, str]) -> list[str]:
    """A sentence where the cluster has one broker, and that hands over; none where we may not see its configuration.

    Source: seen with Kafka 4.3.1; `producer/DESIGN.md`, "When Kafka leaves markers out".
    """
    settings: dict[str, Any] = {**properties, "socket.timeout.ms": str(int(CALL_SECONDS_MAX * 1000))}
    try:
        client = AdminClient(settings, logger=_LOGGER)
        brokers = client.list_topics(timeout=CALL_SECONDS_MAX).brokers
        if len(brokers) != 1:
            return []
        asked = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
        found = client.describe_configs([asked], request_timeout=CALL_SECONDS_MAX)[asked].result()
    except KafkaException:
        return []
    return [WARNING] if HANDS_OVER in found and found[HANDS_OVER].value == "true" else []
