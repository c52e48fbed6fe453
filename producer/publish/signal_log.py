"""Writes signals to `…-signals`: wake-ups and operator requests for the lanes, from outside of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from trekkpaalegg.errors import KafkaSettingsError, RetryableError
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.errors import TOPIC, Right, not_permitted
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, ClientHealth
from trekkpaalegg.kafka.properties import RenewableProperties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Message

STORED_SECONDS_MAX = 10.0
_POLL_SECONDS = 0.1
_CHECK_PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class SignalLog:
    """Writes to the topic of signals, partitioned as every lane expects it. Safe for several threads.

    A thread of its own receives Kafka's answers, so that every caller learns of its signal as soon as it is stored.
    `close` ends the thread; what is not stored by then fails. The client is replaced when Kafka refuses it and the
    certificates or `read_properties` have changed, and when librdkafka has forgotten all brokers.
    """

    def __init__(self, read_properties: Callable[[], Mapping[str, str]], topic: str) -> None:
        self._topic = topic
        self._properties = RenewableProperties(read_properties)
        self._health = ClientHealth()
        self._producer = self._connect()
        self._producing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._receive_answers, name="signal-log", daemon=True)
        self._thread.start()

    def _connect(self) -> Producer:
        return create_producer(
            {
                "linger.ms": "0",
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

    def begin(self, trekkpliktig: str, value: bytes | None) -> Future[None]:
        """Store one signal. The future is done when it is stored; `RetryableError` when that is not known."""
        stored: Future[None] = Future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            # The caller may have given up and cancelled it.
            if stored.set_running_or_notify_cancel():
                if error is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(self._translated(error))

        try:
            with self._producing:
                self._producer.produce(self._topic, value, trekkpliktig.encode(), on_delivery=delivered)
        except BufferError:
            stored.set_exception(self._failure("too many are waiting already"))
        except KafkaException as error:
            stored.set_exception(self._failure(error.args[0].name()))
        return stored

    def store(self, signals: Iterable[tuple[str, bytes | None]]) -> None:
        """Store each (trekkpliktig, value); returns when all of them are stored.

        Raises `RetryableError` when that is not known of every one; storing them again does no harm.
        """
        for stored in [self.begin(trekkpliktig, value) for trekkpliktig, value in signals]:
            try:
                stored.result(2 * STORED_SECONDS_MAX)
            except FutureTimeoutError as error:
                raise self._failure("no answer") from error

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._closing.set()
        self._thread.join()

    def _receive_answers(self) -> None:
        checked_at = time.monotonic()
        while not self._closing.is_set():
            self._producer.poll(_POLL_SECONDS)
            if self._health.has_forgotten_brokers:
                self._replace_client(ALL_FORGOTTEN)
            if self._health.reason.is_refusal and time.monotonic() - checked_at > _CHECK_PAUSE_SECONDS:
                checked_at = time.monotonic()
                if self._properties.have_changed():
                    self._replace_client("certificates or password have changed: connecting again")
        _end(self._producer)

    def _replace_client(self, why: str) -> None:
        """Connect with the present certificates and password. Signals that are waiting fail, to be stored again."""
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

    def _translated(self, error: KafkaError) -> RetryableError:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return not_permitted([Right("WRITE", TOPIC, self._topic)], self._properties.loaded)
        return self._failure(error.name())

    def _failure(self, reason: str) -> RetryableError:
        return RetryableError(f"signals could not be stored in {self._topic}: {reason}; try again")


def _end(producer: Producer) -> None:
    """Fail the signals that are waiting, and report that to their callers."""
    producer.purge()
    producer.flush(_POLL_SECONDS)
