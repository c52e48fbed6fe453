"""State records are decoded as they were encoded, as fastavro would, and invalid bytes never become an empty state."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from producer.domain.identity import Identity, TopicIdentity
from producer.domain.requests import OperatorRequest, RequestResult, RequestState
from producer.domain.state import (
    NOT_HANDED_OVER,
    EventCursor,
    Failing,
    HandedOver,
    Missing,
    ObservationOffsets,
    OrderState,
    TrekkpliktigPosition,
)
from producer.encode import state
from trekkpaalegg.errors import FatalError

longs = st.integers(0, 2**63 - 1)
ints = st.integers(0, 2**31 - 1)
hashes = st.binary(min_size=8, max_size=8)
orders = st.builds(
    OrderState,
    trekkversjon=longs,
    content_hash=hashes,
    content_hash_version=ints,
    missing=st.lists(st.builds(Missing, longs, longs, st.text(max_size=9)), max_size=3).map(tuple),
    rejected=st.lists(st.binary(max_size=32), max_size=3).map(tuple),
    corrections=st.lists(st.tuples(longs, ints), max_size=3).map(tuple),
    seen=st.just(0) | longs,
    failing=st.lists(st.builds(Failing, longs, longs, longs), max_size=3).map(tuple),
    readers=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    tried_at=st.none() | longs,
)
plain_orders = st.builds(OrderState, longs, hashes, ints)
handed_over = st.builds(HandedOver, longs, hashes, ints)
requests = st.builds(
    OperatorRequest,
    id=st.text(),
    kind=st.text(),
    asked_at=longs,
    position=st.none() | longs,
    orders_read=longs,
    published=longs,
    quarantined=longs,
    record=st.none(),
    correction=st.just(value=False),
    asked=st.booleans(),
    answered=st.lists(ints, max_size=3).map(tuple),
    vanished=longs,
    position_lowered=st.booleans(),
)
positions = st.builds(
    TrekkpliktigPosition,
    position=longs,
    reconciled_at=st.none() | longs,
    suspended_at=st.none() | longs,
    forgotten_by=st.none() | st.text(),
    requests=st.lists(requests, max_size=2).map(tuple),
    shown_at=st.none() | longs,
    unidentified=longs,
    unidentified_since=st.none() | longs,
)
results = st.lists(
    st.builds(
        RequestResult,
        request=requests,
        outcome=st.sampled_from(["done", "failed", "refused"]),
        detail=st.text(),
        vanished=longs,
        position_lowered=st.booleans(),
    ),
    max_size=2,
)
identities = st.builds(
    Identity,
    lanes=ints,
    application_id=st.text(),
    cluster_id=st.text(),
    topics=st.lists(st.builds(TopicIdentity, st.text(), st.text(), ints), max_size=3).map(tuple),
)
PAIRS = [
    (st.lists(st.binary(max_size=40)), state.encode_known_orders, state.decode_known_orders),
    (orders | plain_orders, state.encode_order_state, state.decode_order_state),
    (handed_over, state.encode_handed_over, state.decode_handed_over),
    (positions, state.encode_trekkpliktig_position, state.decode_trekkpliktig_position),
    (
        st.builds(EventCursor, st.text(), st.none() | longs),
        state.encode_event_cursor,
        state.decode_event_cursor,
    ),
    (
        st.builds(RequestState, st.text(), longs, longs),
        state.encode_request_state,
        state.decode_request_state,
    ),
    (identities, state.encode_identity, state.decode_identity),
    (
        st.tuples(st.builds(ObservationOffsets, longs, longs), st.none() | longs),
        lambda each: state.encode_observation_offsets(*each),
        state.decode_observation_offsets,
    ),
]
FORMER_ORDER, ORDER = schemas.versions("order_state")[:2]
FORMER_LANE_COUNT = schemas.versions("lane_count")[0]


def written(schema: schemas.Schema, datum: dict[str, Any]) -> bytes:
    """As fastavro writes it, in single-object encoding."""
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    return b"\xc3\x01" + schema.fingerprint + buffer.getvalue()


@pytest.mark.parametrize(("values", "encode", "decode"), PAIRS, ids=lambda each: getattr(each, "__name__", None))
@given(data=st.data())
def test_every_record_survives_a_round_trip(values, encode, decode, data):
    value = data.draw(values)
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("name", "struct", "others"),
    [
        ("order_state", OrderState, set()),
        ("handed_over", HandedOver, set()),
        ("event_cursor", EventCursor, set()),
        ("request_state", RequestState, set()),
        ("lane_count", Identity, set()),
        ("observation_offsets", ObservationOffsets, {"show_since"}),
        ("trekkpliktig_state", TrekkpliktigPosition, {"wishes", "answers"}),
    ],
)
def test_schema_has_every_field(name, struct, others):
    """What a schema lacks fastavro passes over, so that a field could be lost unseen."""
    fields = set(struct.__struct_fields__) - {"requests"} | others
    assert fields == {field["name"] for field in schemas.load(name).parsed["fields"]}


def test_schema_has_every_field_of_a_request_that_is_kept():
    fields = {field["name"]: field["type"] for field in schemas.load("trekkpliktig_state").parsed["fields"]}
    kept = {field["name"] for field in fields["wishes"]["items"]["fields"]}
    assert kept == set(OperatorRequest.__struct_fields__) - {"record", "correction"}


@given(position=positions, answers=results)
def test_a_position_and_the_results_with_it_survive_a_round_trip(position, answers):
    value = state.encode_trekkpliktig_position(position, answers)
    assert state.decode_position_and_results(value) == (position, answers)
    assert state.decode_results(value) == answers


@pytest.mark.parametrize("decode", [pair[2] for pair in PAIRS], ids=lambda each: each.__name__)
def test_bytes_of_another_kind_are_fatal_not_empty(decode):
    cursor = state.encode_event_cursor(EventCursor("7"))
    other = state.encode_request_state(RequestState("311111111")) if decode is state.decode_event_cursor else cursor
    for value in (b"", b"\xc3\x01", b"\x00\x00\x00\x00\x01\x02", other):
        with pytest.raises(FatalError, match="of any released schema"):
            decode(value)


@pytest.mark.parametrize(
    ("value", "decode"),
    [
        (state.encode_order_state(OrderState(3, b"12345678", 1)), state.decode_order_state),
        (state.encode_order_state(OrderState(3, b"12345678", 1, (Missing(1, 2),))), state.decode_order_state),
        (state.encode_handed_over(HandedOver(3, b"12345678", 1)), state.decode_handed_over),
        (state.encode_event_cursor(EventCursor("3fa85f64", 1_795_600_800_000_000)), state.decode_event_cursor),
        (state.encode_identity(Identity(6, "app", "cluster", (TopicIdentity("t", "i", 6),))), state.decode_identity),
    ],
)
def test_record_that_is_cut_off_is_fatal(value, decode):
    for length in range(10, len(value)):
        with pytest.raises(FatalError, match="cut off"):
            decode(value[:length])


# The records of which a back-fill writes a million are assembled without fastavro


@given(order=orders | plain_orders | st.builds(OrderState, st.integers(0, 70), hashes, st.integers(0, 70)))
def test_an_order_state_is_written_as_fastavro_writes_it(order):
    datum = {
        **msgspec.structs.asdict(order),
        "missing": [msgspec.structs.asdict(each) for each in order.missing],
        "failing": [msgspec.structs.asdict(each) for each in order.failing],
        "corrections": [{"trekkversjon": version, "corrections": count} for version, count in order.corrections],
    }
    assert state.encode_order_state(order) == written(ORDER, datum)


@given(each=handed_over | st.builds(HandedOver, st.integers(0, 70), st.binary(max_size=9), st.integers(0, 70)))
def test_what_was_handed_over_is_written_as_fastavro_writes_it(each):
    assert state.encode_handed_over(each) == written(schemas.load("handed_over"), msgspec.structs.asdict(each))


@given(
    order=st.builds(OrderState, st.integers(-70, 70), st.binary(min_size=7, max_size=9), st.integers(-70, 70)),
    other=st.binary(min_size=7, max_size=7),
)
def test_a_short_order_state_is_read_as_fastavro_reads_it(order, other):
    value = state.encode_order_state(order)
    assert state.decode_order_state(value) == order
    damaged = value[:-7] + other
    try:
        expected = fastavro.schemaless_reader(BytesIO(damaged[10:]), ORDER.parsed)
    except (EOFError, ValueError, IndexError, OverflowError):
        return
    found = state.decode_order_state(damaged)
    assert (found.trekkversjon, found.seen) == (expected["trekkversjon"], expected["seen"])
    assert len(found.missing) == len(expected["missing"])


@given(each=st.builds(HandedOver, st.integers(-70, 70), st.binary(min_size=7, max_size=9), st.integers(-70, 70)))
def test_short_bytes_of_what_was_handed_over_are_read_as_fastavro_reads_them(each):
    assert state.decode_handed_over(state.encode_handed_over(each)) == each


# Records of the former layout


@given(order=plain_orders, since=st.none() | longs)
def test_a_former_order_state_is_what_was_handed_over(order, since):
    datum = {**msgspec.structs.asdict(order), "missing": [{"first": 1, "last": 2}], "failing_since": since}
    expected = HandedOver(order.trekkversjon, order.content_hash, order.content_hash_version)
    assert state.decode_handed_over(written(FORMER_ORDER, datum)) == expected


def test_a_former_order_of_which_nothing_was_published_was_not_handed_over():
    former = {**msgspec.structs.asdict(OrderState()), "rejected": [b"hash"]}
    assert state.decode_handed_over(written(FORMER_ORDER, former)) == NOT_HANDED_OVER


def test_what_a_former_order_says_is_missing_is_read_and_nothing_else_is_taken_for_one():
    datum = {**msgspec.structs.asdict(OrderState(4)), "missing": [{"first": 1, "last": 2}], "rejected": [b"hash"]}
    expected = OrderState(4, missing=(Missing(1, 2),), rejected=(b"hash",))
    assert state.decode_former_order(written(FORMER_ORDER, datum)) == expected
    assert state.decode_former_order(state.encode_order_state(OrderState(4))) is None
    assert state.decode_former_order(state.encode_handed_over(HandedOver(4))) is None


def test_an_order_state_of_a_home_is_not_taken_for_what_was_handed_over():
    with pytest.raises(FatalError, match="no handed_over of any released schema"):
        state.decode_handed_over(state.encode_order_state(OrderState(3, b"12345678", 1)))


def test_a_former_number_of_lanes_is_no_identity():
    assert state.decode_identity(written(FORMER_LANE_COUNT, {"lanes": 6})) is None


@pytest.mark.parametrize(("version", "kept"), [(1, ()), (2, (OperatorRequest("r", "backfill", 5),))])
def test_a_former_position_is_read(version, kept):
    former = schemas.versions("trekkpliktig_state")[version - 1]
    wishes = [{"id": "r", "kind": "backfill", "asked_at": 5}]
    value = written(former, {"position": 7, "reconciled_at": 3, "wishes": wishes})
    assert state.decode_trekkpliktig_position(value) == TrekkpliktigPosition(7, 3, requests=kept)
