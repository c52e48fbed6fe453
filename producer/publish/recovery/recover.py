"""Recovers a lane when it is acquired, and checks while it runs whether its last transaction is hanging."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]  # it is not in its __all__

from producer.errors import OutcomeUnknownError
from producer.publish.recovery.abort import abort_hanging, transact
from producer.publish.recovery.audit import Audit, read_last_transaction
from producer.publish.recovery.hanging import find_hanging
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError
from trekkpaalegg.kafka.admin import Admin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Producer

    from producer.domain.state import LaneState
    from producer.observe.port import Observer
    from producer.publish.topics import Topics

CHECK_INTERVAL_SECONDS = 10.0
CHECK_ANSWER_SECONDS_MAX = 1.0
"""The lane does nothing else during a check, which is in vain while no broker answers."""


class LaneRecovery:
    """Deals with the hanging transactions of one lane. Used by the lane's thread only."""

    def __init__(self, properties: Mapping[str, str], topics: Topics, lane: int, observer: Observer) -> None:
        self._properties = properties
        self._topics = topics
        self._lane = lane
        self._observer = observer
        self._checked_at = float("-inf")

    def recover(self, producer: Producer) -> LaneState:
        """The lane's state, once nothing of the lane is hanging and its events agree with it.

        `producer` has just fenced all former owners, and has no transaction open. Raises `RetryableError` if that
        cannot be done now, `LaneFencedError` if another instance has acquired the lane.
        """
        found, since = abort_hanging(producer, self._properties, self._topics, self._lane, self._observer)
        state, last = read_last_transaction(self._properties, self._topics.positions, self._lane, since)
        if last is not None:
            records = Audit(self._properties, self._topics, self._lane, found, last).repair(state)
            if records:
                transact(producer, self._lane, records, commit=True)
                self._observer.records_recovered("incomplete", len(records))
        return state

    def check(self) -> None:
        """Return if nothing of the lane is hanging. Call it after a broker was lost, with no transaction open.

        Raises `OutcomeUnknownError` if the last transaction is hanging: acquire the lane again, which recovers it.
        Raises `RetryableError` if that cannot be found out now.
        """
        self._checked_at = time.monotonic()
        if find_hanging(self._properties, self._topics, self._lane, CHECK_ANSWER_SECONDS_MAX).hanging:
            raise OutcomeUnknownError(f"the last transaction of lane {self._lane} is hanging: acquiring the lane again")

    def check_when_idle(self) -> bool:
        """As `check`, at most every ten seconds. Whether the check was made and found nothing."""
        if time.monotonic() - self._checked_at < CHECK_INTERVAL_SECONDS:
            return False
        try:
            self.check()
        except RetryableError:
            return False
        return True


CALL_SECONDS_MAX = 5.0
HANDS_OVER = "controlled.shutdown.enable"
WARNING = (
    f"the only broker hands over its partitions before it stops, and Kafka skips transaction markers meanwhile; such "
    f"transactions hang until their lane is acquired again: set {HANDS_OVER}=false there, or stop the producers first"
)


def single_broker_warnings(properties: Mapping[str, str]) -> list[str]:
    """A warning if the cluster has one broker with controlled shutdown; none if its configuration cannot be read.

    Source: observed with Kafka 4.3.1; see `producer/DESIGN.md`, "When Kafka leaves markers out".
    """
    try:
        admin = Admin(properties, seconds_max=CALL_SECONDS_MAX)
        brokers = admin.metadata().brokers
        if len(brokers) != 1:
            return []
        number = str(next(iter(brokers)))
        config = admin.configs(ResourceType.BROKER, [number])[number] or {}
    except (RetryableError, FatalError, SettingsError):
        return []
    return [WARNING] if config.get(HANDS_OVER) == "true" else []
