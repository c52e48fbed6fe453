"""Create Kafka clients: consumers, producers and admin clients whose log lines go to Python's logging.

librdkafka prints to stderr by default. Here its lines go to the logger `librdkafka`, which writes nothing until the
program configures logging.

Some calls of librdkafka wait for Kafka without limit: `call_bounded` gives up in time.

Do not call Kafka in an `except` or `finally` where that may fail: a `KafkaError` that is raised while another exception
is handled keeps that one for ever, and with it whatever its frames hold, such as a producer and its four threads
(confluent-kafka frees the error without its context; observed with 2.16.0).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from trekkpaalegg.errors import KafkaSettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trekkpaalegg.kafka.diagnosis import LastReason

Client = TypeVar("Client")

LOG = logging.getLogger("librdkafka")
LOG.addHandler(logging.NullHandler())
DISCARDED = logging.getLogger("librdkafka.discarded")
DISCARDED.addHandler(logging.NullHandler())
DISCARDED.propagate = False


def create_consumer(properties: Mapping[str, Any], reason: LastReason | None = None) -> Consumer:
    """A consumer with these librdkafka properties. `reason` records why its connections fail.

    Raises `KafkaSettingsError` when librdkafka rejects the properties.
    """
    return _create(Consumer, properties, reason, LOG)


def create_producer(
    properties: Mapping[str, Any],
    reason: LastReason | None = None,
    *,
    logger: Any = LOG,  # noqa: ANN401  anything with a method `log` such as a `logging.Logger` has
) -> Producer:
    """As `create_consumer`. The client's log lines go to `logger`."""
    return _create(Producer, properties, reason, logger)


def create_admin_client(properties: Mapping[str, Any], reason: LastReason | None = None) -> AdminClient:
    """As `create_consumer`. Its log lines are discarded: every call returns its failure to the caller."""
    return _create(AdminClient, properties, reason, DISCARDED)


def _create(
    make: Callable[..., Client],
    properties: Mapping[str, Any],
    reason: LastReason | None,
    logger: Any,  # noqa: ANN401  as above
) -> Client:
    settings = dict(properties)
    if reason is not None:
        settings["error_cb"] = reason.record
    try:
        return make(settings, logger=logger)
    except KafkaException as error:
        raise KafkaSettingsError([f"the Kafka settings cannot be used: {error.args[0].str()}"]) from error


class UnansweredError(Exception):
    """The call has not returned in time, and may never."""


def call_bounded(call: Callable[[], object], seconds_max: float, *, name: str = "bounded-call") -> None:
    """Make the call in a thread of that name, and raise what it raises.

    Raises `UnansweredError` when it has not returned in time. The thread is left behind, and what the call holds lives
    on with it until it does return.
    """
    raised: list[BaseException] = []
    returned = threading.Event()

    def body() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            # Without frames, which hold the list and the call: nobody may be waiting any more to take it out.
            raised.append(error.with_traceback(None))
        returned.set()

    threading.Thread(target=body, name=name, daemon=True).start()
    if not returned.wait(seconds_max):
        raise UnansweredError
    if raised:
        raise raised.pop()
