"""One lane on a source and topics in memory: what is read is published once, whatever goes wrong on the way."""

from __future__ import annotations

import threading
from decimal import Decimal

import msgspec
import pytest

from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason, Trekkstatus
from producer.errors import (
    AbortedError,
    FatalError,
    FencedError,
    OutcomeUnknownError,
    RetryableError,
    SuspendedError,
)
from producer.publish.port import Record
from producer.schedule import RoundSchedule
from sandbox.fake_publisher import Fault, Outcome
from sandbox.lane_stage import DAY, SECOND, Event, LaneStage

ONE, TWO, THREE = "311111111", "322222222", "333333333"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def event(version, origin="poll", *, late=False, correction=None):
    return Event(version.trekkid, version.trekkversjon, origin, late, correction)


def names(events):
    return [(each.trekkid, each.trekkversjon) for each in events]


def broken(trekkpliktig, trekkid=None, trekkversjon=None, sekvensnummer=None, raw=b'{"trekkid": 1}'):
    return Rejected(
        trekkpliktig,
        raw,
        raw.ljust(16)[:16],
        RejectionReason.INVALID_FIELD,
        "trekkid",
        "not a text",
        trekkid,
        trekkversjon,
        sekvensnummer,
    )


class Gate:
    """Holds back one kind of question to the source, until it is opened."""

    def __init__(self, source, holds):
        self._source = source
        self._holds = holds
        self.opened = threading.Event()
        self.reached = threading.Event()

    def fetch_page(self, trekkpliktig, cursor):
        self._pass(("list", trekkpliktig, cursor))
        return self._source.fetch_page(trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig, trekkid, trekkversjon):
        self._pass(("version", trekkpliktig, trekkversjon))
        return self._source.fetch_trekkpaalegg(trekkpliktig, trekkid, trekkversjon)

    def _pass(self, question):
        if self._holds(question):
            self.reached.set()
            assert self.opened.wait(10), "the gate was never opened"

    def __getattr__(self, name):
        return getattr(self._source, name)


# Reading


def test_every_page_is_read_and_its_versions_published_in_the_order_of_the_source():
    with LaneStage([ONE], maks_antall=2) as stage:
        made = [stage.source.create(ONE) for _ in range(5)]
        stage.start()
        assert stage.versjoner() == [event(version) for version in made]
        assert stage.gjeldende() == stage.versjoner()
        assert stage.position(ONE) == made[-1].sekvensnummer
        assert [question.cursor for question in stage.source.questions] == [0, 2, 4, 5]


def test_events_and_position_stand_in_one_transaction(stage):
    first = stage.source.create(ONE)
    stage.start()
    topics = stage.kafka.topics
    written = [each for each in stage.kafka.transactions if any(r.topic == topics.versjoner for r in each.records)]
    assert len(written) == 1
    assert {record.topic for record in written[0].records} == {topics.versjoner, topics.gjeldende, topics.positions}
    assert stage.kafka.state(0).of(ONE).newest(first.trekkid.encode()) == 1


def test_reading_again_begins_below_the_position_and_publishes_nothing_twice():
    with LaneStage([ONE], overlap_sekvensnummer=2) as stage:
        for _ in range(5):
            stage.source.create(ONE)
        stage.start()
        stage.source.questions.clear()
        stage.read()
        assert stage.source.questions[0].cursor == 3
        assert len(stage.versjoner()) == 5


def test_version_that_becomes_visible_late_is_found_in_the_overlap(stage):
    hidden = msgspec.structs.replace(stage.source.create(THREE), trekkid="late", trekkpliktig=ONE)
    stage.source.put(hidden, visible=False)
    seen = stage.source.create(ONE)
    stage.start()
    assert names(stage.versjoner()) == [(seen.trekkid, 1)]
    stage.source.reveal("late", 1)
    stage.read()
    assert names(stage.versjoner()) == [(seen.trekkid, 1), ("late", 1)]


