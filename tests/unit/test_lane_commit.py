"""What a lane commits: the records of each decision, and the transactions that its parts and signal offset share."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

import schemas
from producer.detect.decide import decide, decide_encodable, retry
from producer.detect.requests import decide_request
from producer.domain.observation import Observation
from producer.domain.requests import OperatorRequest, RequestResult, RequestState
from producer.domain.state import (
    NO_ORDER,
    NOT_HANDED_OVER,
    EventCursor,
    HandedOver,
    Missing,
    ObservationOffsets,
    OrderState,
    TrekkpliktigPosition,
)
from producer.domain.trekkpaalegg import Gone, Origin, RejectionReason, Trekkstatus
from producer.encode.avro import reference_encoder, single_object_prefix
from producer.encode.state import decode_results
from producer.errors import AbortedError, LaneFencedError, OutcomeUnknownError
from producer.lane.commit import BEAT_SECONDS, OFFSET_WAIT_SECONDS, Committer, Part
from producer.publish.state import lane_state_of, position_record
from tests.kit.fakes.publisher import FakeKafka, Fault
from tests.kit.stages.lane_stage import build_records
from tests.kit.versions import rejected_version, version
from tests.kit.waiting import TurnedClock

ONE, TWO = "311111111", "322222222"

# The transactions of a lane: all parts in one, or nothing of any


class Desk:
    """A committer on a Kafka in memory, and what its parts were told."""

    def __init__(self, first_signal_offset=0):
        self.kafka = FakeKafka()
        self.clock = TurnedClock()
        self.told = []
        self.committer = Committer(self.kafka.publisher(), self.clock)
        self.committer.acquire(first_signal_offset, lambda: False)
        self.signals = self.committer.signals

    def part(self, name, *, begun=lambda: None):
        """A part with one record."""

        def begin():
            self.told.append(f"{name} begun")
            begun()

        record = position_record(self.kafka.topics.positions, 0, ONE, TrekkpliktigPosition(len(self.told)))
        told = self.told.append
        return Part([record], lambda: told(f"{name} committed"), begin, lambda: told(f"{name} aborted"))

    def end_of_reading(self, trekkpliktig, begun_at):
        """A part that changes nothing but that a reading has ended, which began at this signal."""
        done = []

        def begun():
            done.extend(self.signals.ended(trekkpliktig, begun_at))

        return Part([], lambda: None, begun, lambda: self.signals.reopen(trekkpliktig, done))

    def offsets(self):
        return [each.signal_offset for each in self.kafka.transactions]


@pytest.fixture
def desk():
    return Desk()


def test_parts_share_one_transaction_and_learn_of_its_end_in_their_order(desk):
    desk.committer.commit([desk.part("a"), desk.part("b")])
    assert [len(each.records) for each in desk.kafka.transactions] == [2]
    assert desk.told == ["a begun", "b begun", "a committed", "b committed"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.ABORTED, AbortedError), (Fault.COMMIT_LOST, OutcomeUnknownError), (Fault.FENCED, LaneFencedError)],
)
def test_parts_of_a_transaction_that_is_not_known_to_be_committed_are_told_that_it_is_not(desk, fault, error):
    desk.kafka.fail(fault)
    with pytest.raises(error):
        desk.committer.commit([desk.part("a"), desk.part("b")])
    assert desk.told == ["a begun", "b begun", "a aborted", "b aborted"]


def test_nothing_to_write_makes_no_transaction(desk):
    desk.committer.commit([])
    assert desk.kafka.transactions == []


def test_a_lane_with_nothing_to_write_commits_now_and_then_and_so_learns_that_it_was_fenced(desk):
    desk.clock.seconds += BEAT_SECONDS
    desk.committer.commit([])
    desk.committer.commit([])
    assert [len(each.records) for each in desk.kafka.transactions] == [0]
    desk.kafka.publisher().acquire()
    desk.clock.seconds += BEAT_SECONDS
    with pytest.raises(LaneFencedError):
        desk.committer.commit([])


def test_the_state_is_what_is_committed_when_the_lane_is_acquired(desk):
    desk.committer.commit([desk.part("a")])
    next_owner = Committer(desk.kafka.publisher())
    next_owner.acquire(0, lambda: False)
    assert [name for name, _ in next_owner.state] == [ONE]


# The signal offset: it moves with the end of a reading, and alone only after a while


def test_signal_offset_moves_with_the_end_of_its_reading_even_when_nothing_else_does(desk):
    desk.signals.register(ONE, 0, is_served=True)
    desk.signals.register(TWO, 1, is_served=True)
    for trekkpliktig, begun_at in ((ONE, 0), (ONE, 2), (TWO, 2)):
        desk.clock.seconds += OFFSET_WAIT_SECONDS
        desk.committer.commit([desk.end_of_reading(trekkpliktig, begun_at)])
    assert desk.offsets() == [1, 2]


def test_end_of_a_reading_that_changes_nothing_makes_no_transaction(desk):
    """Else each poll of each employer would be one."""
    for _ in range(3):
        desk.clock.seconds += OFFSET_WAIT_SECONDS
        desk.committer.commit([desk.end_of_reading(ONE, 0)])
    assert desk.offsets() == []


def test_signal_offset_alone_waits_a_while_for_something_to_share_a_transaction_with(desk):
    """Else each notified change would be two transactions, and the next change would wait behind the second."""
    desk.committer.commit([desk.part("a")])
    desk.signals.register("999999999", 0, is_served=False)
    desk.clock.seconds += OFFSET_WAIT_SECONDS / 2
    desk.committer.commit([])
    assert desk.offsets() == [0]
    desk.committer.commit([desk.part("b")])
    assert desk.offsets() == [0, 1]
    desk.signals.register("999999999", 1, is_served=False)
    desk.clock.seconds += OFFSET_WAIT_SECONDS
    desk.committer.commit([])
    assert desk.offsets() == [0, 1, 2]


def test_a_waiting_signal_offset_is_committed_at_once_on_request(desk):
    desk.committer.commit([desk.part("a")])
    desk.signals.register("999999999", 0, is_served=False)
    desk.committer.commit([])
    desk.committer.commit_offset()
    desk.committer.commit_offset()
    assert desk.offsets() == [0, 1]


@pytest.mark.parametrize(("fault", "error"), [(Fault.ABORTED, AbortedError), (Fault.COMMIT_LOST, OutcomeUnknownError)])
def test_wake_up_stays_open_if_the_end_of_its_reading_is_not_committed(desk, fault, error):
    """Else another's transaction would move the offset over it, and a crash before it is read again would lose it."""
    desk.signals.register(ONE, 0, is_served=True)
    desk.clock.seconds += OFFSET_WAIT_SECONDS
    desk.kafka.fail(fault)
    with pytest.raises(error):
        desk.committer.commit([desk.end_of_reading(ONE, 1)])
    assert desk.signals.is_waiting(ONE)
    assert desk.signals.first_open == 0


