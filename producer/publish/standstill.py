"""Kafka properties and topics in, why nothing can be written to them just now out; it asks Kafka, and is never long.

librdkafka tells of a write that failed only that its time ran out: what brokers answered meanwhile it keeps to itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from producer.publish.replicas import UNANSWERED, Replicas, standstill_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CALL_SECONDS_MAX = 2.0
_IN_SYNC_MIN = "min.insync.replicas"
_INTERNAL = ("__consumer_offsets", "__transaction_state")
_LOGGER = logging.getLogger(f"{__name__}.librdkafka")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


def find_standstill(properties: Mapping[str, str], topics: Iterable[str]) -> str | None:
    """Why transactions over these topics fail, in words; None when nothing speaks against them, or may not be seen."""
    settings: dict[str, Any] = {**properties, "socket.timeout.ms": str(int(CALL_SECONDS_MAX * 1000))}
    try:
        client = AdminClient(settings, logger=_LOGGER)
        found = client.list_topics(timeout=CALL_SECONDS_MAX)
    except KafkaException:
        return UNANSWERED
    names = [name for name in (*topics, *_INTERNAL) if name in found.topics]
    minima = _minima(client, names)
    return standstill_of(
        Replicas(name, partition.leader in found.brokers, len(partition.isrs), minima.get(name, 1))
        for name in names
        for partition in found.topics[name].partitions.values()
    )


def _minima(client: AdminClient, topics: list[str]) -> dict[str, int]:
    """How many replicas a write needs, of the topics that tell us."""
    asked = {name: ConfigResource(ResourceType.TOPIC, name) for name in topics}
    minima = {}
    answers = client.describe_configs(list(asked.values()), request_timeout=CALL_SECONDS_MAX) if asked else {}
    for name, resource in asked.items():
        try:
            minima[name] = int(answers[resource].result()[_IN_SYNC_MIN].value)
        except (KafkaException, KeyError):
            continue
    return minima
