"""The state of a lane as records in `…-positions`: encode changes of it, and read it back.

Every record goes to the partition of the lane whose state it is: only there can it be written in the transaction of
what led to it. The keys:

    lanes                   whose topics these are, in every partition
    <trekkpliktig>          how far its list has been read, and the results of requests that ended with that record
    <trekkpliktig>@events   its cursor in Altinn's events
    <trekkpliktig>@results  results of requests that another lane than its own has done
    <trekkpliktig>@known    orders that its list has shown, and of which nothing was handed over yet
    <trekkpliktig>/<order>  what was handed over of an order in its list
    /<order>                what the home of the order has published of it
    @observations           how far the home has decided on what was handed over to it
    @request/<id>           what the home has done so far for an operator request
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.state import NO_EVENT, NOT_HANDED_OVER, LaneState, ObservationOffsets, TrekkpliktigPosition
from producer.encode.state import (
    decode_event_cursor,
    decode_handed_over,
    decode_identity,
    decode_known_orders,
    decode_observation_offsets,
    decode_order_state,
    decode_position_and_results,
    decode_request_state,
    decode_results,
    encode_event_cursor,
    encode_handed_over,
    encode_identity,
    encode_known_orders,
    encode_observation_offsets,
    encode_order_state,
    encode_request_state,
    encode_schemas,
    encode_trekkpliktig_position,
    learn_schema,
)
from producer.publish.port import NO_HEADERS, Record
from producer.publish.topics import home_of, lane_of
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.errors import as_retryable
from trekkpaalegg.kafka.reader import STALLED_SECONDS_MAX, read_to_end

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from producer.detect.requests import RequestDecision
    from producer.domain.identity import Identity
    from producer.domain.requests import RequestResult, RequestState
    from producer.domain.state import EventCursor, HandedOver, OrderState, TrekkpliktigState


IDENTITY_KEY = b"lanes"
IDENTITY_PARTITION = 0
"""The partition in which commands and starts look for the identity."""

SEPARATOR = b"/"
EVENT_CURSOR = b"@events"
RESULTS = b"@results"
KNOWN = b"@known"
OBSERVATIONS_KEY = b"@observations"
REQUEST = b"@request"
SCHEMA = b"@schema"
KNOWN_BYTES_MAX = 500_000
"""Of all keys in one record; half of what a topic takes by default."""


def order_record(topic: str, lane: int, key: bytes, order: OrderState | None) -> Record:
    """What the home of the order with this key has published of it, None to forget it."""
    return Record(topic, SEPARATOR + key, None if order is None else encode_order_state(order), NO_HEADERS, lane)


def handed_over_record(topic: str, lane: int, trekkpliktig: str, key: bytes, handed_over: HandedOver | None) -> Record:
    """What was last handed over of the order with this key in the list of this trekkpliktig, None to forget it."""
    value = None if handed_over is None else encode_handed_over(handed_over)
    return Record(topic, trekkpliktig.encode() + SEPARATOR + key, value, NO_HEADERS, lane)


def known_records(topic: str, lane: int, trekkpliktig: str, keys: Collection[bytes]) -> list[Record]:
    """That the list of this trekkpliktig has shown these orders, of which nothing was handed over yet.

    One record takes the place of the former one. If the keys are too long for it, each order has one of its own.
    """
    if sum(map(len, keys)) > KNOWN_BYTES_MAX:
        return [handed_over_record(topic, lane, trekkpliktig, key, NOT_HANDED_OVER) for key in keys]
    return [Record(topic, trekkpliktig.encode() + KNOWN, encode_known_orders(keys), NO_HEADERS, lane)]


def position_record(
    topic: str, lane: int, trekkpliktig: str, position: TrekkpliktigPosition, results: Sequence[RequestResult] = ()
) -> Record:
    """How far the list of this trekkpliktig has been read, with the results of requests that end with that."""
    value = encode_trekkpliktig_position(position, results)
    return Record(topic, trekkpliktig.encode(), value, NO_HEADERS, lane)


def results_record(topic: str, lane: int, trekkpliktig: str, results: Sequence[RequestResult]) -> Record:
    """Results of requests for this trekkpliktig that were done by a lane other than its own."""
    value = encode_trekkpliktig_position(TrekkpliktigPosition(), results)
    return Record(topic, trekkpliktig.encode() + RESULTS, value, NO_HEADERS, lane)


def event_cursor_record(topic: str, lane: int, trekkpliktig: str, cursor: EventCursor) -> Record:
    """How far the Altinn events about this trekkpliktig have been read."""
    return Record(topic, trekkpliktig.encode() + EVENT_CURSOR, encode_event_cursor(cursor), NO_HEADERS, lane)


def observation_offsets_record(topic: str, lane: int, offsets: ObservationOffsets, show_since: int | None) -> Record:
    """How far the home has decided on observations, and since when lists are due to be handed over completely."""
    value = encode_observation_offsets(offsets, show_since)
    return Record(topic, OBSERVATIONS_KEY, value, NO_HEADERS, lane)


def request_record(topic: str, lane: int, request: str, state: RequestState | None) -> Record:
    """What the home has done so far for the operator request with this id, None once it has answered."""
    value = None if state is None else encode_request_state(state)
    return Record(topic, REQUEST + SEPARATOR + request.encode(), value, NO_HEADERS, lane)


def identity_record(topic: str, lane: int, identity: Identity) -> Record:
    """Whose topics these are."""
    return Record(topic, IDENTITY_KEY, encode_identity(identity), NO_HEADERS, lane)


def schema_records(topic: str, lane: int, recorded: Container[bytes]) -> list[Record]:
    """The schemas of all other records, but for those whose fingerprints are recorded there already.

    They go before the first record that is written with them: compaction keeps that order as long as each is written
    once.
    """
    return [
        Record(topic, SCHEMA + SEPARATOR + fingerprint.hex().encode(), value, NO_HEADERS, lane)
        for fingerprint, value in encode_schemas().items()
        if fingerprint not in recorded
    ]


def learn(key: bytes, value: bytes | None) -> bytes | None:
    """Learn the schema that this record holds, and return its fingerprint; None for a record of anything else.

    Whoever reads the partition does so before it decodes what follows. Raises `FatalError` for what is no such schema.
    """
    name, _, digits = key.partition(SEPARATOR)
    if name != SCHEMA:
        return None
    try:
        fingerprint = bytes.fromhex(digits.decode())
    except ValueError as error:
        raise FatalError("the positions topic holds a schema under a key that is no fingerprint") from error
    if value is not None:
        learn_schema(fingerprint, value)
    return fingerprint


def decision_records(
    topic: str, lane: int, trekkpliktig: str, decision: RequestDecision, state: TrekkpliktigState | None
) -> Iterator[Record]:
    """Records of a decided operator request; `state` is the trekkpliktig's, None when it has none.

    A state that is forgotten keeps the keys of its orders, so that those that its list no longer shows are handed over
    as absent. If there is none and the request leaves none, the last record is a tombstone, so that nothing remains of
    it once the result has been read.
    """
    if decision.forgets and state is not None:
        for key, nothing in dict.fromkeys(state.keys(), NOT_HANDED_OVER).items():
            yield handed_over_record(topic, lane, trekkpliktig, key, nothing)
    yield position_record(topic, lane, trekkpliktig, decision.position, decision.results)
    if state is None and decision.position == TrekkpliktigPosition():
        yield Record(topic, trekkpliktig.encode(), None, NO_HEADERS, lane)


def lane_of_key(key: bytes, lanes: int) -> int | None:
    """The lane, of so many, whose state a record with this key holds.

    None for what belongs to the topics that it stands in, and to no others: whose they are, offsets, requests that are
    being carried out or were, and schemas.
    """
    name, separator, order = key.partition(SEPARATOR)
    if separator and not name:
        return home_of(order, lanes)
    trekkpliktig = name.partition(b"@")[0]
    if not trekkpliktig or name == IDENTITY_KEY or name.endswith(RESULTS):
        return None
    return lane_of(trekkpliktig.decode(), lanes)


def is_schema(key: bytes) -> bool:
    """Whether a record with this key holds a schema that others are written with."""
    return key.partition(SEPARATOR)[0] == SCHEMA


def order_of(key: bytes) -> bytes | None:
    """The key of the order whose state, at its home, a record with this key holds; None for any other record."""
    return key.removeprefix(SEPARATOR) if key.startswith(SEPARATOR) else None


def lane_state_of(records: Iterable[tuple[bytes, bytes | None]], state: LaneState | None = None) -> LaneState:
    """The state after these records, (key, value) in the order of one partition.

    `state` is that before them, and is changed; None for an empty one. A record of the former layout that says how
    many lanes there are is no identity. Raises `FatalError` for a value that is not the producer's.
    """
    if state is None:
        state = LaneState()
    for key, value in records:
        name, separator, rest = key.partition(SEPARATOR)
        if not separator:
            _remember_other(state, key, value)
        elif not name:
            if value is None:
                state.orders.drop(rest)
            else:
                state.orders.remember(rest, decode_order_state(value))
        elif name == SCHEMA:
            _remember_schema(state, key, value)
        elif name == REQUEST:
            if value is None:
                state.requests.pop(rest.decode(), None)
            else:
                state.requests[rest.decode()] = decode_request_state(value)
        elif value is None:
            state.ensure(name.decode()).drop(rest)
        else:
            state.ensure(name.decode()).remember(rest, decode_handed_over(value))
    return state


def _remember_schema(state: LaneState, key: bytes, value: bytes | None) -> None:
    fingerprint = learn(key, value)
    if fingerprint is not None and value is not None:
        state.schemas.add(fingerprint)
    elif fingerprint is not None:
        state.schemas.discard(fingerprint)


def _remember_other(state: LaneState, key: bytes, value: bytes | None) -> None:
    """A record whose key has no separator."""
    if key == IDENTITY_KEY:
        state.identity = None if value is None else decode_identity(value)
    elif key == OBSERVATIONS_KEY:
        nothing = ObservationOffsets(), None
        state.observations, state.show_since = nothing if value is None else decode_observation_offsets(value)
    elif key.endswith(EVENT_CURSOR):
        cursor = NO_EVENT if value is None else decode_event_cursor(value)
        state.ensure(key.removesuffix(EVENT_CURSOR).decode()).event_cursor = cursor
    elif key.endswith(KNOWN):
        state.ensure(key.removesuffix(KNOWN).decode()).know([] if value is None else decode_known_orders(value))
    elif key.endswith(RESULTS):
        _complete(state, key.removesuffix(RESULTS).decode(), [] if value is None else decode_results(value))
    elif value is None:
        state.forget(key.decode())
    else:
        position, results = decode_position_and_results(value)
        state.ensure(key.decode()).position = position
        _complete(state, key.decode(), results)


def _complete(state: LaneState, trekkpliktig: str, results: Iterable[RequestResult]) -> None:
    for result in results:
        state.completed.add(trekkpliktig, result.request)


def read_lane_state(
    properties: Mapping[str, str], topic: str, lane: int, stalled_seconds_max: float = STALLED_SECONDS_MAX
) -> LaneState:
    """The committed state of a lane. Call it after the fence, so that nobody writes meanwhile.

    Raises `RetryableError` if the end was not reached: a part is never returned as the whole.
    """
    messages = read_partition(properties, topic, lane, stalled_seconds_max=stalled_seconds_max)
    return lane_state_of(key_values(messages))


def key_values(messages: Iterable[Message]) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and value of each message."""
    return ((message.key() or b"", message.value()) for message in messages)