def test_signal_offset_continues_from_where_the_lane_was_acquired_and_is_written_once():
    desk = Desk(first_signal_offset=7)
    desk.clock.seconds += OFFSET_WAIT_SECONDS
    desk.committer.commit([])
    assert desk.kafka.transactions == []
    desk.committer.commit([desk.part("a")])
    desk.signals.register("999999999", 7, is_served=False)
    for _ in range(2):
        desk.clock.seconds += OFFSET_WAIT_SECONDS
        desk.committer.commit([])
    assert desk.offsets() == [7, 8]


def test_signal_offset_of_an_aborted_transaction_is_committed_with_the_next(desk):
    desk.signals.register("999999999", 0, is_served=False)
    desk.clock.seconds += OFFSET_WAIT_SECONDS
    desk.kafka.fail(Fault.ABORTED)
    with pytest.raises(AbortedError):
        desk.committer.commit([])
    assert desk.kafka.signal_offset(0) is None
    desk.committer.commit([])
    assert desk.kafka.signal_offset(0) == 1


# The records of a decision; a version that cannot be encoded is quarantined instead
LANE = 3
NOW = 1_790_000_000_000_000
KAFKA = FakeKafka(6)
TOPICS = KAFKA.topics
BUILDER = build_records(KAFKA, event_bytes_max=4000)
LARGE = {"ukjente_felter": {"x": "y" * 5000}}


