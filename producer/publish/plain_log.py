"""Writes records outside of transactions: signals for the lanes, and what lanes hand over to one another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from producer.publish.port import ANY_PARTITION, NO_HEADERS
from trekkpaalegg.errors import KafkaSettingsError, RetryableError
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.errors import TOPIC, Right, not_permitted
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, ClientHealth
from trekkpaalegg.kafka.properties import RenewableProperties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from producer.publish.port import NewObservation

STORED_SECONDS_MAX = 10.0
_POLL_SECONDS = 0.1
_CHECK_PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class PlainLog:
    """Writes to any topic, partitioned as every lane expects it. Safe for several threads.

    A thread of its own receives Kafka's answers, so that every caller learns of its record as soon as it is stored.
    `close` ends the thread; what is not stored by then fails. The client is replaced when Kafka refuses it and the
    certificates or `read_properties` have changed, when librdkafka has forgotten all brokers, and when it has failed
    for good.
    """

    def __init__(self, read_properties: Callable[[], Mapping[str, str]]) -> None:
        self._properties = RenewableProperties(read_properties)
        self._health = ClientHealth()
        self._producer = self._connect()
        self._producing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._receive_answers, name="plain-log", daemon=True)
        self._thread.start()

    def _connect(self) -> Producer:
        return create_producer(
            {
                "linger.ms": "0",
                "compression.type": "lz4",
                "queue.buffering.max.messages": "1000000",
                "delivery.timeout.ms": str(int(STORED_SECONDS_MAX * 1000)),
                **self._properties.load(),
                "acks": "all",
                "enable.idempotence": "true",
                "partitioner": "murmur2_random",
                **self._health.callbacks(),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Mapping[str, bytes] = NO_HEADERS,
        partition: int = ANY_PARTITION,
    ) -> Future[None]:
        """Store one record. The future is done when it is stored; `RetryableError` when that is not known."""
        stored: Future[None] = Future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            # The caller may have given up and cancelled it.
            if stored.set_running_or_notify_cancel():
                if error is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(self._translated(error, topic))

        given: Any = dict(headers)  # typed for everything that headers may be, so that no dictionary fits
        try:
            with self._producing:
                self._producer.produce(topic, value, key, partition, on_delivery=delivered, headers=given)
        except BufferError:
            stored.set_exception(_failure(topic, "too many are waiting already"))
        except KafkaException as error:
            stored.set_exception(_failure(topic, error.args[0].name()))
        return stored

    def store_all(
        self,
        topic: str,
        records: Sequence[NewObservation],
        on_done: Callable[[RetryableError | None], None],
    ) -> None:
        """Store these records. `on_done` is called once, with the first error, when it is known of all of them.

        It is called in another thread, or in this one if the last that is known could not be begun.
        """
        counter = _Counter(len(records), on_done, lambda error: self._translated(error, topic))
        failures = []
        with self._producing:
            produce: Any = self._producer.produce  # typed for everything that headers may be
            for key, value, headers, partition in records:
                try:
                    produce(topic, value, key, partition, on_delivery=counter.delivered, headers=headers)
                except BufferError:
                    failures.append(_failure(topic, "too many are waiting already"))
                except KafkaException as error:
                    failures.append(_failure(topic, error.args[0].name()))
        for failure in failures:
            counter.count(failure)

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._closing.set()
        self._thread.join()

    def _receive_answers(self) -> None:
        checked_at = time.monotonic()
        while not self._closing.is_set():
            self._producer.poll(_POLL_SECONDS)
            refusal = self._health.refusal
            if self._health.has_forgotten_brokers:
                self._replace_client(ALL_FORGOTTEN)
            elif refusal is not None and refusal.fatal():
                self._replace_client("the Kafka client has failed for good: replacing it")
            if self._health.reason.is_refusal and time.monotonic() - checked_at > _CHECK_PAUSE_SECONDS:
                checked_at = time.monotonic()
                if self._properties.have_changed():
                    self._replace_client("certificates or password have changed: connecting again")
        _end(self._producer)

    def _replace_client(self, why: str) -> None:
        """Connect with the present certificates and password. Records that are waiting fail, to be stored again."""
        _log.info(why)
        try:
            producer = self._connect()
        except KafkaSettingsError as error:
            _log.warning("certificates or password cannot be used yet", reason=str(error))
            return
        self._health.replaced()
        with self._producing:
            former, self._producer = self._producer, producer
        _end(former)

    def _translated(self, error: KafkaError, topic: str) -> RetryableError:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return not_permitted([Right("WRITE", TOPIC, topic)], self._properties.loaded)
        return _failure(topic, error.name())


class _Counter:
    """Calls `on_done` with the first error once so many records are stored or not. Any thread may count."""

    def __init__(
        self,
        left: int,
        on_done: Callable[[RetryableError | None], None],
        translate: Callable[[KafkaError], RetryableError],
    ) -> None:
        self._lock = threading.Lock()
        self._left = left
        self._error: RetryableError | None = None
        self._on_done = on_done
        self._translate = translate

    def delivered(self, error: KafkaError | None, _message: Message) -> None:
        """As librdkafka reports it."""
        self.count(None if error is None else self._translate(error))

    def count(self, error: RetryableError | None) -> None:
        """One of them is stored, or has failed."""
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            is_last = self._left == 0
        if is_last:
            self._on_done(self._error)


class SignalLog:
    """Writes wake-ups and operator requests for the lanes to `…-signals`, from outside of them or from one to another.

    Any thread may use it.
    """

    def __init__(self, log: PlainLog, topic: str) -> None:
        self._log = log
        self._topic = topic

    def begin(self, trekkpliktig: str, value: bytes | None, partition: int = ANY_PARTITION) -> Future[None]:
        """Store one signal, for the lane of the trekkpliktig if no partition is given; as `PlainLog.begin`."""
        return self._log.begin(self._topic, trekkpliktig.encode(), value, partition=partition)

    def store(self, signals: Iterable[tuple[str, bytes | None]], partition: int = ANY_PARTITION) -> None:
        """Store each (trekkpliktig, value), as `begin`; returns when all of them are stored.

        Raises `RetryableError` when that is not known of every one; storing them again does no harm.
        """
        for stored in [self.begin(trekkpliktig, value, partition) for trekkpliktig, value in signals]:
            try:
                stored.result(2 * STORED_SECONDS_MAX)
            except FutureTimeoutError as error:
                raise _failure(self._topic, "no answer") from error


def _failure(topic: str, reason: str) -> RetryableError:
    return RetryableError(f"not stored in {topic}: {reason}; try again")


def _end(producer: Producer) -> None:
    """Fail the records that are waiting, and report that to their callers."""
    producer.purge()
    producer.flush(_POLL_SECONDS)
