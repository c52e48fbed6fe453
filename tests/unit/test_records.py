"""The records of a transaction; a version that cannot be encoded is quarantined instead."""

from __future__ import annotations

from functools import partial
from random import Random

import msgspec
import pytest

import schemas
from producer.detect.detect import Context, detect, detect_encodable
from producer.detect.requests import decide_request
from producer.domain.requests import OperatorRequest
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Gone, Origin, Rejected, RejectionReason, Trekkstatus
from producer.encode.avro import reference_encoder, single_object_prefix
from producer.encode.state import decode_results
from producer.lane.reading import Reading
from producer.publish.port import ANY_PARTITION
from producer.publish.state import LANE_COUNT_KEY, decision_records, lane_state_of
from producer.source.port import Page
from tests.kit.fakes.publisher import FakeKafka
from tests.kit.fakes.source import make_trekkpaalegg
from tests.kit.stages.lane_stage import build_records

ONE = "311111111"
LANE = 3
NOW = 1_790_000_000_000_000
KAFKA = FakeKafka(6)
TOPICS = KAFKA.topics
CONTEXT = Context(ONE, frozenset({ONE}), Origin.POLL, NOW)
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
LARGE = {"x": "y" * 5000}


def version(trekkid="A", trekkversjon=1, sekvensnummer=1, **changes):
    named = {"trekkid": trekkid, "trekkversjon": trekkversjon, "sekvensnummer": sekvensnummer}
    return msgspec.structs.replace(TEMPLATE, **named, **changes)


def decided(*elements, versions=None, state=None, **changes):
    """What one chunk leads to, and its records."""
    reading = Reading(ONE, Origin.POLL, 0, 0, full=False)
    reading.add_page(Page(list(elements), None))
    state = TrekkpliktigState() if state is None else state
    reading.cut_chunk(state)
    for wanted, fetched in (versions or {}).items():
        reading.add_version(wanted, fetched)
    context = msgspec.structs.replace(CONTEXT, **changes)
    encode = partial(build_records(KAFKA, event_bytes_max=4000).of_detection, LANE, state, context)
    return detect_encodable(state, reading.elements(), reading.versions, context, encode)


def topics_of(records):
    return [record.topic.removeprefix("fake-") for record in records]


def test_event_goes_to_history_and_newest_with_the_same_bytes_and_the_state_to_the_partition_of_its_lane():
    _, records = decided(version())
    assert topics_of(records) == ["versjoner", "gjeldende", "positions", "positions"]
    event, current, position, order = records
    assert (event.key, event.partition) == (b"A", ANY_PARTITION)
    assert (event.value, event.headers) == (current.value, current.headers)
    schema = schemas.load("trekkpaalegg_versjon")
    assert event.value == reference_encoder(schema, single_object_prefix(schema.fingerprint))(version())
    assert [(position.key, position.partition), (order.key, order.partition)] == [
        (ONE.encode(), LANE),
        (b"311111111/A", LANE),
    ]
    state = lane_state_of((record.key, record.value) for record in (position, order))
    assert state.of(ONE).position == TrekkpliktigPosition(1)
    assert state.of(ONE).newest(b"A") == 1


def test_an_event_that_names_an_unknown_trekkpliktig_says_for_whom_it_was_read():
    _, [foreign, newest, *_] = decided(version(trekkpliktig="399999999"))
    assert foreign.headers == newest.headers
    assert (foreign.headers["ce_trekkpliktig"], foreign.headers["ce_readfor"]) == (b"399999999", ONE.encode())
    _, [own, *_] = decided(version())
    assert "ce_readfor" not in own.headers


def test_late_version_goes_to_the_history_alone():
    state = TrekkpliktigState()
    state.remember(b"A", OrderState(2, bytes(8), 1, missing=((1, 1),)))
    _, records = decided(version(), state=state, moves_position=False)
    assert topics_of(records) == ["versjoner", "positions"]
    assert records[0].headers["ce_late"] == b"true"


def test_versions_of_an_order_are_written_in_rising_order_before_quarantine_and_state():
    bad = Rejected(ONE, b"[]", bytes(16), RejectionReason.NOT_AN_OBJECT, "$", "")
    _, records = decided(bad, version(trekkversjon=2), versions={("A", 1): version()})
    assert topics_of(records) == [*("versjoner", "gjeldende") * 2, "quarantine", *("positions",) * 3]
    assert [record.headers["ce_id"] for record in records[:4]] == [b"A/1", b"A/1", b"A/2", b"A/2"]


def test_nothing_decided_makes_no_records_and_a_position_that_does_not_move_is_not_written():
    state = TrekkpliktigState(TrekkpliktigPosition(9, 5))
    detection, _ = decided(version(), state=state)
    state.remember_all(detection.orders)
    assert decided(version(), state=state)[1] == []


def test_position_keeps_when_all_was_last_compared():
    state = TrekkpliktigState(TrekkpliktigPosition(0, 5))
    _, records = decided(version(), state=state)
    state = lane_state_of((record.key, record.value) for record in records if record.topic == TOPICS.positions)
    assert state.of(ONE).position == TrekkpliktigPosition(1, 5)


