"""What a lane commits: the records of a transaction, and the state that changes with it."""

from __future__ import annotations

from functools import partial
from random import Random

import msgspec
import pytest
from producer.detect.detect import Context, detect, detect_encodable

import schemas
from producer.detect.requests import decide_request
from producer.domain.requests import OperatorRequest
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Gone, Origin, Rejected, RejectionReason, Trekkstatus
from producer.encode.avro import reference_encoder, single_object_prefix
from producer.encode.state import decode_results
from producer.errors import AbortedError, OutcomeUnknownError
from producer.lane.commit import OFFSET_WAIT_SECONDS, Committer
from producer.lane.reading import LaneOptions, Reading
from producer.publish.port import ANY_PARTITION
from producer.publish.state import LANE_COUNT_KEY, decision_records, lane_state_of
from producer.source.port import Page
from tests.kit.fakes.publisher import FakeKafka, Fault
from tests.kit.fakes.source import FakeSource, make_trekkpaalegg
from tests.kit.stages.lane_journal import LaneJournal
from tests.kit.stages.lane_stage import build_records

# A lane's state changes with a committed transaction, and in no other way
ONE, TWO = "311111111", "322222222"
NOW = 1_790_000_000_000_000


class Desk:
    def __init__(self, first_signal_offset=0):
        self.kafka = FakeKafka()
        self.source = FakeSource()
        self.journal = LaneJournal()
        options = LaneOptions(frozenset({ONE, TWO}), 1000, 86_400.0, lambda: NOW)
        self.seconds = 0.0
        publisher, records = self.kafka.publisher(), build_records(self.kafka)
        self.committer = Committer(0, publisher, records, options, self.journal, lambda: self.seconds)
        self.committer.acquire(first_signal_offset, lambda: False)

    def reading(self, trekkpliktig, begun_at=0, *, full=False):
        reading = Reading(trekkpliktig, Origin.POLL, 0, begun_at, full=full)
        reading.add_page(self.source.fetch_page(trekkpliktig, reading.begin_page()))
        reading.cut_chunk(self.committer.state.of(trekkpliktig))
        return reading

    def topics(self, transaction):
        return sorted(record.topic.removeprefix("fake-") for record in transaction.records)


@pytest.fixture
def desk():
    return Desk()


def test_chunks_of_several_employers_and_ends_of_others_share_one_transaction(desk):
    desk.source.create(ONE)
    desk.source.create(TWO)
    ended = Reading("333333333", Origin.POLL, 0, 0, full=False)
    desk.committer.commit([desk.reading(ONE), desk.reading(TWO)], [ended])
    assert len(desk.kafka.transactions) == 1
    topics = desk.topics(desk.kafka.transactions[0])
    assert [topics.count(role) for role in ("versjoner", "gjeldende", "positions")] == [2, 2, 5]


def test_the_state_after_a_commit_is_what_is_committed(desk):
    first = desk.source.create(ONE)
    reading = desk.reading(ONE)
    [detection] = desk.committer.commit([reading], [])
    assert desk.journal.detections == [detection]
    desk.committer.commit([], [reading])
    for state in (desk.committer.state, desk.kafka.state(0)):
        assert state.of(ONE).newest(first.trekkid.encode()) == 1
        assert state.of(ONE).position == TrekkpliktigPosition(first.sekvensnummer, NOW)


@pytest.mark.parametrize(("fault", "error"), [(Fault.ABORTED, AbortedError), (Fault.COMMIT_LOST, OutcomeUnknownError)])
def test_a_transaction_that_is_not_committed_leaves_the_state_unchanged(desk, fault, error):
    first = desk.source.create(ONE)
    reading = desk.reading(ONE)
    desk.kafka.fail(fault)
    with pytest.raises(error):
        desk.committer.commit([reading], [desk.reading(TWO)])
    assert desk.committer.state.of(ONE).newest(first.trekkid.encode()) == 0
    assert desk.committer.state.of(ONE).position == TrekkpliktigPosition()
    assert desk.committer.state.of(TWO).position == TrekkpliktigPosition()
    assert desk.journal.detections == []


def test_nothing_to_write_makes_no_transaction(desk):
    ended = desk.reading(ONE)
    desk.committer.commit([], [ended])
    assert len(desk.kafka.transactions) == 1
    desk.committer.commit([], [desk.reading(ONE)])
    desk.committer.commit([], [])
    assert len(desk.kafka.transactions) == 1


