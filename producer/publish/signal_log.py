"""Signals to store in, their place in `…-signals` out: for whoever wakes or asks a lane from outside it."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from producer.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError, Message

STORED_SECONDS_MAX = 10.0
_SLICE_SECONDS = 0.1
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


class SignalLog:
    """Writes to the topic of signals, partitioned as every lane expects it. Safe for several threads."""

    def __init__(self, properties: Mapping[str, str], topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "linger.ms": "0",
                "delivery.timeout.ms": str(int(STORED_SECONDS_MAX * 1000)),
                **properties,
                "acks": "all",
                "enable.idempotence": "true",
                "partitioner": "murmur2_random",
            },
            logger=_LIBRDKAFKA_LOG,
        )

    def store(self, signals: Iterable[tuple[str, bytes | None]]) -> None:
        """Store each (trekkpliktig, value); returns when all of them stand.

        Raises `RetryableError` when that is not known of every one; storing them again does no harm.
        """
        failures: list[str] = []
        stored = threading.Semaphore(0)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error.name())
            stored.release()

        count = 0
        deadline = time.monotonic() + STORED_SECONDS_MAX
        for trekkpliktig, value in signals:
            self._produce(trekkpliktig, value, delivered)
            count += 1
            deadline = time.monotonic() + 2 * STORED_SECONDS_MAX
        while count:
            if stored.acquire(blocking=False):
                count -= 1
            elif time.monotonic() > deadline:
                failures.append("no answer")
                break
            else:
                self._producer.poll(_SLICE_SECONDS)
        if failures:
            raise RetryableError(f"signals could not be stored in {self._topic}: {failures[0]}; try again")

    def _produce(self, trekkpliktig: str, value: bytes | None, delivered: object) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, trekkpliktig.encode(), on_delivery=delivered)  # type: ignore[arg-type]  # a function of our own
            except BufferError:
                self._producer.poll(_SLICE_SECONDS)
            except KafkaException as error:
                raise RetryableError(f"signals cannot be stored in {self._topic}: {error.args[0].name()}") from error
            else:
                return