def test_hole_is_filled_by_number_before_the_newer_version(stage):
    first = stage.source.create(ONE)
    stage.start()
    second, third = stage.source.change(first.trekkid), stage.source.change(first.trekkid)
    stage.read()
    assert stage.versjoner() == [event(first), event(second, "gapfill"), event(third)]
    assert stage.gjeldende() == stage.versjoner()


def test_version_that_cannot_be_fetched_now_stops_the_reading_before_it_and_comes_later(stage):
    before, order = stage.source.create(ONE), stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    after = stage.source.create(ONE)
    stage.source.fail(RetryableError("503"), operation="version", times=None)
    stage.start()
    assert stage.versjoner() == [event(before)]
    assert stage.position(ONE) == before.sekvensnummer
    assert isinstance(stage.journal.errors[ONE], RetryableError)
    stage.source.heal()
    stage.read()
    assert stage.versjoner()[1:] == [event(order, "gapfill"), event(second), event(after)]


def test_answer_that_breaks_off_while_a_version_is_fetched_counts_as_a_passing_failure(stage):
    order = stage.source.create(ONE)
    stage.source.change(order.trekkid)

    class Breaking(Gate):
        def fetch_trekkpaalegg(self, *_wanted):
            raise RetryableError("the connection was reset")

    source, stage.source = stage.source, Breaking(stage.source, lambda _: False)
    stage.start()
    assert stage.versjoner() == []
    assert stage.kafka.state(0).of(ONE).order(order.trekkid.encode()).failing_since == stage.now
    stage.stop()
    stage.source = source
    stage.start()
    assert names(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]


def test_page_that_fails_leaves_what_came_before_it_published():
    """Else a page that cannot be read would keep back, for ever, the pages before it that take longer to decide on."""
    with LaneStage([ONE], maks_antall=1) as stage:
        order = stage.source.create(ONE)
        second = stage.source.change(order.trekkid)
        third = stage.source.create(ONE)

        class FailingPage(Gate):
            def fetch_page(self, trekkpliktig, cursor):
                if cursor == third.sekvensnummer:
                    self.opened.set()
                    raise RetryableError("500")
                return super().fetch_page(trekkpliktig, cursor)

        stage.source = FailingPage(stage.source, lambda question: question[0] == "version")
        stage.start()
        assert names(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2), (third.trekkid, 1)]
        assert isinstance(stage.journal.errors[ONE], RetryableError)
        assert stage.position(ONE) == third.sekvensnummer > second.sekvensnummer


def test_refused_trekkpliktig_is_suspended_while_the_others_are_served():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        served = stage.source.create(TWO)
        stage.source.fail(SuspendedError("403"), trekkpliktig=ONE, times=None)
        stage.start()
        assert names(stage.versjoner()) == [(served.trekkid, 1)]
        assert stage.lane.schedule.classes(0.0)[0] == {"healthy": 1, "failing": 0, "suspended": 1}
        stage.source.heal()
        stage.read(ONE)
        assert len(stage.versjoner()) == 2
        assert stage.lane.schedule.classes(0.0)[0]["suspended"] == 0


def test_trouble_that_nobody_foresaw_is_one_trekkpliktigs_own():
    with LaneStage([ONE, TWO]) as stage:
        served = stage.source.create(TWO)
        stage.source.fail(ZeroDivisionError("a fault of ours"), trekkpliktig=ONE)
        stage.start()
        assert names(stage.versjoner()) == [(served.trekkid, 1)]
        assert isinstance(stage.journal.errors[ONE], ZeroDivisionError)


def test_failure_that_concerns_everyone_ends_the_lane(stage):
    stage.source.fail(FatalError("the client's key is not known"))
    stage.start()
    assert isinstance(stage.error, FatalError)
    assert stage.has_ended


def test_one_slow_employer_does_not_hold_back_the_others():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        other = stage.source.create(TWO)
        gate = stage.source = Gate(stage.source, lambda question: question[1] == ONE)
        starting = threading.Thread(target=stage.start)
        starting.start()
        assert gate.reached.wait(10)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
        assert names(stage.versjoner()) == [(other.trekkid, 1)]
        stage.lane.signal(TWO, 0)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 2)
        gate.opened.set()
        starting.join(10)
        assert len(stage.versjoner()) == 2


