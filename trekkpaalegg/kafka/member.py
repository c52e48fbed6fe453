"""The client of a member of a consumer group: its settings, and leaving the group in time.

The classic protocol and not KIP-848's: after a kill the new protocol took 45 s to assign the partitions again, and it
refuses a static id that is still in use. Rebalances are cooperative: partitions that stay with a member are not
interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trekkpaalegg.kafka.clients import UnansweredError, call_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer

SESSION_TIMEOUT_SECONDS = 10
LEAVE_SECONDS_MAX = 3.0

CLASSIC = {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky"}
_NEW = {"group.protocol": "consumer", "group.remote.assignor": "uniform"}
_CLASSIC_TIMES = {"session.timeout.ms": SESSION_TIMEOUT_SECONDS * 1000, "heartbeat.interval.ms": 3000}


def member_settings(properties: Mapping[str, Any], group_id: str, instance_id: str | None) -> dict[str, Any]:
    """The settings of a member that commits offsets itself. `group.protocol` in the properties chooses the protocol.

    With an `instance_id` its membership is static, so that a restart within the session time moves nothing.
    """
    defaults = _NEW if properties.get("group.protocol") == "consumer" else CLASSIC | _CLASSIC_TIMES
    settings = {**defaults, **properties, "group.id": group_id, "enable.auto.commit": False}
    if instance_id:
        settings["group.instance.id"] = instance_id
    return settings


def leave(consumer: Consumer) -> bool:
    """Leave the group; whether the consumer was closed in time. If not, it closes once Kafka answers again.

    librdkafka waits without limit for the answer to every commit of offsets before it closes a member: also of a broker
    that is down, or refuses the client since. Callbacks may be called from another thread meanwhile.
    """
    try:
        call_bounded(consumer.close, LEAVE_SECONDS_MAX, name="leaving")
    except UnansweredError:
        return False
    return True
