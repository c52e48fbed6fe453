"""State records are decoded as they were encoded, and invalid bytes are not taken for an empty state."""

from __future__ import annotations

from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from producer.domain.state import OrderState, TrekkpliktigPosition
from producer.encode import state
from trekkpaalegg.errors import FatalError

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
def test_order_state_comes_back(order: OrderState) -> None:
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
def test_position_comes_back(position: TrekkpliktigPosition) -> None:
    assert state.decode_trekkpliktig_position(state.encode_trekkpliktig_position(position)) == position


def test_lane_count_comes_back() -> None:
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
