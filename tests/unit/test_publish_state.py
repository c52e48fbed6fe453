"""The state of a lane is read back from its records, which do not get in each other's way."""

from __future__ import annotations

from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from producer.detect.requests import RequestDecision
from producer.domain.identity import Identity, TopicIdentity
from producer.domain.requests import OperatorRequest, RequestResult, RequestState
from producer.domain.state import (
    NO_EVENT,
    NOT_HANDED_OVER,
    EventCursor,
    HandedOver,
    Missing,
    ObservationOffsets,
    OrderState,
    TrekkpliktigPosition,
    TrekkpliktigState,
)
from producer.publish.state import (
    decision_records,
    event_cursor_record,
    handed_over_record,
    identity_of,
    identity_record,
    lane_of_key,
    lane_state_of,
    observation_offsets_record,
    order_of,
    order_record,
    position_record,
    request_record,
    results_record,
)
from producer.publish.topics import home_of, lane_of
from trekkpaalegg.errors import FatalError

ONE, OTHER = "311111111", "311111112"
TOPIC, LANE = "t-positions", 3
CURSOR = EventCursor("3fa85f64-5717-4562-b3fc-2c963f66afa6", 1_795_600_800_000_000)
HASH = b"12345678"
POSITION = TrekkpliktigPosition(7, requests=(OperatorRequest("r", "backfill", 5, asked=True, answered=(0, 2)),))
RESULT, LATER = (RequestResult(OperatorRequest(each, "release", 5), "done") for each in ("first", "later"))
OPEN = OrderState(3, HASH, 1, (Missing(2, 2, "HTTP 404"),), seen=4, readers=(ONE,), tried_at=9)
HANDED = HandedOver(3, HASH, 1)
OFFSETS = ObservationOffsets(12, 34)
REQUEST = RequestState(ONE, 5, 6)
IDENTITY = Identity(6, "app", "cluster", (TopicIdentity("t-versjoner", "id", 6),))
RECORDS = {
    b"lanes": identity_record(TOPIC, LANE, IDENTITY),
    b"311111111": position_record(TOPIC, LANE, ONE, POSITION, [RESULT]),
    b"311111111@events": event_cursor_record(TOPIC, LANE, ONE, CURSOR),
    b"311111111@results": results_record(TOPIC, LANE, ONE, [LATER]),
    b"311111111/A": handed_over_record(TOPIC, LANE, ONE, b"A", HANDED),
    b"311111111/a/b@events": handed_over_record(TOPIC, LANE, ONE, b"a/b@events", HANDED),
    b"311111112/@request": handed_over_record(TOPIC, LANE, OTHER, b"@request", NOT_HANDED_OVER),
    b"/A": order_record(TOPIC, LANE, b"A", OPEN),
    b"/a/b@events": order_record(TOPIC, LANE, b"a/b@events", OrderState(3, HASH, 1)),
    b"/#00ff": order_record(TOPIC, LANE, b"#00ff", OrderState(rejected=(b"\x00\xff",))),
    b"/@observations": order_record(TOPIC, LANE, b"@observations", OPEN),
    b"/lanes": order_record(TOPIC, LANE, b"lanes", OPEN),
    b"@observations": observation_offsets_record(TOPIC, LANE, OFFSETS, 8),
    b"@request/r": request_record(TOPIC, LANE, "r", REQUEST),
    b"@request/a/b": request_record(TOPIC, LANE, "a/b", REQUEST),
}


def pairs(*records):
    return [(each.key, each.value) for each in records]


def handed_over_of(known):
    return {key: known.handed_over(key) for key in list(known.keys())}


def content_of(state):
    """All that a lane's state says, apart from completed requests."""
    return {
        "identity": state.identity,
        "orders": {key: state.orders.order(key) for key in state.orders},
        "observations": (state.observations, state.show_since),
        "requests": state.requests,
        "positions": {name: known.position for name, known in state if known.position != TrekkpliktigPosition()},
        "cursors": {name: known.event_cursor for name, known in state if known.event_cursor != NO_EVENT},
        "handed over": {name: handed_over_of(known) for name, known in state if len(known)},
    }


def test_every_record_goes_to_the_partition_of_its_lane_under_its_key():
    for key, record in RECORDS.items():
        assert (record.topic, record.key, record.partition, record.headers) == (TOPIC, key, LANE, {})


@given(st.permutations(list(RECORDS.values())))
def test_all_kinds_are_kept_side_by_side_in_whatever_order(records):
    state = lane_state_of(pairs(*records))
    assert content_of(state) == {
        "identity": IDENTITY,
        "orders": {
            b"A": OPEN,
            b"a/b@events": OrderState(3, HASH, 1),
            b"#00ff": OrderState(rejected=(b"\x00\xff",)),
            b"@observations": OPEN,
            b"lanes": OPEN,
        },
        "observations": (OFFSETS, 8),
        "requests": {"r": REQUEST, "a/b": REQUEST},
        "positions": {ONE: POSITION},
        "cursors": {ONE: CURSOR},
        "handed over": {ONE: {b"A": HANDED, b"a/b@events": HANDED}, OTHER: {b"@request": NOT_HANDED_OVER}},
    }
    assert all(state.completed.has(ONE, each.request) for each in (RESULT, LATER))


