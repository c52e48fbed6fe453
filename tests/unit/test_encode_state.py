"""State records are decoded as they were encoded, and invalid bytes never become an empty state."""

from __future__ import annotations

from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from consumers.verify.positions import KnownMissing
from producer.domain.state import NO_EVENT, EventCursor, OrderState, TrekkpliktigPosition
from producer.encode import state
from producer.publish.state import event_cursor_record, lane_state_of, state_records
from trekkpaalegg.errors import FatalError

# State records are decoded as they were encoded, and invalid bytes never become an empty state
longs = st.integers(0, 2**63 - 1)
ints = st.integers(0, 2**31 - 1)
orders = st.builds(
    OrderState,
    trekkversjon=longs,
    content_hash=st.binary(min_size=8, max_size=8),
    content_hash_version=ints,
    missing=st.lists(st.tuples(longs, longs), max_size=3).map(tuple),
    rejected=st.lists(st.binary(max_size=32), max_size=3).map(tuple),
    corrections=st.lists(st.tuples(longs, ints), max_size=3).map(tuple),
    failing_since=st.none() | longs,
)
positions = st.builds(TrekkpliktigPosition, position=longs, reconciled_at=st.none() | longs)


@given(order=orders)
def test_order_state_survives_a_round_trip(order: OrderState) -> None:
    assert state.decode_order_state(state.encode_order_state(order)) == order


@given(
    order=st.builds(OrderState, st.integers(-70, 70), st.binary(min_size=7, max_size=9), st.integers(-1, 70)),
    other=st.binary(min_size=4, max_size=4),
)
def test_short_order_state_is_read_as_fastavro_reads_it(order: OrderState, other: bytes) -> None:
    value = state.encode_order_state(order)
    assert state.decode_order_state(value) == order
    damaged = value[:-4] + other
    try:
        schema = schemas.load("order_state")
        expected = fastavro.schemaless_reader(BytesIO(damaged[10:]), schema.parsed)
    except (EOFError, ValueError, IndexError, OverflowError):
        return
    assert state.decode_order_state(damaged).trekkversjon == expected["trekkversjon"]
    assert len(state.decode_order_state(damaged).missing) == len(expected["missing"])


@given(position=positions)
def test_a_position_survives_a_round_trip(position: TrekkpliktigPosition) -> None:
    assert state.decode_trekkpliktig_position(state.encode_trekkpliktig_position(position)) == position


def test_the_lane_count_survives_a_round_trip() -> None:
    assert state.decode_lane_count(state.encode_lane_count(6)) == 6


def test_records_carry_the_fingerprint_of_their_schema() -> None:
    assert state.encode_lane_count(6)[:10] == b"\xc3\x01" + schemas.load("lane_count").fingerprint


@pytest.mark.parametrize("value", [b"", b"\xc3\x01", b"\x00\x00\x00\x00\x01\x02", state.encode_lane_count(6)])
def test_foreign_bytes_are_fatal_not_empty(value: bytes) -> None:
    with pytest.raises(FatalError, match="no order_state of any released schema"):
        state.decode_order_state(value)


def test_record_that_is_cut_off_is_fatal() -> None:
    whole = state.encode_order_state(OrderState(3, b"12345678", 1, missing=((1, 2),)))
    for length in range(10, len(whole)):
        with pytest.raises(FatalError, match="cut off"):
            state.decode_order_state(whole[:length])


@given(order=orders | st.builds(OrderState, longs, st.binary(min_size=8, max_size=8), ints))
def test_order_state_is_written_as_fastavro_writes_it(order: OrderState) -> None:
    datum = {
        **msgspec.structs.asdict(order),
        "missing": [{"first": first, "last": last} for first, last in order.missing],
        "corrections": [{"trekkversjon": version, "corrections": count} for version, count in order.corrections],
    }
    schema, buffer = schemas.load("order_state"), BytesIO()
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    assert state.encode_order_state(order) == b"\xc3\x01" + schema.fingerprint + buffer.getvalue()


# Event cursors in `…-positions`: they are read back, and not mistaken for other records
ONE, OTHER = "311111111", "311111112"
TOPIC, LANE = "t-positions", 3
CURSOR = EventCursor("3fa85f64-5717-4562-b3fc-2c963f66afa6", 1_795_600_800_000_000)


def pairs(*records):
    return [(each.key, each.value) for each in records]


@given(st.builds(EventCursor, st.text(), st.none() | st.integers(0, 2**63 - 1)))
def test_a_cursor_survives_a_round_trip(cursor):
    assert state.decode_event_cursor(state.encode_event_cursor(cursor)) == cursor


def test_bytes_that_are_no_cursor_are_an_error():
    with pytest.raises(FatalError):
        state.decode_event_cursor(state.encode_trekkpliktig_position(TrekkpliktigPosition(1)))
    with pytest.raises(FatalError):
        state.decode_event_cursor(state.encode_event_cursor(CURSOR)[:-3])


def test_a_cursor_is_written_to_its_lanes_partition_under_its_own_key():
    record = event_cursor_record(TOPIC, LANE, ONE, CURSOR)
    assert (record.topic, record.key, record.partition, record.headers) == (TOPIC, b"311111111@events", LANE, {})


@pytest.mark.parametrize("cursor_first", [True, False])
def test_position_orders_and_cursor_are_kept_side_by_side(cursor_first):
    cursor = event_cursor_record(TOPIC, LANE, ONE, CURSOR)
    others = [*state_records(TOPIC, LANE, ONE, TrekkpliktigPosition(7), {b"A@events": OrderState(1)})]
    read = lane_state_of(pairs(*([cursor, *others] if cursor_first else [*others, cursor])))
    assert [name for name, _ in read] == [ONE]
    assert read.of(ONE).event_cursor == CURSOR
    assert read.of(ONE).position.position == 7
    assert list(read.of(ONE).keys()) == [b"A@events"]
    assert read.of(OTHER).event_cursor is NO_EVENT


def test_a_cursor_without_a_value_is_none():
    read = lane_state_of([*pairs(event_cursor_record(TOPIC, LANE, ONE, CURSOR)), (b"311111111@events", None)])
    assert read.of(ONE).event_cursor == NO_EVENT


def test_consumers_ignore_its_records():
    known = KnownMissing()
    known.add(*pairs(event_cursor_record(TOPIC, LANE, ONE, CURSOR))[0])
    assert known.records == 0