def test_signal_offset_moves_with_the_end_of_its_reading_even_when_nothing_else_does(desk):
    desk.committer.commit([], [desk.reading(ONE)])
    desk.committer.signals.register(ONE, 0, is_served=True)
    desk.committer.signals.register(TWO, 1, is_served=True)
    begun_before = desk.reading(ONE, begun_at=0)
    desk.committer.commit([], [begun_before])
    assert desk.kafka.signal_offset(0) == 0
    desk.seconds += OFFSET_WAIT_SECONDS
    desk.committer.commit([], [desk.reading(ONE, begun_at=2)])
    assert desk.kafka.signal_offset(0) == 1
    desk.seconds += OFFSET_WAIT_SECONDS
    desk.committer.commit([], [desk.reading(TWO, begun_at=2)])
    assert desk.kafka.signal_offset(0) == 2


def test_signal_offset_alone_waits_a_while_for_something_to_share_a_transaction_with(desk):
    """Else each notified change would be two transactions, and the next change would wait behind the second."""
    desk.committer.commit([], [desk.reading(ONE)])
    desk.committer.signals.register(ONE, 0, is_served=True)
    desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE)], [])
    desk.seconds += OFFSET_WAIT_SECONDS / 2
    desk.committer.commit([], [Reading(ONE, Origin.NOTIFICATION, 0, 1, full=False)])
    desk.committer.commit([], [])
    assert [each.signal_offset for each in desk.kafka.transactions] == [0, 0]
    desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE)], [])
    assert [each.signal_offset for each in desk.kafka.transactions] == [0, 0, 1]


def test_a_waiting_signal_offset_is_committed_at_once_on_request(desk):
    desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE)], [])
    desk.committer.signals.register("999999999", 0, is_served=False)
    desk.committer.commit([], [])
    assert desk.kafka.signal_offset(0) == 0
    desk.committer.commit_offset()
    assert desk.kafka.signal_offset(0) == 1
    desk.committer.commit_offset()
    assert [each.signal_offset for each in desk.kafka.transactions] == [0, 1]


@pytest.mark.parametrize(("fault", "error"), [(Fault.ABORTED, AbortedError), (Fault.COMMIT_LOST, OutcomeUnknownError)])
def test_wake_up_stays_open_if_the_end_of_its_reading_is_not_committed(desk, fault, error):
    """Else another's transaction would move the offset over it, and a crash before it is read again would lose it."""
    desk.committer.signals.register(ONE, 0, is_served=True)
    desk.kafka.fail(fault)
    with pytest.raises(error):
        desk.committer.commit([], [desk.reading(ONE, begun_at=1)])
    assert desk.committer.signals.is_waiting(ONE)
    assert desk.committer.signals.first_open == 0


def test_signal_offset_continues_from_where_the_lane_was_acquired_and_is_written_once():
    desk = Desk(first_signal_offset=7)
    desk.committer.commit([], [])
    assert desk.kafka.transactions == []
    desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE, begun_at=7)], [])
    assert desk.kafka.signal_offset(0) == 7
    desk.committer.signals.register("999999999", 7, is_served=False)
    desk.seconds += OFFSET_WAIT_SECONDS
    desk.committer.commit([], [])
    desk.committer.commit([], [])
    assert [each.signal_offset for each in desk.kafka.transactions] == [7, 8]


def test_signal_offset_of_an_aborted_transaction_is_committed_with_the_next(desk):
    desk.committer.signals.register("999999999", 0, is_served=False)
    desk.kafka.fail(Fault.ABORTED)
    with pytest.raises(AbortedError):
        desk.committer.commit([], [])
    assert desk.kafka.signal_offset(0) is None
    desk.committer.commit([], [])
    assert desk.kafka.signal_offset(0) == 1


def test_position_moves_with_the_chunk_and_is_never_moved_back_by_one(desk):
    for _ in range(3):
        desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE)], [])
    assert desk.committer.state.of(ONE).position.position == 3
    desk.committer.commit([desk.reading(ONE)], [])
    assert desk.committer.state.of(ONE).position.position == 3


def test_position_ahead_of_a_full_reading_is_lowered_and_reported(desk):
    for _ in range(3):
        desk.source.create(ONE)
    desk.committer.commit([desk.reading(ONE)], [])
    desk.source = FakeSource()
    desk.source.create(ONE)
    partial, full = desk.reading(ONE), desk.reading(ONE, full=True)
    desk.committer.commit([], [partial])
    assert desk.journal.positions_ahead == []
    desk.committer.commit([], [full])
    assert desk.journal.positions_ahead == [(ONE, 3, 1)]
    assert desk.kafka.state(0).of(ONE).position == TrekkpliktigPosition(1, NOW)


# The records of a transaction; a version that cannot be encoded is quarantined instead
LANE = 3
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


def test_a_late_version_is_written_only_to_the_history():
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


def test_without_decisions_there_are_no_records_and_an_unmoved_position_is_not_written():
    state = TrekkpliktigState(TrekkpliktigPosition(9, 5))
    detection, _ = decided(version(), state=state)
    state.remember_all(detection.orders)
    assert decided(version(), state=state)[1] == []


def test_a_position_has_the_time_of_the_last_full_comparison():
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