def test_version_that_does_not_fit_is_quarantined_and_recorded_as_missing_while_the_others_are_published():
    detection, records = decided(version(ukjente_felter=LARGE), version("B", 1, 2))
    assert topics_of(records) == ["versjoner", "gjeldende", "quarantine", *("positions",) * 3]
    assert detection.rejected[0].reason is RejectionReason.TOO_LARGE
    assert detection.orders[b"A"].missing == ((1, 1),)
    assert detection.position == 2


def test_version_between_that_does_not_fit_is_published_around():
    large = version(ukjente_felter=LARGE)
    detection, _ = decided(version(trekkversjon=2), versions={("A", 1): large})
    assert [each.trekkpaalegg.trekkversjon for each in detection.publications] == [2]
    assert detection.orders[b"A"].missing == ((1, 1),)
    assert detection.rejected[0].trekkversjon == 1


def test_several_that_do_not_fit_are_each_quarantined():
    versions = {("A", 1): version(ukjente_felter=LARGE), ("A", 2): Gone()}
    detection, _ = decided(
        version("B", 1, 1, ukjente_felter=LARGE), version("A", 3, 2, ukjente_felter=LARGE), versions=versions
    )
    assert detection.publications == []
    assert sorted((each.trekkid, each.trekkversjon) for each in detection.rejected) == [("A", 1), ("A", 3), ("B", 1)]
    assert detection.orders[b"A"].missing == ((1, 3),)


def test_correction_that_does_not_fit_is_quarantined_once():
    """Its content differs from what was published: without its hash, each reading would quarantine it again."""
    state = TrekkpliktigState()
    state.remember_all(detect(state, [version()], {}, CONTEXT).orders)
    ended = version(trekkstatus=Trekkstatus.AVSLUTTET, ukjente_felter=LARGE)
    first, _ = decided(ended, state=state)
    assert [each.reason for each in first.rejected] == [RejectionReason.TOO_LARGE]
    state.remember_all(first.orders)
    again, _ = decided(ended, state=state)
    assert (again.publications, again.rejected) == ([], [])


def test_position_alone_is_one_record():
    [record] = build_records(KAFKA).of_position(LANE, ONE, TrekkpliktigPosition(7, 8))
    assert (record.topic, record.key, record.partition) == (TOPICS.positions, ONE.encode(), LANE)


def test_state_is_read_from_its_records_among_those_of_others():
    builder = build_records(KAFKA)
    records = [*builder.of_position(LANE, ONE, TrekkpliktigPosition(7)), *decided(version("A/B"), version("C"))[1]]
    pairs = [(each.key, each.value) for each in records if each.topic == TOPICS.positions]
    state = lane_state_of([(LANE_COUNT_KEY, b"whatever"), *pairs])
    assert [name for name, _ in state] == [ONE]
    assert sorted(state.of(ONE).keys()) == [b"A/B", b"C"]


def test_forgetting_leaves_only_the_id_of_the_request():
    _, records = decided(version("A"), version("B"))
    pairs = [(each.key, each.value) for each in records if each.topic == TOPICS.positions]
    before = lane_state_of(pairs).of(ONE)
    decision = decide_request(OperatorRequest("w", "forget", 0), before.position, len(before), 0, is_served=True)
    forgetting = list(decision_records(TOPICS.positions, LANE, ONE, decision, before))
    assert {each.key for each in forgetting} == {key for key, _ in pairs}
    assert {each.partition for each in forgetting} == {LANE}
    state = lane_state_of([*pairs, *[(each.key, each.value) for each in forgetting]])
    assert (len(state.of(ONE)), state.of(ONE).position) == (0, TrekkpliktigPosition(forgotten_by="w"))


def test_answer_about_one_of_whom_nothing_is_known_leaves_nothing_behind():
    decision = decide_request(OperatorRequest("w", "backfill", 0), TrekkpliktigPosition(), 0, 0, is_served=False)
    records = list(decision_records(TOPICS.positions, LANE, ONE, decision, None))
    assert [each.outcome for each in decode_results(records[0].value)] == ["refused"]
    assert list(lane_state_of((each.key, each.value) for each in records)) == []


def test_order_alone_can_be_forgotten():
    _, records = decided(version("A"), version("B"))
    pairs = [(each.key, each.value) for each in records if each.topic == TOPICS.positions]
    state = lane_state_of([*pairs, (b"311111111/A", None)])
    assert list(state.of(ONE).keys()) == [b"B"]
    assert state.of(ONE).position.position == 1


@pytest.mark.parametrize("origin", [Origin.POLL, Origin.RECONCILE, Origin.BACKFILL])
def test_origin_of_the_reading_is_in_events_and_quarantine(origin):
    bad = Rejected(ONE, b"[]", bytes(16), RejectionReason.NOT_AN_OBJECT, "$", "")
    _, records = decided(bad, version(), origin=origin)
    assert {each.headers["ce_origin"] for each in records if each.headers} == {origin.value.encode()}
