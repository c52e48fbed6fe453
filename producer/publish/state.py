"""The state of a lane as records in `…-positions`: encode changes of it, and read it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import STALLED_SECONDS_MAX, read_to_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from producer.detect.requests import RequestDecision
    from producer.domain.requests import RequestResult
    from producer.domain.state import EventCursor, OrderState, TrekkpliktigState


LANE_COUNT_KEY = b"lanes"
SEPARATOR = b"/"
EVENT_CURSOR = b"@events"
"""Ends the key of a trekkpliktig's cursor in Altinn's events. A key with `/` in it is that of an order."""


def state_records(
    topic: str,
    partition: int,
    trekkpliktig: str,
    position: TrekkpliktigPosition | None,
    orders: Mapping[bytes, OrderState],
) -> Iterator[Record]:
    """Records of the given changes: the position unless it is None, and each order."""
    prefix = trekkpliktig.encode()
    if position is not None:
        yield Record(topic, prefix, encode_trekkpliktig_position(position), NO_HEADERS, partition)
    prefix += SEPARATOR
    for key, order in orders.items():
        yield Record(topic, prefix + key, encode_order_state(order), NO_HEADERS, partition)


def event_cursor_record(topic: str, partition: int, trekkpliktig: str, cursor: EventCursor) -> Record:
    """The record of a trekkpliktig's cursor in Altinn's events.

    It goes to the partition of the lane that owns the trekkpliktig, as all of its state does: only there can it be
    written in the transaction of the reading that the events caused.
    """
    return Record(topic, trekkpliktig.encode() + EVENT_CURSOR, encode_event_cursor(cursor), NO_HEADERS, partition)


def position_record(
    topic: str, partition: int, trekkpliktig: str, position: TrekkpliktigPosition, results: Sequence[RequestResult]
) -> Record:
    """The position, with the results of requests that end with it."""
    value = encode_trekkpliktig_position(position, results)
    return Record(topic, trekkpliktig.encode(), value, NO_HEADERS, partition)


def forget_records(topic: str, partition: int, trekkpliktig: str, keys: Iterable[bytes]) -> Iterator[Record]:
    """Tombstones of the orders with these keys."""
    prefix = trekkpliktig.encode() + SEPARATOR
    for key in keys:
        yield Record(topic, prefix + key, None, NO_HEADERS, partition)


def decision_records(
    topic: str, partition: int, trekkpliktig: str, decision: RequestDecision, state: TrekkpliktigState | None
) -> Iterator[Record]:
    """Records of a decided operator request; `state` is the trekkpliktig's, None when it has none.

    If it has none and the request leaves none, the last record is a tombstone, so that nothing remains of it once the
    result has been read.
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
    """The state after these records, (key, value) in the order of one partition.

    `state` is that before them, and is changed; None for an empty one. Raises `FatalError` for a value that is not the
    producer's.
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


def read_lane_state(
    properties: Mapping[str, str], topic: str, partition: int, stalled_seconds_max: float = STALLED_SECONDS_MAX
) -> LaneState:
    """The committed state of a lane. Call it after the fence, so that nobody writes meanwhile.

    Raises `RetryableError` if the end was not reached: a part is never returned as the whole.
    """
    messages = read_partition(properties, topic, partition, stalled_seconds_max=stalled_seconds_max)
    return lane_state_of(key_values(messages))


def key_values(messages: Iterable[Message]) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and value of each message."""
    return ((message.key() or b"", message.value()) for message in messages)


def read_lane_count(properties: Mapping[str, str], topic: str, *, role: str = "producer") -> int | None:
    """The recorded number of lanes, None when none was ever recorded. Raises `RetryableError` as `read_lane_state`."""
    for message in read_partition(properties, topic, LANE_COUNT_PARTITION, role=role):
        value = message.value()
        if message.key() == LANE_COUNT_KEY and value is not None:
            return decode_lane_count(value)
    return None


def read_partition(
    properties: Mapping[str, str],
    topic: str,
    partition: int,
    *,
    role: str = "producer",
    stalled_seconds_max: float = STALLED_SECONDS_MAX,
) -> Iterator[Message]:
    """Every committed message of a partition, to the end that it has when this is called.

    Raises `RetryableError` if that end was not reached, as nothing came for so long: a part is never returned as the
    whole. It is `RefusedError` if we may not read the topic.
    """
    with as_retryable():
        yield from read_to_end(
            properties, [Partition(topic, partition)], role=role, stalled_seconds_max=stalled_seconds_max
        )