def test_pages_that_wait_are_bounded():
    """An employer with a million orders whose first version takes long to fetch must not fill the memory."""
    with LaneStage([ONE], maks_antall=1) as stage:
        order = stage.source.create(ONE)
        stage.source.change(order.trekkid)
        for _ in range(10):
            stage.source.create(ONE)
        gate = stage.source = Gate(stage.source, lambda question: question[0] == "version")
        starting = threading.Thread(target=stage.start)
        starting.start()
        assert gate.reached.wait(10)
        stage.wait_until(lambda: len([q for q in stage.source.questions if q.operation == "list"]) >= 3)
        stage.lane.signal(ONE, 0)  # another turn of the loop, which would ask for a page too many
        stage.lane.signal("nobody", 1)
        assert len([q for q in stage.source.questions if q.operation == "list"]) == 3
        gate.opened.set()
        starting.join(10)
        assert len(stage.versjoner()) == 12


# Transactions


def test_several_employers_share_a_transaction():
    with LaneStage([ONE, TWO]) as stage:
        stage.start()
        stage.source.create(ONE)
        stage.source.create(TWO)
        before = len(stage.kafka.transactions)

        class Together(Gate):
            def __init__(self, source):
                super().__init__(source, lambda _: False)
                self.barrier = threading.Barrier(2)

            def fetch_page(self, trekkpliktig, cursor):
                page = super().fetch_page(trekkpliktig, cursor)
                if page.elements:
                    self.barrier.wait(10)
                return page

        stage.stop()
        stage.source = Together(stage.source)
        stage.start()
        assert len(stage.versjoner()) == 2
        versjoner = stage.kafka.topics.versjoner
        shared = [[r.topic for r in each.records].count(versjoner) for each in stage.kafka.transactions[before:]]
        # Both pages are on their way together; the lane may have taken up one of them a moment before the other.
        assert sum(shared) == 2
        assert len(shared) <= 4


def test_aborted_transaction_leaves_nothing_and_is_taken_up_again(stage):
    first = stage.source.create(ONE)
    stage.kafka.fail(Fault.ABORTED)
    stage.start()
    assert stage.versjoner() == []
    assert isinstance(stage.journal.errors[ONE], AbortedError)
    stage.read()
    assert stage.versjoner() == [event(first)]
    assert stage.position(ONE) == first.sekvensnummer


def test_aborted_end_of_a_reading_is_taken_up_again(stage):
    stage.start()
    stage.now += 2 * DAY
    stage.kafka.fail(Fault.ABORTED)
    stage.read()
    assert isinstance(stage.journal.errors[ONE], AbortedError)
    before = stage.kafka.state(0).of(ONE).position
    stage.read()
    after = stage.kafka.state(0).of(ONE).position
    assert (before.reconciled_at, after.reconciled_at) == (stage.now - 2 * DAY, stage.now)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.COMMIT_LOST])
def test_transaction_of_unknown_outcome_ends_the_lane_and_the_next_owner_reads_what_stands(stage, fault):
    first = stage.source.create(ONE)
    stage.kafka.fail(fault)
    stage.start()
    assert isinstance(stage.error, OutcomeUnknownError)
    stage.start()
    assert stage.versjoner() == [event(first)]


def test_fenced_lane_ends_and_has_written_nothing(stage):
    stage.start()
    stage.kafka.publisher().take()
    stage.source.create(ONE)
    stage.read()
    assert isinstance(stage.error, FencedError)
    assert stage.versjoner() == []


def test_next_owner_goes_on_from_the_state_that_stands(stage):
    order = stage.source.create(ONE)
    stage.start()
    second, third = stage.source.change(order.trekkid), stage.source.change(order.trekkid)
    stage.start()
    assert stage.versjoner() == [event(order), event(second, "gapfill"), event(third)]


