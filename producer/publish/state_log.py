"""From one partition of `…-positions`, read committed to its end, to the state of a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from producer.connection.diagnosis import LastReason
from producer.connection.permission import TOPIC, Right, not_permitted
from producer.connection.renewal import client_made_later
from producer.domain.state import NO_ORDER, LaneState
from producer.domain.undoing import told_between
from producer.encode.state import decode_lane_count
from producer.errors import RetryableError
from producer.publish.partition_end import end_of
from producer.publish.state_records import LANE_COUNT_KEY, lane_state_of, order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from producer.domain.state import OrderState
    from producer.domain.undoing import Told

LANE_COUNT_PARTITION = 0
READ_STALLED_SECONDS_MAX = 30.0
_BATCH_RECORDS_MAX = 10_000
_BATCH_SECONDS_MAX = 0.05
"""A batch that is not full waits for so long in any case, so this is what the end of a partition costs."""
_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


class Change(NamedTuple):
    """What an order's state was before a transaction, and the events told by it."""

    before: OrderState
    told: list[Told]


class LastTransaction(NamedTuple):
    """What the last transaction, or the last ones, in a lane's state changed, and when it was written.

    `changes` are those that tell of events, by trekkpliktig and key of the order. Times are in milliseconds since 1970,
    those of the first and of the last of its records.
    """

    changes: dict[tuple[str, bytes], Change]
    begun_at: int
    ended_at: int


def read_lane(
    properties: Mapping[str, str],
    topic: str,
    partition: int,
    since: int | None = None,
    *,
    stalled_seconds_max: float = READ_STALLED_SECONDS_MAX,
) -> tuple[LaneState, LastTransaction | None]:
    """The state that stands at this moment. Call it only after the fence, so that nothing is written behind it.

    With `since`, in milliseconds since 1970, all transactions written since then count as the last one.

    Raises `RetryableError` when the end was not reached: a part is never taken for the whole.
    """
    state, run = LaneState(), list[Message]()
    for message in read_to_end(properties, topic, partition, stalled_seconds_max=stalled_seconds_max):
        # The marker that ends a transaction has an offset of its own.
        is_next = bool(run) and message.offset() != (run[-1].offset() or 0) + 1
        if is_next and (since is None or run[-1].timestamp()[1] < since):
            lane_state_of(_pairs(run), state)
            run.clear()
        run.append(message)
    if not run:
        return state, None
    orders = dict.fromkeys(filter(None, (order_of(key) for key, _ in _pairs(run))))
    before = {order: _known(state, *order) for order in orders}
    lane_state_of(_pairs(run), state)
    changes = {
        order: Change(known, told)
        for order, known in before.items()
        if (told := told_between(*order, known, _known(state, *order)))
    }
    times = [message.timestamp()[1] for message in run]
    return state, LastTransaction(changes, min(times), max(times))


def read_lane_state(
    properties: Mapping[str, str], topic: str, partition: int, stalled_seconds_max: float = READ_STALLED_SECONDS_MAX
) -> LaneState:
    """As `read_lane`, the state alone."""
    return read_lane(properties, topic, partition, stalled_seconds_max=stalled_seconds_max)[0]


def _known(state: LaneState, trekkpliktig: str, key: bytes) -> OrderState:
    known = state.get(trekkpliktig)
    return NO_ORDER if known is None else known.order(key)


def _pairs(messages: Iterable[Message]) -> Iterator[tuple[bytes, bytes | None]]:
    return ((message.key() or b"", message.value()) for message in messages)


def read_lane_count(properties: Mapping[str, str], topic: str) -> int | None:
    """The recorded number of lanes, None when none was ever recorded. Raises `RetryableError` as `read_lane_state`."""
    for message in read_to_end(properties, topic, LANE_COUNT_PARTITION):
        value = message.value()
        if message.key() == LANE_COUNT_KEY and value is not None:
            return decode_lane_count(value)
    return None


def read_to_end(
    properties: Mapping[str, str],
    topic: str,
    partition: int,
    start: int = OFFSET_BEGINNING,
    *,
    stalled_seconds_max: float = READ_STALLED_SECONDS_MAX,
) -> Iterator[Message]:
    """Every committed message of a partition, from `start` to the end that stands when it is called.

    Raises `RetryableError` when that end was not reached, as nothing came for so long: a part is never taken for the
    whole; it is `NotPermittedError` when we may not read the topic.
    """
    reason = LastReason()
    with client_made_later():
        consumer = Consumer(
            {
                **properties,
                "error_cb": reason.take,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": "true",
                # The broker would hold back for half a second the answer that says that there is nothing more.
                "fetch.wait.max.ms": "10",
            },
            logger=_LIBRDKAFKA_LOG,
        )
    try:
        whole = TopicPartition(topic, partition, start)
        end = end_of(consumer, topic, partition, stalled_seconds_max)
        consumer.assign([whole])
        yield from _consume_until(consumer, end, f"partition {partition} of {topic}", stalled_seconds_max)
    except KafkaException as error:
        failed = error.args[0]
        if failed.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise not_permitted([Right("READ", TOPIC, topic)], properties) from error
        why = (reason.cause(properties) if reason.is_refusal else None) or failed.name()
        raise RetryableError(f"cannot read partition {partition} of {topic}: {why}") from error
    finally:
        consumer.close()


def _consume_until(consumer: Consumer, end: int, what: str, stalled_seconds_max: float) -> Iterator[Message]:
    """Yield messages until the partition's end has been seen at or beyond `end`."""
    deadline = time.monotonic() + stalled_seconds_max
    while time.monotonic() < deadline:
        for message in consumer.consume(_BATCH_RECORDS_MAX, timeout=_BATCH_SECONDS_MAX):
            error = message.error()
            if error is None:
                deadline = time.monotonic() + stalled_seconds_max
                yield message
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # librdkafka looks for the group that it must be given, and that is never joined
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes begin so
                raise KafkaException(error)
            elif (message.offset() or 0) >= end:
                return
    raise RetryableError(f"reading {what} has stalled before its end; Kafka may be overloaded")
