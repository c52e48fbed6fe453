"""Publishes a lane's records to Kafka: a fenced transactional producer, and how each of its errors is handled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import KafkaException, Producer, TopicPartition

from producer.errors import AbortedError, LaneFencedError, OutcomeUnknownError
from producer.publish.recovery.recover import QUEUE_FULL_WAIT_SECONDS, LaneRecovery
from producer.publish.transaction import Step, TransactionError, Verdict, judge
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError, TrekkpaaleggError
from trekkpaalegg.kafka.clients import LOG, UnansweredError, call_bounded, create_producer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import GROUP, TOPIC, TRANSACTIONAL_ID, Right, not_permitted

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence

    from producer.domain.state import LaneState
    from producer.observe.port import Observer
    from producer.publish.port import Record
    from producer.publish.topics import Topics


TRANSACTION_TIMEOUT_SECONDS = 15
"""An open transaction hides later commits of others in its partitions, so it must not stay open for long."""


def producer_properties(properties: Mapping[str, str], transactional_id: str, batch_bytes_max: int) -> dict[str, Any]:
    """The librdkafka properties of a lane's producer. The guarantee rests on the last six, so they override the user's.

    lz4: headers and ids repeat, so about a quarter of the bytes remain, at no measurable CPU time. A commit does not
    wait for `linger.ms`, which only keeps the batches of a long transaction full.

    While Kafka completes a transaction, for some milliseconds, it refuses offsets of the next one. librdkafka tries
    again after `retry.backoff.ms`, then after twice that; its default of 100 ms would be most of the latency of a
    notified change that follows another (confluentinc/confluent-kafka-python#967, observed with 2.16.0).

    Without `metadata.recovery.strategy` a restart of all brokers makes librdkafka forget them, and sending the offsets
    then waits forever for the forgotten coordinator (confluentinc/librdkafka#5511, observed with 2.16.0).
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
        # Logs every lost connection (librdkafka, CONFIGURATION.md); see `ConnectionLog`.
        "log_level": "6",
        "log.connection.close": "true",
        "partitioner": "murmur2_random",
        "delivery.report.only.error": True,
    }


OFFSETS_SECONDS_MAX = 10.0
"""Longer than a cluster needs to find another coordinator for the group, shorter than the transaction's timeout."""

COMMIT_SECONDS_MAX = 20.0
ABORT_SECONDS_MAX = 10.0
"""Requested once: after that time the outcome is unknown. A commit first waits until all records are acknowledged,
which the transaction's timeout bounds; librdkafka would wait forever for a partition that accepts nothing."""

CALL_AGAIN_SECONDS_MAX = 30.0
INIT_TIMEOUT_SECONDS = 30.0
INIT_CALL_SECONDS = 1.0
_CALL_AGAIN_PAUSE_SECONDS = 0.1
REFUSED_SECONDS_MAX = 10.0
"""A producer whose certificate or password is refused is replaced after this time: a new one reads renewed files."""


_WITHHELD = frozenset(
    {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"}
)
_TOO_LARGE = "MSG_SIZE_TOO_LARGE"
_NOT_ACCEPTED = _WITHHELD | {_TOO_LARGE}


_COORDINATOR_THREAD = "[thrd:TxnCoordinator]"
_LOST = frozenset({"FAIL", "REQTMOUT"})
"""librdkafka's names of log lines: a connection failed, a request timed out."""


class ConnectionLog:
    """The `logger` of a producer, which notes lost connections.

    librdkafka repeats a request on a new connection when the old one is lost, and only its log says so. Lines arrive
    when the producer is polled, so poll before reading the attributes.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.has_lost_coordinator = False
        self.has_lost_broker = False

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Called by confluent-kafka: the first argument is the name of the line, the last its text."""
        self._log.log(level, message, *arguments)
        if arguments and arguments[0] in _LOST:
            self.has_lost_broker = True
            if str(arguments[-1]).startswith(_COORDINATOR_THREAD):
                self.has_lost_coordinator = True

    def forget(self) -> None:
        """Note only what is lost from now on."""
        self.has_lost_coordinator = self.has_lost_broker = False


class MakeProducer(Protocol):
    """Builds a producer, as the class `Producer` does."""

    def __call__(self, properties: dict[str, Any], /, *, logger: ConnectionLog) -> Producer:
        """A producer with these librdkafka properties."""


class KafkaLanePublisher:
    """See `LanePublisher`. `group_metadata` gives the worker's current membership, sent with every transaction.

    `fault_of` says why the lane's state, once it is read back, may not be used, None if it may. `find_lacking` returns
    the rights that we lack among operations by topic. `make_producer` builds librdkafka's
    producer from its properties; tests pass one that fails on demand.
    """

    def __init__(  # noqa: PLR0913 - all but the last two are the lane's own
        self,
        properties: Mapping[str, str],
        topics: Topics,
        lane: int,
        application_id: str,
        batch_bytes_max: int,
        group_metadata: Callable[[], object],
        observer: Observer,
        *,
        fault_of: Callable[[LaneState], str | None] = lambda _: None,
        make_producer: MakeProducer = create_producer,
        find_lacking: Callable[[Mapping[str, Sequence[str]]], Sequence[Right]] = lambda _: (),
    ) -> None:
        self._properties = properties
        self._batch_bytes_max = batch_bytes_max
        self._topics = topics
        self._lane = lane
        self._application_id = application_id
        self._transactional_id = f"{application_id}-{lane}"
        self._group_metadata = group_metadata
        self._observer = observer
        self._fault_of = fault_of
        self._make_producer = make_producer
        self._find_lacking = find_lacking
        self._producer: Producer | None = None
        self._log = ConnectionLog(LOG)
        self._recovery = LaneRecovery(properties, topics, lane, observer)
        self._reason = LastReason()

    def acquire(self, is_stopping: Callable[[], bool] = lambda: False) -> LaneState:
        """See `LanePublisher.acquire`.

        The fence is requested in short calls, as only dropping the producer between two of them cancels it.
        """
        self.close()
        if is_stopping():
            raise RetryableError(f"lane {self._lane} is not acquired: the worker is releasing it")
        self._reason.clear()
        own = producer_properties(self._properties, self._transactional_id, self._batch_bytes_max)
        self._log = ConnectionLog(LOG)
        producer = self._make_producer({**own, "error_cb": self._reason.record}, logger=self._log)
        deadline = time.monotonic() + INIT_TIMEOUT_SECONDS
        while (error := _failure_of(lambda: producer.init_transactions(INIT_CALL_SECONDS))) is not None:
            failed = _error_of(error)
            if judge(Step.BEGIN, failed) is Verdict.FENCED:
                raise LaneFencedError(f"lane {self._lane} was acquired by another instance meanwhile") from error
            if failed.name in _WITHHELD:
                raise self._withheld(Step.BEGIN, failed.name) from error
            is_late = time.monotonic() > deadline or is_stopping() or self._reason.is_refusal
            if not failed.retriable or is_late:
                raise RetryableError(f"lane {self._lane} cannot be acquired: {self._why(failed.name)}") from error
        state = self._recovery.recover(producer, self._check_state)
        self._producer = producer
        return state

    def _check_state(self, state: LaneState) -> None:
        fault = self._fault_of(state)
        if fault is not None:
            raise FatalError(f"lane {self._lane}: {fault}")

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """See `LanePublisher.publish`.

        1. Begin. 2. Hand over all records. 3. Hand over the signal offset. 4. Commit, once. If the connection to the
        coordinator was lost during the commit, librdkafka has requested it twice, and the first request may still be
        on its way: this producer must not end another transaction, so the lane has to be acquired again.
        """
        if self._producer is None:
            raise OutcomeUnknownError(
                f"lane {self._lane} must be acquired again: the connection to the coordinator was lost during the last "
                "commit, which succeeded, or the lane was never acquired"
            )
        started = time.monotonic()
        outcome = "unknown"
        try:
            if self._has_lost_broker():
                self._recovery.check()
            self._log.forget()
            self._call(Step.BEGIN, self._producer.begin_transaction)
            self._call(Step.PRODUCE, lambda: self._produce(records))
            signal = [TopicPartition(self._topics.signals, self._lane, signal_offset)]
            self._call(Step.OFFSETS, lambda: self._send_offsets(signal))
            commit = self._producer.commit_transaction
            self._call(Step.COMMIT, lambda: commit(COMMIT_SECONDS_MAX))
            outcome = "committed"
            if self._has_lost_coordinator():
                self.close()
        except AbortedError:
            outcome = "aborted"
            raise
        except LaneFencedError:
            outcome = "fenced"
            raise
        except OutcomeUnknownError:
            self.close()
            raise
        finally:
            self._observer.transaction_finished(outcome, time.monotonic() - started)

    def check(self) -> None:
        """See `LanePublisher.check`."""
        if self._producer is not None and self._has_lost_broker() and self._recovery.check_when_idle():
            self._log.forget()

    def close(self) -> None:
        """See `LanePublisher.close`.

        The producer is dropped, not closed: closing would abort a transaction whose commit may have succeeded.
        """
        self._producer = None

    def _produce(self, records: Sequence[Record]) -> None:
        producer = self._producer
        assert producer is not None  # noqa: S101 - publish() checked it
        produce = producer.produce
        for record in records:
            while True:
                try:
                    if record.headers:
                        headers: Any = (
                            record.headers
                        )  # typed for everything that headers may be, so that no dictionary fits
                        produce(record.topic, record.value, record.key, record.partition, headers=headers)
                    else:
                        produce(record.topic, record.value, record.key, record.partition)
                    break
                except BufferError:
                    producer.poll(QUEUE_FULL_WAIT_SECONDS)

    def _send_offsets(self, signal: list[TopicPartition]) -> None:
        """Bounded from outside: librdkafka waits forever for a group coordinator that has left the cluster.

        It obeys no timeout there (confluentinc/librdkafka#5456 and #5511, observed with 2.16.0 after one broker of
        three was killed). The call is abandoned with its producer, which is fenced when the lane is acquired again.
        """
        producer = self._producer
        assert producer is not None  # noqa: S101 - publish() checked it
        metadata = self._group_metadata()
        try:
            call_bounded(lambda: producer.send_offsets_to_transaction(signal, metadata), OFFSETS_SECONDS_MAX)
        except UnansweredError as error:
            raise OutcomeUnknownError(
                f"transaction of lane {self._lane}: the coordinator of the group has not answered for "
                f"{OFFSETS_SECONDS_MAX:g} s; the lane is acquired again"
            ) from error

    def _why(self, name: str) -> str:
        """The reason why the connection is refused, else the error's name."""
        cause = self._reason.cause(self._properties) if self._reason.is_refusal else None
        return name if cause is None else str(cause)

    def _withheld(self, step: Step, name: str) -> RefusedError:
        """The error that names the right we lack. librdkafka does not name the topic, so Kafka is asked."""
        topics = self._topics
        if name == "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
            rights = [Right("WRITE", TRANSACTIONAL_ID, self._transactional_id)]
        elif name == "GROUP_AUTHORIZATION_FAILED":
            rights = [Right("READ", GROUP, self._application_id)]
        elif step is Step.OFFSETS:
            rights = [Right("READ", TOPIC, topics.signals)]
        else:
            written = {topic: ["WRITE"] for topic in topics if topic != topics.signals}
            rights = [Right("WRITE", TOPIC, topic) for topic in written]
            try:
                rights = list(self._find_lacking(written)) or rights
            except RefusedError as error:
                return error
            except TrekkpaaleggError:
                pass
        return not_permitted(rights, self._properties)

    def _call(self, step: Step, call: Callable[[], object]) -> None:
        began = time.monotonic()
        while (error := _failure_of(call)) is not None:
            failed = _error_of(error)
            verdict = judge(step, failed)
            what = f"transaction of lane {self._lane}: {step.value} failed with {failed.name}"
            if verdict is Verdict.FENCED:
                raise LaneFencedError(what) from error
            if verdict is Verdict.REPLACE:
                raise self._broken(step, failed, what) from error
            if verdict is Verdict.ABORT:
                self._abort()
                if failed.name in _NOT_ACCEPTED or self._has_lost_broker():
                    raise self._broken(step, failed, what) from error
                raise AbortedError(what) from error
            seconds_max = REFUSED_SECONDS_MAX if self._reason.is_refusal else CALL_AGAIN_SECONDS_MAX
            if time.monotonic() - began > seconds_max:
                raise OutcomeUnknownError(f"{what}: {self._why(failed.name)}") from error
            time.sleep(_CALL_AGAIN_PAUSE_SECONDS)

    def _has_lost_coordinator(self) -> bool:
        return self._has_lost_broker() and self._log.has_lost_coordinator

    def _has_lost_broker(self) -> bool:
        assert self._producer is not None  # noqa: S101 - publish() checked it
        self._producer.poll(0)
        return self._log.has_lost_broker

    def _abort(self) -> None:
        assert self._producer is not None  # noqa: S101 - publish() checked it
        abort = self._producer.abort_transaction
        self._call(Step.ABORT, lambda: abort(ABORT_SECONDS_MAX))

    def _broken(self, step: Step, failed: TransactionError, what: str) -> RefusedError | OutcomeUnknownError:
        """The error for a producer that cannot be used any more; it says what to change if records were refused."""
        if failed.name == _TOO_LARGE:
            return OutcomeUnknownError(f"{what}: a topic accepts less than when the lane was acquired")
        if failed.name in _WITHHELD:
            withheld = self._withheld(step, failed.name)
            return withheld if failed.requires_abort else OutcomeUnknownError(f"{what}: {withheld}")
        return OutcomeUnknownError(what)


def _failure_of(call: Callable[[], object]) -> KafkaException | None:
    """What this call to Kafka raised. It is handled outside of `except`: see `trekkpaalegg.kafka.clients`."""
    try:
        call()
    except KafkaException as error:
        return error
    return None


def _error_of(error: KafkaException) -> TransactionError:
    cause = error.args[0]
    return TransactionError(cause.name(), cause.retriable(), cause.txn_requires_abort(), cause.fatal())
