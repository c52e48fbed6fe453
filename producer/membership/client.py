"""What Kafka's consumer group protocol asks of a member's client: its settings in, and how it leaves."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from producer.connection.bounded import UnansweredError, bounded

if TYPE_CHECKING:
    from confluent_kafka import Consumer

SESSION_TIMEOUT_SECONDS = 10.0
LEAVE_SECONDS_MAX = 3.0


def protocol(name: str) -> dict[str, str]:
    """The settings of this `group.protocol`."""
    if name == "consumer":
        return {"group.protocol": "consumer", "group.remote.assignor": "uniform"}
    return {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": str(int(SESSION_TIMEOUT_SECONDS * 1000)),
        "heartbeat.interval.ms": "3000",
    }


def leave(consumer: Consumer) -> None:
    """Leave the group, within seconds: Kafka may owe an answer, for which librdkafka would wait for ever."""
    with contextlib.suppress(UnansweredError):
        bounded(consumer.close, LEAVE_SECONDS_MAX)