def test_open_transaction_of_a_killed_owner_is_not_seen(stage):
    topics = stage.kafka.topics
    stage.kafka.leave_open(0, [Record(topics.versjoner, b"x", b"", {"ce_id": b"x/1"})])
    stage.start()
    assert stage.versjoner() == []
    assert stage.kafka.transactions[0].outcome is Outcome.ABORTED


def test_lane_that_cannot_be_taken_says_so_and_reads_nothing(stage):
    stage.source.create(ONE)
    stage.kafka.is_reachable = False
    stage.start()
    assert isinstance(stage.error, RetryableError)
    assert stage.source.questions == []


def test_lane_lets_go_of_its_publisher_and_is_left_when_it_ends(stage):
    stage.start()
    stage.stop()
    assert stage.journal.lanes_left == 1


# What is not published as it came


def test_event_too_large_for_the_topic_goes_to_quarantine_while_its_page_goes_on():
    with LaneStage([ONE], event_bytes_max=2000) as stage:
        large = stage.source.create(ONE, ukjente_felter={"x": "y" * 3000})
        small = stage.source.create(ONE)
        stage.start()
        assert stage.versjoner() == [event(small)]
        assert stage.quarantined() == ["too_large"]
        assert list(stage.kafka.state(0).of(ONE).missing()) == [(large.trekkid.encode(), 1, 1)]
        stage.read()
        assert stage.quarantined() == ["too_large"]


def test_version_between_that_is_too_large_is_published_around():
    with LaneStage([ONE], event_bytes_max=2000) as stage:
        order = stage.source.create(ONE, ukjente_felter={"x": "y" * 3000})
        second = stage.source.change(order.trekkid, ukjente_felter={})
        stage.start()
        assert stage.versjoner() == [event(second)]
        assert stage.quarantined() == ["too_large"]


def test_broken_element_is_quarantined_once_while_its_page_goes_on(stage):
    stage.source.plant(ONE, broken(ONE))
    good = stage.source.create(ONE)
    stage.start()
    stage.read()
    stage.start()
    assert stage.quarantined() == ["invalid_field"]
    assert stage.versjoner() == [event(good)]


def test_changed_content_is_quarantined_and_the_switch_to_avsluttet_published_as_a_correction(stage):
    one, two = stage.source.create(ONE), stage.source.create(ONE)
    stage.start()
    stage.source.put(msgspec.structs.replace(one, trekkstatus=Trekkstatus.AVSLUTTET))
    periode = msgspec.structs.replace(two.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(1))
    stage.source.put(msgspec.structs.replace(two, trekkstoerrelse_for_periode=(periode,)))
    stage.read()
    stage.read()
    assert stage.versjoner() == [event(one), event(two), event(one, correction=1)]
    assert stage.gjeldende() == stage.versjoner()
    assert stage.quarantined() == ["changed_content"]


# What is compared in full


def test_missing_version_that_turns_up_is_published_late_by_the_daily_comparison(stage):
    order = stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    stage.source.forget(order.trekkid, 1)
    stage.start()
    assert stage.versjoner() == [event(second)]
    stage.source.restore(order.trekkid, 1)
    stage.read()
    assert stage.versjoner() == [event(second)]
    stage.now += DAY
    stage.read()
    assert stage.versjoner() == [event(second), event(order, "reconcile", late=True)]
    assert stage.gjeldende() == [event(second)]
    assert list(stage.kafka.state(0).of(ONE).missing()) == []


