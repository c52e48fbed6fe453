"""Event cursors in `…-positions`: they are read back, and not mistaken for other records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.verify.positions import KnownMissing
from producer.domain.state import NO_EVENT, EventCursor, OrderState, TrekkpliktigPosition
from producer.encode import state
from producer.publish.state import event_cursor_record, lane_state_of, state_records
from trekkpaalegg.errors import FatalError

ONE, OTHER = "311111111", "311111112"
TOPIC, LANE = "t-positions", 3
CURSOR = EventCursor("3fa85f64-5717-4562-b3fc-2c963f66afa6", 1_795_600_800_000_000)


def pairs(*records):
    return [(each.key, each.value) for each in records]


@given(st.builds(EventCursor, st.text(), st.none() | st.integers(0, 2**63 - 1)))
def test_a_cursor_comes_back(cursor):
    assert state.decode_event_cursor(state.encode_event_cursor(cursor)) == cursor


def test_bytes_that_are_no_cursor_are_an_error():
    with pytest.raises(FatalError):
        state.decode_event_cursor(state.encode_trekkpliktig_position(TrekkpliktigPosition(1)))
    with pytest.raises(FatalError):
        state.decode_event_cursor(state.encode_event_cursor(CURSOR)[:-3])


def test_it_goes_to_the_lane_s_partition_under_a_key_of_its_own():
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


def test_the_proof_of_consumers_passes_it_by():
    known = KnownMissing()
    known.add(*pairs(event_cursor_record(TOPIC, LANE, ONE, CURSOR))[0])
    assert known.records == 0
