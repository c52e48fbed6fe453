"""Explains why Kafka accepts no writes: brokers down, disks full, too few replicas in sync; and the remedy.

librdkafka reports of a failed write only that it timed out, and not what the brokers answered meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]  # it is not in its __all__

from producer.errors import AbortedError, OutcomeUnknownError
from trekkpaalegg.errors import FatalError, KafkaSettingsError, RefusedError, RetryableError
from trekkpaalegg.kafka.admin import Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from producer.domain.state import LaneState
    from producer.publish.port import LanePublisher, Record


UNANSWERED = (
    "no Kafka broker answers: check that the brokers run, that there is room on their disks, and that "
    "KAFKA_BROKERS is right"
)


class Replicas(msgspec.Struct, frozen=True):
    """A partition: whether it has a leader, how many replicas are in sync, and how many a write needs."""

    topic: str
    has_leader: bool
    in_sync: int
    in_sync_min: int


def standstill_of(partitions: Iterable[Replicas]) -> str | None:
    """Why writes fail, and the remedy; None if all partitions can be written to."""
    leaderless: set[str] = set()
    short: dict[str, Replicas] = {}
    for each in partitions:
        if not each.has_leader:
            leaderless.add(each.topic)
        elif each.in_sync < each.in_sync_min:
            worst = short.get(each.topic)
            if worst is None or each.in_sync < worst.in_sync:
                short[each.topic] = each
    problems = []
    if leaderless:
        problems.append(
            f"no broker leads all of {', '.join(sorted(leaderless))}: check the broker's disk, make room if it is "
            "full, and start the brokers that are down"
        )
    problems += [
        f"{topic} accepts no writes with {each.in_sync} replicas in sync, as its min.insync.replicas is "
        f"{each.in_sync_min}: start the brokers that are down, or lower the setting"
        for topic, each in sorted(short.items())
    ]
    return "; ".join(problems) or None


CALL_SECONDS_MAX = 2.0
_IN_SYNC_MIN = "min.insync.replicas"
_INTERNAL = ("__consumer_offsets", "__transaction_state")


def find_standstill(properties: Mapping[str, str], topics: Iterable[str]) -> str | None:
    """Why transactions over these topics fail, and the remedy; None if no reason is found or visible to us."""
    try:
        admin = Admin(properties, seconds_max=CALL_SECONDS_MAX)
        found = admin.metadata()
    except (RetryableError, KafkaSettingsError):
        return UNANSWERED
    names = [name for name in (*topics, *_INTERNAL) if name in found.topics]
    minima = _minima(admin, names)
    return standstill_of(
        Replicas(name, partition.leader in found.brokers, len(partition.isrs), minima.get(name, 1))
        for name in names
        for partition in found.topics[name].partitions.values()
    )


def _minima(admin: Admin, topics: list[str]) -> dict[str, int]:
    """How many replicas in sync a write needs, for the topics whose configuration we may read."""
    try:
        configs = admin.configs(ResourceType.TOPIC, topics)
    except (RetryableError, FatalError):
        return {}
    return {name: int(config[_IN_SYNC_MIN]) for name, config in configs.items() if config and _IN_SYNC_MIN in config}


ABORTED_SECONDS_MIN = 5.0
"""A transaction that is aborted sooner was aborted because the group reassigns the lane, not because writes fail."""


class ExplainedPublisher:
    """Adds the reason to errors of `publisher`. `explain` asks Kafka for it, in the lane's thread.

    It is asked once the error is handled: see `trekkpaalegg.kafka.clients`.
    """

    def __init__(self, publisher: LanePublisher, explain: Callable[[], str | None]) -> None:
        self._publisher = publisher
        self._explain = explain

    def acquire(self, is_stopping: Callable[[], bool] = lambda: False) -> LaneState:
        """See `LanePublisher.acquire`."""
        try:
            return self._publisher.acquire(is_stopping)
        except RefusedError:
            raise
        except RetryableError as error:
            if is_stopping():
                raise
            failed = error
        raise RetryableError(self._explained(failed), retry_after_seconds=failed.retry_after_seconds) from failed

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """See `LanePublisher.publish`."""
        began = time.monotonic()
        failed: OutcomeUnknownError | AbortedError
        try:
            self._publisher.publish(records, signal_offset)
        except OutcomeUnknownError as error:
            failed = error
        except AbortedError as error:
            if time.monotonic() - began < ABORTED_SECONDS_MIN:
                raise
            failed = error
        else:
            return
        raise type(failed)(self._explained(failed)) from failed

    def check(self) -> None:
        """See `LanePublisher.check`."""
        self._publisher.check()

    def close(self) -> None:
        """See `LanePublisher.close`."""
        self._publisher.close()

    def _explained(self, error: Exception) -> str:
        reason = self._explain()
        return str(error) if reason is None else f"{error}: {reason}"