def decided(element, order=NO_ORDER, *, origin=Origin.POLL, **versions):
    """What an element of a list leads to, with versions v1, v2, … had by number, and its records."""
    observation = Observation(b"A", ONE, origin, element)
    return decide_encodable(
        lambda versions: decide(order, observation, versions, NOW),
        {int(name[1:]): fetched for name, fetched in versions.items()},
        ONE,
        lambda decision: BUILDER.of_decision(LANE, b"A", order, decision, origin, NOW),
    )


def topics_of(records):
    assert {record.partition for record in records} <= {LANE}
    return [record.topic.removeprefix("fake-") for record in records]


def state_of(records):
    return lane_state_of((each.key, each.value) for each in records if each.topic == TOPICS.positions)


def test_event_goes_to_history_and_newest_with_the_same_bytes_and_the_orders_state_with_it():
    decision, records = decided(version())
    assert topics_of(records) == ["versjoner", "gjeldende", "positions"]
    event, current, order = records
    assert (event.key, event.value, event.headers) == (b"A", current.value, current.headers)
    schema = schemas.load("trekkpaalegg_versjon")
    assert event.value == reference_encoder(schema, single_object_prefix(schema.fingerprint))(version())
    assert order.key == b"/A"
    assert state_of(records).orders.order(b"A") == decision.order


def test_a_late_version_is_written_only_to_the_history():
    order = OrderState(2, bytes(8), 1, missing=(Missing(1, 1),))
    _, records = decided(version(), order)
    assert topics_of(records) == ["versjoner", "positions"]
    assert records[0].headers["ce_late"] == b"true"


def test_versions_of_an_order_are_written_in_rising_order_before_quarantine_and_state():
    _, records = decided(version(3), v1=version(), v2=rejected_version(2))
    assert topics_of(records) == [*("versjoner", "gjeldende") * 2, "quarantine", "positions"]
    assert [record.headers["ce_id"] for record in records[:4]] == [b"A/1", b"A/1", b"A/3", b"A/3"]


def test_a_decision_that_changes_nothing_has_no_records():
    published, _ = decided(version())
    assert decided(version(), published.order)[1] == []


def test_version_that_does_not_fit_is_quarantined_and_recorded_as_missing():
    decision, records = decided(version(**LARGE))
    assert topics_of(records) == ["quarantine", "positions"]
    assert [each.reason for each in decision.rejected] == [RejectionReason.TOO_LARGE]
    assert state_of(records).orders.order(b"A").missing == (Missing(1, 1, "rejected"),)


def test_versions_between_that_do_not_fit_are_published_around():
    decision, _ = decided(version(4), v1=version(**LARGE), v2=Gone(), v3=version(3, **LARGE))
    assert [each.trekkpaalegg.trekkversjon for each in decision.publications] == [4]
    assert [each.trekkversjon for each in decision.rejected] == [1, 3]
    assert decision.order.missing == (Missing(1, 1, "rejected"), Missing(2, 2, "HTTP 404"), Missing(3, 3, "rejected"))


def test_correction_that_does_not_fit_is_quarantined_once():
    """Its content differs from what was published: without its hash, each reading would quarantine it again."""
    published, _ = decided(version())
    ended = version(trekkstatus=Trekkstatus.AVSLUTTET, **LARGE)
    first, _ = decided(ended, published.order)
    assert [each.reason for each in first.rejected] == [RejectionReason.TOO_LARGE]
    again, records = decided(ended, first.order)
    assert (again.publications, again.rejected, records) == ([], [], [])