def test_daily_comparison_finds_what_became_visible_below_the_overlap():
    with LaneStage([ONE], overlap_sekvensnummer=1, maks_antall=2) as stage:
        hidden = msgspec.structs.replace(stage.source.create(THREE), trekkid="late", trekkpliktig=ONE)
        stage.source.put(hidden, visible=False)
        made = [stage.source.create(ONE) for _ in range(5)]
        stage.start()
        stage.source.reveal("late", 1)
        stage.now += DAY - SECOND
        stage.read()
        assert len(stage.versjoner()) == 5
        stage.now += SECOND
        stage.read()
        assert stage.versjoner()[5:] == [Event("late", 1, "reconcile", late=False, correction=None)]
        assert stage.kafka.state(0).of(ONE).position.reconciled_at == stage.now
        assert stage.position(ONE) == made[-1].sekvensnummer
        stage.source.questions.clear()
        stage.read()
        assert stage.source.questions[0].cursor == made[-1].sekvensnummer - 1


def test_comparison_that_fails_is_not_remembered_as_done():
    with LaneStage([ONE], maks_antall=1) as stage:
        stage.source.create(ONE)
        stage.start()
        begun = stage.now
        stage.now += DAY
        stage.source.fail(RetryableError("503"), operation="list")
        stage.read()
        assert stage.kafka.state(0).of(ONE).position.reconciled_at == begun


def test_orders_that_the_source_no_longer_lists_are_counted_by_the_comparison(stage):
    for _ in range(3):
        stage.source.create(ONE)
    gone = stage.source.create(ONE)
    stage.start()
    stage.source.put(msgspec.structs.replace(gone), listed_for=THREE)
    stage.now += DAY
    stage.read()
    assert stage.journal.vanished[ONE] == 1


def test_position_ahead_of_the_source_is_told_and_lowered(stage):
    for _ in range(5):
        stage.source.create(ONE)
    stage.start()
    stage.source = type(stage.source)()
    begun_anew = stage.source.create(ONE, trekkid="anew")
    stage.now += DAY
    stage.start()
    assert stage.journal.positions_ahead == [(ONE, 5, 1)]
    assert stage.position(ONE) == 1
    assert stage.versjoner()[-1] == event(begun_anew, "reconcile")
    following = stage.source.create(ONE, trekkid="next")
    stage.read()
    assert stage.versjoner()[-1] == event(following)


def test_empty_answer_at_a_known_position_leads_to_a_full_comparison():
    """The source's numbers have begun anew: nothing is above the position, nor is the order at it still there."""
    with LaneStage([ONE], overlap_sekvensnummer=2) as stage:
        for _ in range(9):
            stage.source.create(ONE)
        stage.start()
        stage.source = type(stage.source)()
        begun_anew = stage.source.create(ONE, trekkid="anew")
        stage.start()
        assert stage.versjoner()[-1] == event(begun_anew, "reconcile")
        assert stage.position(ONE) == 1


def test_employer_with_nothing_is_read_once_not_compared_again_and_again(stage):
    stage.start()
    stage.read()
    assert [question.cursor for question in stage.source.questions] == [0, 0]


def test_without_overlap_an_empty_answer_says_nothing():
    with LaneStage([ONE], overlap_sekvensnummer=0) as stage:
        made = stage.source.create(ONE)
        stage.start()
        stage.source.questions.clear()
        stage.read()
        assert [question.cursor for question in stage.source.questions] == [made.sekvensnummer]


# Who is served


def test_order_that_moved_is_published_by_the_lane_of_its_new_trekkpliktig_without_its_past():
    with LaneStage([TWO], own=[ONE]) as stage:
        order = stage.source.create(ONE)
        moved = stage.source.change(order.trekkid, trekkpliktig=TWO)
        stage.start()
        assert stage.versjoner() == [event(moved)]


def test_order_listed_here_that_names_another_of_ours_is_left_to_the_lane_of_that_one():
    with LaneStage([TWO], own=[ONE]) as stage:
        order = stage.source.create(ONE)
        stage.source.put(msgspec.structs.replace(order), listed_for=TWO)
        stage.start()
        assert stage.versjoner() == []
        assert stage.position(TWO) == order.sekvensnummer


