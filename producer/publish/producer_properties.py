"""The properties of our connection to Kafka and a lane's own in, those of its librdkafka producer out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producer.publish.coordinator_log import LOGGED

if TYPE_CHECKING:
    from collections.abc import Mapping

TRANSACTION_TIMEOUT_SECONDS = 15
"""An open transaction hides the commits of others on its partitions, so it must not stay open for long."""


def producer_properties(properties: Mapping[str, str], transactional_id: str, batch_bytes_max: int) -> dict[str, Any]:
    """Librdkafka properties of a lane's producer; the last seven the guarantee rests on, so the user's do not count.

    Compressed with lz4: headers and ids repeat, so about a quarter is left for disks and network, at no CPU time that
    could be measured. A commit does not wait for `linger.ms`, which only keeps the batches of a long transaction full.

    While the markers of one transaction are being written, some milliseconds, Kafka refuses to add offsets to the next.
    librdkafka asks again after `retry.backoff.ms`, then after twice that; its own 100 ms would be most of the time that
    a notified change takes where two follow each other (confluentinc/confluent-kafka-python#967, seen with 2.16.0).

    Without `metadata.recovery.strategy` a restart of all brokers makes librdkafka forget them, and sending the offsets
    then waits for ever for the forgotten coordinator (confluentinc/librdkafka#5511, seen with 2.16.0).
    """
    return {
        "metadata.recovery.strategy": "none",
        "linger.ms": "5",
        "retry.backoff.ms": "4",
        "compression.type": "lz4",
        "queue.buffering.max.messages": "1000000",
        "batch.size": str(batch_bytes_max),
        **properties,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": str(TRANSACTION_TIMEOUT_SECONDS * 1000),
        **LOGGED,
        "partitioner": "murmur2_random",
        "delivery.report.only.error": True,
    }
