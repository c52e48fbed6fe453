"""A lane in memory: what is committed after a failure, and when everything is compared."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkstatus
from producer.errors import AbortedError, LaneFencedError, OutcomeUnknownError
from producer.publish.port import Record
from tests.kit.fakes.publisher import FakeLanePublisher, Fault, Outcome
from tests.kit.stages.lane_stage import DAY, SECOND, Event, LaneStage, event
from tests.kit.waiting import until
from trekkpaalegg.errors import RetryableError

ONE, TWO, THREE = "311111111", "322222222", "333333333"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def missing(stage):
    """The missing versions of each order, by trekkid."""
    return {
        key.decode(): [number for each in order.missing for number in range(each.first, each.last + 1)]
        for key, order in stage.kafka.state(0).orders.open_orders()
    }


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


def test_aborted_decisions_are_repeated_and_nothing_of_them_stands(stage):
    stage.start()
    first = stage.source.create(ONE)
    stage.kafka.fail(Fault.ABORTED)
    stage.read()
    assert stage.versjoner() == [event(first)]
    outcomes = [
        each.outcome
        for each in stage.kafka.transactions
        if any(record.topic == stage.kafka.topics.versjoner for record in each.records)
    ]
    assert outcomes == [Outcome.ABORTED, Outcome.COMMITTED]


def test_what_was_handed_over_in_an_aborted_transaction_is_handed_over_again_and_published_once(stage):
    """The reading fails, as what it compared with is not what is committed."""
    stage.start()
    first = stage.source.create(ONE)
    for _ in range(3):
        stage.kafka.fail(Fault.ABORTED)
    stage.read()
    assert isinstance(stage.journal.errors[ONE], AbortedError)
    stage.read()
    assert stage.versjoner() == [event(first)]
    assert stage.position(ONE) == first.sekvensnummer


def test_aborted_end_of_a_reading_is_repeated(stage):
    stage.start()
    stage.now += 2 * DAY
    stage.kafka.fail(Fault.ABORTED)
    stage.read()
    assert isinstance(stage.journal.errors[ONE], AbortedError)
    before = stage.kafka.state(0).of(ONE).position
    stage.read()
    after = stage.kafka.state(0).of(ONE).position
    assert (before.reconciled_at, after.reconciled_at) == (stage.now - 2 * DAY, stage.now)


def test_an_idle_lane_ends_if_its_last_transaction_hangs_and_the_next_owner_continues(stage, monkeypatch):
    first = stage.source.create(ONE)
    stage.start()

    def check(_publisher):
        raise OutcomeUnknownError("the last transaction hangs")

    with monkeypatch.context() as patch:
        patch.setattr(FakeLanePublisher, "check", check)
        until(lambda: isinstance(stage.error, OutcomeUnknownError))
    second = stage.source.create(ONE)
    stage.start()
    assert stage.versjoner() == [event(first), event(second)]


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.COMMIT_LOST])
def test_transaction_of_unknown_outcome_ends_the_lane_and_the_next_owner_reads_the_state_back(stage, fault):
    first = stage.source.create(ONE)
    stage.kafka.fail(fault)
    stage.start()
    assert isinstance(stage.error, OutcomeUnknownError)
    stage.start()
    assert stage.versjoner() == [event(first)]


def test_fenced_lane_ends_and_has_written_nothing(stage):
    stage.start()
    stage.kafka.publisher().acquire()
    stage.source.create(ONE)
    stage.read()
    assert isinstance(stage.error, LaneFencedError)
    assert stage.versjoner() == []


def test_next_owner_continues_from_the_committed_state(stage):
    order = stage.source.create(ONE)
    stage.start()
    second, third = stage.source.change(order.trekkid), stage.source.change(order.trekkid)
    stage.start()
    assert stage.versjoner() == [event(order), event(second, "gapfill"), event(third)]


def test_open_transaction_of_a_killed_owner_is_not_seen(stage):
    topics = stage.kafka.topics
    stage.kafka.leave_open(0, [Record(topics.versjoner, b"x", b"", {"ce_id": b"x/1"}, 0)])
    stage.start()
    assert stage.versjoner() == []
    assert stage.kafka.transactions[0].outcome is Outcome.ABORTED


def test_lane_that_cannot_be_acquired_fails_and_reads_nothing(stage):
    stage.source.create(ONE)
    stage.kafka.is_reachable = False
    stage.start()
    assert isinstance(stage.error, RetryableError)
    assert stage.source.calls == []


def test_the_loop_is_alive_while_nothing_happens_and_is_not_once_it_has_ended(stage):
    """`/livez` reports a loop that has stalled, not a source that is unavailable."""
    stage.source.fail(RetryableError("the source is away"), times=None)
    stage.start()
    turns = stage.turns.count
    stage.wait_until(lambda: stage.turns.count > turns + 1)
    assert not stage.turns.have_ended
    stage.stop()
    assert stage.turns.have_ended


def test_metrics_are_reported_at_the_first_turn_of_the_loop(stage):
    stage.start()
    assert [metrics.trekkpliktige["healthy"] for metrics in stage.journal.metrics] == [1]


def test_a_lane_releases_its_publisher_when_it_ends(stage):
    stage.start()
    stage.stop()
    assert stage.journal.lanes_left == 1
    with pytest.raises(OutcomeUnknownError):
        stage.publisher.publish([], 0)


def test_event_too_large_for_the_topic_goes_to_quarantine_while_its_page_continues():
    with LaneStage([ONE], event_bytes_max=2000) as stage:
        large = stage.source.create(ONE, ukjente_felter={"x": "y" * 3000})
        small = stage.source.create(ONE)
        stage.start()
        assert stage.versjoner() == [event(small)]
        assert stage.quarantined() == ["too_large"]
        assert missing(stage) == {large.trekkid: [1]}
        stage.read()
        assert stage.quarantined() == ["too_large"]


def test_version_between_that_is_too_large_is_published_around():
    with LaneStage([ONE], event_bytes_max=2000) as stage:
        order = stage.source.create(ONE, ukjente_felter={"x": "y" * 3000})
        second = stage.source.change(order.trekkid, ukjente_felter={})
        stage.start()
        assert stage.versjoner() == [event(second)]
        assert stage.quarantined() == ["too_large"]


def test_broken_element_is_quarantined_once_while_its_page_continues(stage):
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
    stage.source.add(msgspec.structs.replace(one, trekkstatus=Trekkstatus.AVSLUTTET))
    periode = msgspec.structs.replace(two.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(1))
    stage.source.add(msgspec.structs.replace(two, trekkstoerrelse_for_periode=(periode,)))
    stage.read()
    stage.read()
    assert stage.versjoner() == [event(one), event(two), event(one, correction=1)]
    assert stage.gjeldende() == stage.versjoner()
    assert stage.quarantined() == ["changed_content"]


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
    assert missing(stage) == {}


def test_daily_comparison_finds_what_became_visible_below_the_overlap():
    with LaneStage([ONE], overlap_sekvensnummer=1, maks_antall=2) as stage:
        hidden = msgspec.structs.replace(stage.source.create(THREE), trekkid="late", trekkpliktig=ONE)
        stage.source.add(hidden, visible=False)
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
        stage.source.calls.clear()
        stage.read()
        assert stage.source.calls[0].cursor == made[-1].sekvensnummer - 1


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
    stage.source.add(msgspec.structs.replace(gone), listed_for=THREE)
    stage.read()
    assert stage.journal.vanished[ONE] == 0
    stage.now += DAY
    stage.read()
    assert stage.journal.vanished[ONE] == 1


def test_position_ahead_of_the_source_is_reported_and_lowered(stage):
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
    """The source has started its numbers again: nothing is above the position, and the order at it is gone."""
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
    assert [call.cursor for call in stage.source.calls] == [0, 0]


def test_without_overlap_an_empty_answer_means_nothing():
    with LaneStage([ONE], overlap_sekvensnummer=0) as stage:
        made = stage.source.create(ONE)
        stage.start()
        stage.source.calls.clear()
        stage.read()
        assert [call.cursor for call in stage.source.calls] == [made.sekvensnummer]
