"""A client and a topic in, the topic's partitions out, asked for in short calls: a signal is taken between two."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from consumers.stream.kafka_errors import passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer

    from consumers.stream.diagnosis import LastReason

CALL_SECONDS_MAX = 10.0
SHORT_CALL_SECONDS = 1.0


def partitions_of(
    consumer: Consumer,
    topic: str,
    reason: LastReason,
    *,
    reads_already: bool = False,
    gives_up: Callable[[], bool] = lambda: False,
    on_silence: Callable[[], None] = lambda: None,
) -> list[int]:
    """The numbers of its partitions, as soon as Kafka says.

    Of a client that reads nothing yet, librdkafka is let tell its reasons between two calls. `on_silence` is called
    once when Kafka does not answer. Raises `KafkaException` when it has not for too long, refuses us or knows no such
    topic.
    """
    began, is_told = time.monotonic(), False
    while True:
        try:
            found = consumer.list_topics(topic, timeout=SHORT_CALL_SECONDS).topics[topic]
            break
        except KafkaException as error:
            if not reads_already:
                consumer.poll(0)
            is_late = time.monotonic() - began > CALL_SECONDS_MAX or gives_up()
            if is_late or reason.is_refusal or not passes(error.args[0]):
                raise
            if not is_told:
                on_silence()
            is_told = True
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)