def test_employer_that_is_added_is_read_and_one_that_is_removed_is_not(stage):
    stage.start()
    added = stage.source.create(TWO)
    stage.lane.set_trekkpliktige([TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    assert names(stage.versjoner()) == [(added.trekkid, 1)]
    stage.source.create(ONE)
    stage.signal(ONE)
    stage.read(TWO)
    assert stage.journal.ended[ONE] == 1


def test_employer_that_is_removed_and_added_again_while_it_is_read_is_read_on(stage):
    order = stage.source.create(ONE)
    gate = stage.source = Gate(stage.source, lambda question: question[0] == "list")
    starting = threading.Thread(target=stage.start)
    starting.start()
    assert gate.reached.wait(10)
    stage.lane.set_trekkpliktige([])
    stage.lane.set_trekkpliktige([ONE])
    stage.lane.signal("nobody", 0)
    gate.opened.set()
    starting.join(10)
    stage.read(ONE)
    assert stage.error is None
    assert names(stage.versjoner()) == [(order.trekkid, 1)]


def test_round_ends_by_itself_when_everyone_was_read():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        stage.source.create(TWO)
        stage.source.fail(SuspendedError("403"), trekkpliktig=TWO, times=None)
        schedule = RoundSchedule(lambda: 1.0)
        stage.start(schedule)
        stage.wait_until(lambda: stage.has_ended)
        assert stage.error is None
        assert schedule.failed_for_good == {TWO: "it cannot be served"}
        assert len(stage.versjoner()) == 1


def test_reading_that_was_ordered_gives_its_origin_to_what_it_finds():
    with LaneStage([ONE], overlap_sekvensnummer=0) as stage:
        first = stage.source.create(ONE)
        stage.start()
        stage.stop()
        second = stage.source.create(ONE)
        stage.order(Origin.BACKFILL)
        stage.source.questions.clear()
        stage.start()
        assert stage.source.questions[0].cursor == 0
        assert stage.versjoner() == [event(first), event(second, "backfill")]


# Signals


def test_signal_wakes_the_reading_and_is_done_with_when_that_has_ended(stage):
    stage.start()
    order = stage.source.create(ONE)
    stage.read()
    assert names(stage.versjoner()) == [(order.trekkid, 1)]
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.lane.first_open_signal == 1


def test_signal_is_not_done_with_while_its_reading_goes_on():
    with LaneStage([ONE, TWO]) as stage:
        stage.start()
        stage.stop()
        gate = stage.source = Gate(stage.source, lambda question: question[1] == ONE and stage.signals > 0)
        stage.start()
        stage.signal(ONE)
        assert gate.reached.wait(10)
        stage.source.create(TWO)
        stage.read(TWO)
        assert len(stage.versjoner()) == 1
        assert stage.kafka.signal_offset(0) == 0
        assert stage.lane.first_open_signal == 0
        gate.opened.set()
        stage.wait_until(lambda: stage.journal.ended[ONE] == 3)
        stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)


def test_signal_that_comes_during_a_reading_waits_for_one_that_begins_after_it(stage):
    """The reading under way may have passed by what the signal tells of."""
    gate = stage.source = Gate(stage.source, lambda _: not gate.opened.is_set())
    starting = threading.Thread(target=stage.start)
    starting.start()
    assert gate.reached.wait(10)
    stage.signal(ONE)
    gate.opened.set()
    starting.join(10)
    stage.wait_until(lambda: stage.journal.ended[ONE] == 2)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    offsets = [each.signal_offset for each in stage.kafka.transactions]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


def test_signal_whose_reading_failed_stays_open(stage):
    stage.start()
    stage.source.fail(RetryableError("503"))
    stage.read()
    assert stage.lane.first_open_signal == 0
    stage.read()
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 2)


def test_signal_that_names_nobody_of_ours_is_done_with_at_once(stage):
    stage.start()
    stage.signal("999999999")
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.kafka.signal_offset(0) == 1


def test_signal_for_an_employer_that_was_removed_does_not_stay_open_for_ever(stage):
    stage.start()
    stage.source.fail(RetryableError("503"))
    stage.read()
    stage.lane.set_trekkpliktige([TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert stage.lane.first_open_signal == 1
