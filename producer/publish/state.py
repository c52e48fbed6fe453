"""The state of a lane as records in `…-positions`: written, and read back `read_committed`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from producer.domain.state import NO_EVENT, LaneState, TrekkpliktigPosition
from producer.encode.state import (
    decode_event_cursor,
    decode_lane_count,
    decode_order_state,
    decode_position_and_results,
    encode_event_cursor,
    encode_order_state,
    encode_trekkpliktig_position,
)
from producer.publish.port import NO_HEADERS, Record
from producer.publish.reader import end_of
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.renewal import client_made_later
from trekkpaalegg.kafka.rights import TOPIC, Right, not_permitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from producer.detect.requests import RequestDecision
    from producer.domain.requests import RequestResult
    from producer.domain.state import EventCursor, OrderState, TrekkpliktigState


LANE_COUNT_KEY = b"lanes"
SEPARATOR = b"/"
EVENT_CURSOR = b"@events"
"""Ends the key of a trekkpliktig's place among Altinn's events. A key with `/` in it is that of an order."""


def state_records(
    topic: str,
    partition: int,
    trekkpliktig: str,
    position: TrekkpliktigPosition | None,
    orders: Mapping[bytes, OrderState],
) -> Iterator[Record]:
    """Records that make the given changes stand: the position unless it is None, and each order."""
    prefix = trekkpliktig.encode()
    if position is not None:
        yield Record(topic, prefix, encode_trekkpliktig_position(position), NO_HEADERS, partition)
    prefix += SEPARATOR
    for key, order in orders.items():
        yield Record(topic, prefix + key, encode_order_state(order), NO_HEADERS, partition)


def event_cursor_record(topic: str, partition: int, trekkpliktig: str, cursor: EventCursor) -> Record:
    """The record that makes a trekkpliktig's place among Altinn's events stand.

    It goes to the partition of the lane that owns the trekkpliktig, as all that is known of it: only then can it be
    written in the transaction of the reading that the events led to.
    """
    return Record(topic, trekkpliktig.encode() + EVENT_CURSOR, encode_event_cursor(cursor), NO_HEADERS, partition)


def position_record(
    topic: str, partition: int, trekkpliktig: str, position: TrekkpliktigPosition, results: Sequence[RequestResult]
) -> Record:
    """The position, with the results given by this very record."""
    value = encode_trekkpliktig_position(position, results)
    return Record(topic, trekkpliktig.encode(), value, NO_HEADERS, partition)


def forget_records(topic: str, partition: int, trekkpliktig: str, keys: Iterable[bytes]) -> Iterator[Record]:
    """Records that take the orders with these keys out of the topic."""
    prefix = trekkpliktig.encode() + SEPARATOR
    for key in keys:
        yield Record(topic, prefix + key, None, NO_HEADERS, partition)


def decision_records(
    topic: str, partition: int, trekkpliktig: str, decision: RequestDecision, state: TrekkpliktigState | None
) -> Iterator[Record]:
    """Records that make a request stand; `state` is what was known, None for nothing at all.

    Where nothing was known and nothing is to be remembered, nothing is left behind once the result has been read.
    """
    if decision.forgets and state is not None:
        yield from forget_records(topic, partition, trekkpliktig, state.keys())
    yield position_record(topic, partition, trekkpliktig, decision.position, decision.results)
    if state is None and decision.position == TrekkpliktigPosition():
        yield Record(topic, trekkpliktig.encode(), None, NO_HEADERS, partition)


def order_of(key: bytes) -> tuple[str, bytes] | None:
    """The trekkpliktig and the key of the order whose state a record with this key holds, None for any other."""
    trekkpliktig, separator, order = key.partition(SEPARATOR)
    return (trekkpliktig.decode(), order) if separator else None


def lane_state_of(records: Iterable[tuple[bytes, bytes | None]], state: LaneState | None = None) -> LaneState:
    """The state that stands after these records, (key, value) in the order of one partition.

    `state` is what stood before them, and is changed. Raises `FatalError` for a value that is none of ours.
    """
    if state is None:
        state = LaneState()
    for key, value in records:
        if key == LANE_COUNT_KEY:
            continue
        name, separator, order_key = key.partition(SEPARATOR)
        trekkpliktig = name.decode()
        if separator:
            if value is None:
                state.ensure(trekkpliktig).drop(order_key)
            else:
                state.ensure(trekkpliktig).remember(order_key, decode_order_state(value))
        elif name.endswith(EVENT_CURSOR):
            known = state.ensure(trekkpliktig.removesuffix(EVENT_CURSOR.decode()))
            known.event_cursor = NO_EVENT if value is None else decode_event_cursor(value)
        elif value is None:
            state.forget(trekkpliktig)
        else:
            position, results = decode_position_and_results(value)
            state.ensure(trekkpliktig).position = position
            for result in results:
                state.completed.add(trekkpliktig, result.request)
    return state


LANE_COUNT_PARTITION = 0
READ_STALLED_SECONDS_MAX = 30.0
_BATCH_RECORDS_MAX = 10_000
_BATCH_SECONDS_MAX = 0.05
"""A batch that is not full waits for so long in any case, so this is what the end of a partition costs."""


def read_lane_state(
    properties: Mapping[str, str], topic: str, partition: int, stalled_seconds_max: float = READ_STALLED_SECONDS_MAX
) -> LaneState:
    """The committed state of a lane. Call it after the fence, so that nobody writes meanwhile.

    Raises `RetryableError` if the end was not reached: a part is never taken for the whole.
    """
    messages = read_to_end(properties, topic, partition, stalled_seconds_max=stalled_seconds_max)
    return lane_state_of(key_values(messages))


def key_values(messages: Iterable[Message]) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and value of each message."""
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
    whole; it is `RefusedError` when we may not read the topic.
    """
    reason = LastReason()
    with client_made_later():
        consumer = create_consumer(
            {
                **properties,
                "group.id": "none",
                "enable.auto.commit": "false",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": "true",
                # The broker would hold back for half a second the result that says that there is nothing more.
                "fetch.wait.max.ms": "10",
            },
            reason,
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