@pytest.mark.parametrize("key", [key for key in RECORDS if key != b"311111111"])
def test_a_tombstone_leaves_nothing_of_its_record_and_all_of_the_others(key):
    state = lane_state_of([*pairs(*RECORDS.values()), (key, None)])
    assert content_of(state) == content_of(lane_state_of(pairs(*[RECORDS[each] for each in RECORDS if each != key])))


def test_a_tombstone_of_the_position_forgets_the_trekkpliktig():
    state = lane_state_of([*pairs(*RECORDS.values()), (b"311111111", None)])
    assert [name for name, _ in state] == [OTHER]
    assert set(state.orders) == set(lane_state_of(pairs(*RECORDS.values())).orders)


def test_forgotten_records_are_tombstones():
    for record in (
        order_record(TOPIC, LANE, b"A", None),
        handed_over_record(TOPIC, LANE, ONE, b"A", None),
        request_record(TOPIC, LANE, "r", None),
    ):
        assert record.value is None
        assert record.key in RECORDS or record.key == b"311111111/A"


def test_results_of_another_lane_make_no_trekkpliktig():
    state = lane_state_of(pairs(results_record(TOPIC, LANE, ONE, [RESULT])))
    assert len(state) == 0
    assert state.completed.has(ONE, RESULT.request)


def test_a_later_part_of_the_records_is_added_to_a_state():
    before = lane_state_of(pairs(*RECORDS.values()))
    newer = OrderState(4, HASH, 1)
    after = lane_state_of(pairs(order_record(TOPIC, LANE, b"A", newer)), before)
    assert after is before
    assert after.orders.order(b"A") == newer


def test_a_state_is_that_of_another_lane_where_there_are_more_and_some_of_it_of_none():
    """Whose the topics are, offsets and what becomes of requests belong to the topics in which they stand."""
    lanes = {key: lane_of_key(key, 97) for key in RECORDS}
    of_none = [key for key, lane in lanes.items() if lane is None]
    assert of_none == [b"lanes", b"311111111@results", b"@observations", b"@request/r", b"@request/a/b"]
    of_homes = {key: lane for key, lane in lanes.items() if key.startswith(b"/")}
    assert of_homes == {key: home_of(key[1:], 97) for key in of_homes} != {}
    others = lanes.keys() - of_homes.keys() - set(of_none)
    assert {lanes[key] for key in others} == {lane_of(ONE, 97), lane_of(OTHER, 97)}


def test_an_orders_key_is_that_of_its_state_at_home_alone():
    homes = {key: order_of(key) for key in RECORDS if key.startswith(b"/")}
    assert homes == {key: key[1:] for key in homes}
    assert all(order_of(key) is None for key in RECORDS if key not in homes)


@pytest.mark.parametrize("key", [b"lanes", b"@observations", b"@request/r", b"/A", b"311111111/A", b"311111111"])
def test_a_value_that_is_not_the_producers_is_fatal(key):
    with pytest.raises(FatalError, match="positions topic"):
        lane_state_of([(key, b"\xc3\x01 of a newer program")])


# Operator requests


def test_forgetting_keeps_the_keys_so_that_the_orders_are_followed():
    known = TrekkpliktigState()
    known.remember_all({b"A": HANDED, b"B": HANDED})
    decision = RequestDecision(TrekkpliktigPosition(forgotten_by="f"), (RESULT,), forgets=True)
    before = pairs(handed_over_record(TOPIC, LANE, ONE, b"A", HANDED))
    state = lane_state_of([*before, *pairs(*decision_records(TOPIC, LANE, ONE, decision, known))])
    assert handed_over_of(state.of(ONE)) == dict.fromkeys((b"A", b"B"), NOT_HANDED_OVER)
    assert state.of(ONE).position == decision.position
    assert state.completed.has(ONE, RESULT.request)


@pytest.mark.parametrize(
    ("position", "known", "remains"),
    [
        (TrekkpliktigPosition(), None, False),
        (TrekkpliktigPosition(suspended_at=5), None, True),
        (TrekkpliktigPosition(), TrekkpliktigState(), True),
    ],
)
def test_nothing_remains_of_a_request_for_one_of_whom_nothing_is_known(position, known, remains):
    records = list(decision_records(TOPIC, LANE, ONE, RequestDecision(position, (RESULT,)), known))
    assert (records[-1].value is None) is not remains
    state = lane_state_of(pairs(*records))
    assert len(state) == remains
    assert state.completed.has(ONE, RESULT.request)


# Whose topics these are


def test_the_newest_identity_counts():
    adopted = Identity(6, "renamed", "cluster", IDENTITY.topics)
    records = pairs(*RECORDS.values(), identity_record(TOPIC, LANE, adopted))
    assert identity_of(records) == adopted


def test_identity_that_was_never_recorded_is_none():
    assert identity_of(pairs(RECORDS[b"/lanes"], RECORDS[b"311111111"])) is None


def test_a_state_of_the_former_layout_is_refused_with_the_remedy():
    buffer = BytesIO()
    former = schemas.versions("lane_count")[0]
    fastavro.schemaless_writer(buffer, former.parsed, {"lanes": 6})
    record = (b"lanes", b"\xc3\x01" + former.fingerprint + buffer.getvalue())
    with pytest.raises(FatalError, match="position rebuild"):
        identity_of([record])
    assert lane_state_of([record]).identity is None
