"""A client's properties in, its settings as a member of a group out; how it leaves, whether Kafka answers or not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from consumers.stream.statistics import INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer

SESSION_SECONDS = 10
LEAVE_SECONDS_MAX = 3.0


def member_settings(properties: Mapping[str, str], group_id: str) -> dict[str, Any]:
    """Of a client that is told itself where to read, and reads what was committed."""
    return {
        "session.timeout.ms": SESSION_SECONDS * 1000,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 32 * 1024,
        **properties,
        "group.id": group_id,
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "statistics.interval.ms": INTERVAL_SECONDS * 1000,
    }


def leave(consumer: Consumer, seconds_max: float = LEAVE_SECONDS_MAX) -> bool:
    """Whether it was closed in time. If not, it closes by itself once Kafka answers again, or ends with the process.

    librdkafka closes no member before each of its commits of offsets was answered, however long no answer comes: of a
    broker that is down, or refuses us since. Its callbacks may be called from another thread meanwhile.
    """
    closing = threading.Thread(target=consumer.close, name="leaving", daemon=True)
    closing.start()
    closing.join(seconds_max)
    return not closing.is_alive()
