"""From changes of a lane's state to the records that make them stand in `…-positions`, and from these back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.domain.state import NO_EVENT, LaneState, TrekkpliktigPosition
from producer.encode.state import (
    decode_event_cursor,
    decode_order_state,
    decode_position_and_answers,
    encode_event_cursor,
    encode_order_state,
    encode_trekkpliktig_position,
)
from producer.publish.port import NO_HEADERS, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from producer.domain.state import EventCursor, OrderState, TrekkpliktigState
    from producer.domain.undoing import Undone
    from producer.domain.wish import Answer
    from producer.wishes import Granted

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


def answer_record(
    topic: str, partition: int, trekkpliktig: str, position: TrekkpliktigPosition, answers: Sequence[Answer]
) -> Record:
    """The position, with the answers given by this very record."""
    value = encode_trekkpliktig_position(position, answers)
    return Record(topic, trekkpliktig.encode(), value, NO_HEADERS, partition)


def forget_records(topic: str, partition: int, trekkpliktig: str, keys: Iterable[bytes]) -> Iterator[Record]:
    """Records that take the orders with these keys out of the topic."""
    prefix = trekkpliktig.encode() + SEPARATOR
    for key in keys:
        yield Record(topic, prefix + key, None, NO_HEADERS, partition)


def granted_records(
    topic: str, partition: int, trekkpliktig: str, granted: Granted, state: TrekkpliktigState | None
) -> Iterator[Record]:
    """Records that make a wish stand; `state` is what was known, None for nothing at all.

    Where nothing was known and nothing is to be remembered, nothing is left behind once the answer has been read.
    """
    if granted.forgets and state is not None:
        yield from forget_records(topic, partition, trekkpliktig, state.keys())
    yield answer_record(topic, partition, trekkpliktig, granted.position, granted.answers)
    if state is None and granted.position == TrekkpliktigPosition():
        yield Record(topic, trekkpliktig.encode(), None, NO_HEADERS, partition)


def undone_records(topic: str, partition: int, state: LaneState, undone: Mapping[str, Undone]) -> Iterator[Record]:
    """Records that make it stand that some events do not; `state` is what was remembered."""
    for trekkpliktig, change in undone.items():
        known = state.of(trekkpliktig).position
        kept = {key: order for key, order in change.orders.items() if order is not None}
        gone = [key for key, order in change.orders.items() if order is None]
        position = (
            msgspec.structs.replace(known, position=change.position) if change.position < known.position else None
        )
        yield from state_records(topic, partition, trekkpliktig, position, kept)
        yield from forget_records(topic, partition, trekkpliktig, gone)


def held_records(topic: str, partition: int, held: Mapping[str, Mapping[bytes, OrderState]]) -> Iterator[Record]:
    """Records that make it stand that some events do."""
    for trekkpliktig, orders in held.items():
        yield from state_records(topic, partition, trekkpliktig, None, orders)


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
                state.of(trekkpliktig).drop(order_key)
            else:
                state.of(trekkpliktig).remember(order_key, decode_order_state(value))
        elif name.endswith(EVENT_CURSOR):
            known = state.of(trekkpliktig.removesuffix(EVENT_CURSOR.decode()))
            known.event_cursor = NO_EVENT if value is None else decode_event_cursor(value)
        elif value is None:
            state.forget(trekkpliktig)
        else:
            position, answers = decode_position_and_answers(value)
            state.of(trekkpliktig).position = position
            for answer in answers:
                state.answered.add(trekkpliktig, answer.wish)
    return state
