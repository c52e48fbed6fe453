"""Recovers a lane when it is acquired, and checks while it runs whether its last transaction is hanging."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]  # it is not in its __all__

from producer.errors import LaneFencedError, OutcomeUnknownError
from producer.publish.recovery.audit import audit
from producer.publish.recovery.events import copy_of
from producer.publish.recovery.hanging import find_hanging
from producer.publish.transaction import Step, TransactionError, Verdict, judge
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Producer

    from producer.domain.state import LaneState
    from producer.observe.port import Observer
    from producer.publish.port import Record
    from producer.publish.recovery.hanging import Found
    from producer.publish.topics import Topics

TRANSACTION_SECONDS_MAX = 20.0
QUEUE_FULL_WAIT_SECONDS = 0.1
CHECK_INTERVAL_SECONDS = 10.0
CHECK_ANSWER_SECONDS_MAX = 1.0
"""The lane does nothing else during a check, which is in vain while no broker answers."""

_log = structlog.get_logger(__name__)


class LaneRecovery:
    """Deals with the hanging transactions of one lane. Used by the lane's thread only."""

    def __init__(self, properties: Mapping[str, str], topics: Topics, lane: int, observer: Observer) -> None:
        self._properties = properties
        self._topics = topics
        self._lane = lane
        self._observer = observer
        self._checked_at = float("-inf")

    def recover(self, producer: Producer, check_state: Callable[[LaneState], None] = lambda _: None) -> LaneState:
        """The lane's state, once nothing of the lane is hanging and its events agree with it. See the package.

        `producer` has just fenced all former owners, and has no transaction open. `check_state` raises if the state is
        not ours, before anything is corrected. Raises `RetryableError` if that cannot be done now, `LaneFencedError` if
        another instance has acquired the lane.
        """
        topics, found = self._topics, self._find()
        hanging, records = found.hanging, sum(map(len, found.hanging.values()))
        if hanging:
            _log.warning(
                "hanging transactions: all replicas of partitions were down; aborting them",
                lane=self._lane,
                records=records,
                topics=sorted(hanging),
            )
        if topics.positions in hanging:
            transact(producer, self._lane, [copy_of(hanging[topics.positions][-1])], commit=True)
        if topics.gjeldende in hanging:
            transact(producer, self._lane, [copy_of(hanging[topics.gjeldende][0])], commit=False)
        state, corrections = audit(self._properties, topics, self._lane, found)
        check_state(state)
        if corrections:
            transact(producer, self._lane, corrections, commit=True)
            self._observer.records_recovered("incomplete", len(corrections))
        aborted = [copy_of(hanging[topic][0]) for topic in (topics.versjoner, topics.quarantine) if topic in hanging]
        if aborted:
            transact(producer, self._lane, aborted, commit=False)
        if hanging:
            if self._find().hanging:
                raise RetryableError(
                    f"lane {self._lane} cannot be acquired: its hanging transactions do not end with the next ones"
                )
            self._observer.records_recovered("hanging", records)
        return state

    def check(self) -> None:
        """Return if nothing of the lane is hanging. Call it after a broker was lost, with no transaction open.

        Raises `OutcomeUnknownError` if the last transaction is hanging: acquire the lane again, which recovers it.
        Raises `RetryableError` if that cannot be found out now.
        """
        self._checked_at = time.monotonic()
        if self._find(CHECK_ANSWER_SECONDS_MAX).hanging:
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

    def _find(self, answer_seconds_max: float = CALL_SECONDS_MAX) -> Found:
        return find_hanging(self._properties, self._topics, self._lane, answer_seconds_max)


def transact(producer: Producer, lane: int, records: Iterable[Record], *, commit: bool = True) -> None:
    """Write these records in a transaction of their own, outside of the lane's loop, and commit or abort it.

    Its marker also ends what hangs in the partitions of these records. Raises `RetryableError` if it did not end so, or
    may not have: acquire the lane again. `LaneFencedError` if another instance has acquired it.
    """
    try:
        producer.begin_transaction()
        for record in records:
            while True:
                try:
                    producer.produce(
                        record.topic, record.value, record.key, record.partition, headers=dict(record.headers)
                    )
                    break
                except BufferError:
                    producer.poll(QUEUE_FULL_WAIT_SECONDS)
        if commit:
            producer.commit_transaction(TRANSACTION_SECONDS_MAX)
        else:
            # Kafka ends a transaction only in the partitions where records of it were written.
            producer.flush(TRANSACTION_SECONDS_MAX)
            producer.abort_transaction(TRANSACTION_SECONDS_MAX)
    except KafkaException as error:
        failed = error.args[0]
        found = TransactionError(failed.name(), failed.retriable(), failed.txn_requires_abort(), failed.fatal())
        if judge(Step.BEGIN, found) is Verdict.FENCED:
            raise LaneFencedError(f"lane {lane} was acquired by another instance meanwhile") from error
        raise RetryableError(f"a transaction of lane {lane} did not end as it should: {failed.name()}") from error


CONFIG_SECONDS_MAX = 5.0
HANDS_OVER = "controlled.shutdown.enable"
WARNING = (
    f"the only broker hands over its partitions before it stops, and Kafka skips transaction markers meanwhile; such "
    f"transactions hang until their lane is acquired again: set {HANDS_OVER}=false there, or stop the producers first"
)


def single_broker_warnings(properties: Mapping[str, str]) -> list[str]:
    """A warning if the cluster has one broker with controlled shutdown; none if its configuration cannot be read.

    Source: observed with Kafka 4.3.1; see `producer/DESIGN.md`, "Hanging transactions".
    """
    try:
        admin = Admin(properties, seconds_max=CONFIG_SECONDS_MAX)
        brokers = admin.metadata().brokers
        if len(brokers) != 1:
            return []
        number = str(next(iter(brokers)))
        config = admin.configs(ResourceType.BROKER, [number])[number] or {}
    except (RetryableError, FatalError, SettingsError):
        return []
    return [WARNING] if config.get(HANDS_OVER) == "true" else []
