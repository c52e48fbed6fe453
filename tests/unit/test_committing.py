"""A lane's state changes with a committed transaction, and in no other way."""

from __future__ import annotations

import pytest

from producer.domain.state import TrekkpliktigPosition
from producer.domain.trekkpaalegg import Origin
from producer.errors import AbortedError, OutcomeUnknownError
from producer.lane.commit import OFFSET_WAIT_SECONDS, Committer
from producer.lane.reading import LaneOptions, Reading
from tests.kit.fakes.publisher import FakeKafka, Fault
from tests.kit.fakes.source import FakeSource
from tests.kit.stages.lane_journal import LaneJournal
from tests.kit.stages.lane_stage import build_records

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


def test_position_ahead_of_a_full_reading_is_lowered_and_told(desk):
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