def identity_of(records: Iterable[tuple[bytes, bytes | None]]) -> Identity | None:
    """Whose topics these are by the newest of these records, None if that was never recorded.

    Raises `FatalError` for a state of the former layout, which recorded the number of lanes alone.
    """
    newest: bytes | None = None
    for key, value in records:
        learn(key, value)
        if key == IDENTITY_KEY:
            newest = value
    if newest is None:
        return None
    identity = decode_identity(newest)
    if identity is None:
        raise FatalError(
            "the positions topic holds the state of a former layout, which this program does not write: stop all "
            "workers of the former program, and run `trekkpaalegg-producer position rebuild`, which makes the state "
            "again from the history"
        )
    return identity


def read_identity(
    properties: Mapping[str, str],
    topic: str,
    lane: int = IDENTITY_PARTITION,
    *,
    expected: Identity | None = None,
    role: str = "producer",
) -> Identity | None:
    """What `identity_of` finds in the lane's partition. Raises `RetryableError` also, as `read_lane_state`.

    With `expected` it reads no further than a record that says that. Whoever then acquires the lane reads the rest.
    """

    def records() -> Iterator[tuple[bytes, bytes | None]]:
        for key, value in key_values(read_partition(properties, topic, lane, role=role)):
            yield key, value
            if (
                expected is not None
                and key == IDENTITY_KEY
                and value is not None
                and decode_identity(value) == expected
            ):
                return

    return identity_of(records())


def has_identity(properties: Mapping[str, str], topic: str, lane: int, *, role: str = "producer") -> bool:
    """Whether it is recorded there whose topics these are: as `read_identity`, but reads no further than needed."""
    return any(key == IDENTITY_KEY for key, _ in key_values(read_partition(properties, topic, lane, role=role)))


def read_schemas(properties: Mapping[str, str], topic: str, lane: int, *, role: str = "producer") -> set[bytes]:
    """The fingerprints of the schemas that are recorded in the lane's partition. Raises as `read_lane_state`."""
    found = (learn(key, value) for key, value in key_values(read_partition(properties, topic, lane, role=role)))
    return {fingerprint for fingerprint in found if fingerprint is not None}


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
