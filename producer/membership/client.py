"""What Kafka's consumer group protocol asks of a member's client: its settings, how it leaves, what its end means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from producer.connection.bounded import UnansweredError, bounded
from producer.errors import FatalError, FencedError

if TYPE_CHECKING:
    from confluent_kafka import Consumer

SESSION_TIMEOUT_SECONDS = 10.0
LEAVE_SECONDS_MAX = 3.0
_SAME_INSTANCE = (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)


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


def put_out(error: KafkaError) -> FatalError:
    """What a consumer that has failed for good means. It says so once, as `_FATAL` with the cause in its text alone."""
    if any(error.code() == code or KafkaError(code).str() in error.str() for code in _SAME_INSTANCE):
        return FencedError(
            "another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own; "
            "if there is none, the group's broker has failed and took us for two: start it again"
        )
    return FatalError(f"the group of workers cannot be joined: {error.str()}")