@pytest.mark.parametrize("origin", [Origin.POLL, Origin.RECONCILE, Origin.BACKFILL])
def test_origin_of_the_reading_is_in_events_and_quarantine(origin):
    for element in (version(), rejected_version()):
        _, records = decided(element, origin=origin)
        assert {each.headers["ce_origin"] for each in records if each.headers} == {origin.value.encode()}


def test_another_try_that_gives_a_missing_version_writes_it_late():
    order = OrderState(2, bytes(8), 1, missing=(Missing(1, 1),))
    decision = retry(order, {1: version(), 3: Gone()}, NOW)
    records = BUILDER.of_decision(LANE, b"A", order, decision, Origin.RECONCILE, NOW)
    assert topics_of(records) == ["versjoner", "positions"]
    assert (records[0].headers["ce_origin"], records[0].headers["ce_late"]) == (b"reconcile", b"true")


# All other records


def test_every_record_of_a_lane_is_read_back_as_its_state():
    request = OperatorRequest("r", "backfill", 1)
    handed_over = HandedOver(2, b"12345678", 1)
    records = [
        *BUILDER.of_home(LANE, ObservationOffsets(4, 5), 6, {"a": RequestState(ONE, 1, 2), "b": RequestState(ONE)}),
        *BUILDER.of_home(LANE, ObservationOffsets(7, 8), 6, {"b": None}),
        *BUILDER.of_known(LANE, ONE, [b"A", b"B"]),
        *BUILDER.of_handed_over(LANE, ONE, {b"A": handed_over}),
        *BUILDER.of_position(LANE, ONE, TrekkpliktigPosition(9), [RequestResult(request, "done")]),
        BUILDER.of_results(LANE, TWO, [RequestResult(replace(request, kind="release"), "failed")]),
        BUILDER.of_event_cursor(LANE, ONE, EventCursor("e", 10)),
    ]
    assert topics_of(records) == ["positions"] * len(records)
    state = state_of(records)
    assert (state.observations, state.show_since) == (ObservationOffsets(7, 8), 6)
    assert state.requests == {"a": RequestState(ONE, 1, 2)}
    [(name, known)] = state
    assert (name, known.position, known.event_cursor) == (ONE, TrekkpliktigPosition(9), EventCursor("e", 10))
    assert {key: known.handed_over(key) for key in known.keys()} == {b"A": handed_over, b"B": NOT_HANDED_OVER}  # noqa: SIM118 - a state is no mapping
    assert state.completed.has(ONE, request)
    assert state.completed.has(TWO, replace(request, kind="release"))


def test_a_signal_is_forwarded_as_it_came():
    record = BUILDER.of_signal(LANE, ONE, b"value")
    assert (record.topic, record.key, record.value, record.partition) == (TOPICS.signals, ONE.encode(), b"value", LANE)


def test_forgetting_keeps_the_orders_known_and_the_id_of_the_request():
    handed_over = {key: HandedOver(1, b"12345678", 1) for key in (b"A", b"B")}
    records = [
        *BUILDER.of_handed_over(LANE, ONE, handed_over),
        *BUILDER.of_position(LANE, ONE, TrekkpliktigPosition(7, 8)),
    ]
    before = state_of(records).of(ONE)
    decision = decide_request(OperatorRequest("w", "forget", 0), before.position, len(before), 0, is_served=True)
    records += BUILDER.of_request(LANE, ONE, decision, before)
    after = state_of(records).of(ONE)
    assert after.position == TrekkpliktigPosition(forgotten_by="w")
    assert {key: after.handed_over(key) for key in after.keys()} == dict.fromkeys(handed_over, NOT_HANDED_OVER)  # noqa: SIM118 - as above


def test_answer_about_one_of_whom_nothing_is_known_leaves_nothing_behind():
    decision = decide_request(OperatorRequest("w", "backfill", 0), TrekkpliktigPosition(), 0, 0, is_served=False)
    records = BUILDER.of_request(LANE, ONE, decision, None)
    assert [each.outcome for each in decode_results(records[0].value)] == ["refused"]
    assert list(state_of(records)) == []
