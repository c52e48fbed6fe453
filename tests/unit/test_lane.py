"""A lane in memory: what lists show is handed over, and every version is published once, in order, at its home."""

from __future__ import annotations

import time

import msgspec
import pytest

from producer.detect.decide import GAP_FAILING_MICROSECONDS_MAX
from producer.detect.differences import digest_of
from producer.domain.state import (
    NOT_HANDED_OVER,
    LaneState,
    Missing,
    ObservationOffsets,
    OrderState,
    TrekkpliktigPosition,
)
from producer.domain.trekkpaalegg import Trekkstatus
from producer.errors import AbortedError, SuspendedError
from producer.lane.home import FAILING_PAUSE_MAX
from producer.lane.lane import ABORTED_PAUSE_SECONDS, DELETE_INTERVAL_SECONDS, metrics_of
from producer.lane.schedule import RoundSchedule, Schedule
from producer.publish.port import Row
from producer.publish.topics import home_of
from tests.kit.fakes.observations import WriteFault
from tests.kit.fakes.publisher import Fault
from tests.kit.fakes.source import FakeSource, GatedSource
from tests.kit.stages.lane_stage import DAY, SECOND, LaneStage, event, names_of
from tests.kit.waiting import for_a_while
from trekkpaalegg.errors import FatalError, RetryableError

ONE, TWO, THREE = "311111111", "322222222", "333333333"
MINUTE = 60 * SECOND


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def pass_time(stage, microseconds):
    """Time passes, and the lane notices."""
    stage.now += microseconds
    stage.turn(1)


# From the list to the topic


def test_every_page_is_read_and_its_versions_published_in_the_order_of_the_source():
    with LaneStage([ONE], maks_antall=2) as stage:
        made = [stage.source.create(ONE) for _ in range(5)]
        stage.start()
        assert stage.versjoner() == [event(version) for version in made]
        assert stage.gjeldende() == stage.versjoner()
        assert stage.position(ONE) == made[-1].sekvensnummer
        assert [call.cursor for call in stage.source.calls] == [0, 2, 4, 5]


def test_events_the_state_of_their_orders_and_the_offsets_of_observations_are_in_one_transaction(stage):
    first = stage.source.create(ONE)
    stage.start()
    topics = stage.kafka.topics
    written = [each for each in stage.kafka.transactions if any(r.topic == topics.versjoner for r in each.records)]
    assert len(written) == 1
    assert {record.topic for record in written[0].records} == {topics.versjoner, topics.gjeldende, topics.positions}
    keys = {record.key for record in written[0].records if record.topic == topics.positions}
    assert keys >= {b"/" + first.trekkid.encode(), b"@observations"}
    assert stage.order(first.trekkid).trekkversjon == 1
    assert stage.kafka.state(0).observations == ObservationOffsets(0, 1)


def test_that_a_list_shows_an_order_is_committed_before_it_is_handed_over_and_what_was_handed_over_after_it(stage):
    stage.observations.fail(WriteFault.LATE)
    first = stage.source.create(ONE)
    key = first.trekkid.encode()
    stage.begin()
    stage.wait_until(lambda: key in stage.kafka.state(0).of(ONE))
    stage.turn()
    state = stage.kafka.state(0).of(ONE)
    assert (state.handed_over(key), state.position.position) == (NOT_HANDED_OVER, 0)
    assert stage.versjoner() == []
    stage.observations.catch_up()
    stage.settle()
    state = stage.kafka.state(0).of(ONE)
    assert (state.handed_over(key), state.position.position) == (digest_of(first), 1)
    assert stage.versjoner() == [event(first)]


@pytest.mark.parametrize("fault", [WriteFault.REFUSED, WriteFault.ANSWER_LOST])
def test_what_may_not_be_stored_is_handed_over_again_and_published_once(stage, fault):
    made = [stage.source.create(ONE) for _ in range(3)]
    stage.observations.fail(fault)
    stage.start()
    assert isinstance(stage.journal.errors[ONE], RetryableError)
    assert stage.position(ONE) == 0
    stage.read()
    assert stage.journal.errors[ONE] is None
    assert sorted(names_of(stage.versjoner())) == sorted((each.trekkid, 1) for each in made)
    assert stage.position(ONE) == 3


def test_reading_again_begins_below_the_position_and_hands_over_and_publishes_nothing_twice():
    with LaneStage([ONE], overlap_sekvensnummer=2) as stage:
        for _ in range(5):
            stage.source.create(ONE)
        stage.start()
        stage.source.calls.clear()
        stage.read()
        assert stage.source.calls[0].cursor == 3
        assert len(stage.handed_over()) == len(stage.versjoner()) == 5


def test_first_and_full_readings_hand_over_in_the_row_that_delays_nothing_and_others_in_the_urgent_one(stage):
    first = stage.source.create(ONE)
    stage.start()
    second = stage.source.create(ONE)
    stage.read()
    stage.now += DAY
    third = stage.source.create(ONE)
    stage.read()
    assert stage.handed_over(Row.BULK) == [first.trekkid, third.trekkid]
    assert stage.handed_over(Row.URGENT) == [second.trekkid]
    assert stage.journal.handed == {"bulk": 2, "urgent": 1}
    assert stage.versjoner() == [event(first), event(second), event(third, "reconcile")]


def test_version_that_becomes_visible_late_is_found_in_the_overlap(stage):
    hidden = msgspec.structs.replace(stage.source.create(THREE), trekkid="late", trekkpliktig=ONE)
    stage.source.add(hidden, visible=False)
    seen = stage.source.create(ONE)
    stage.start()
    assert names_of(stage.versjoner()) == [(seen.trekkid, 1)]
    stage.source.reveal("late", 1)
    stage.read()
    assert names_of(stage.versjoner()) == [(seen.trekkid, 1), ("late", 1)]


def test_hole_is_filled_by_number_before_the_newer_version(stage):
    first = stage.source.create(ONE)
    stage.start()
    second, third = stage.source.change(first.trekkid), stage.source.change(first.trekkid)
    stage.read()
    assert stage.versjoner() == [event(first), event(second, "gapfill"), event(third)]
    assert stage.gjeldende() == stage.versjoner()


def test_orders_whose_home_is_another_lane_are_handed_to_that_and_published_by_it_alone():
    with LaneStage([ONE], lanes=3) as stage:
        made = [stage.source.create(ONE).trekkid for _ in range(20)]
        stage.start()
        at_home = {home: [each for each in made if home_of(each.encode(), 3) == home] for home in range(3)}
        assert all(at_home.values())
        for home, orders in at_home.items():
            assert [each.key.decode() for each in stage.observations.records(home, Row.BULK)] == orders
        assert names_of(stage.versjoner()) == [(each, 1) for each in at_home[0]]
        assert stage.position(ONE) == 20


def test_home_makes_room_for_further_observations_when_it_has_decided_on_those_before():
    with LaneStage([ONE], room_max=2) as stage:
        made = [stage.source.create(ONE) for _ in range(9)]
        stage.start()
        assert stage.versjoner() == [event(each) for each in made]


def test_observations_that_were_decided_on_are_deleted_now_and_then(stage):
    stage.source.create(ONE)
    stage.start()
    stage.turn()
    assert len(stage.observations.records(0, Row.BULK)) == 1
    for row in (Row.BULK, Row.URGENT):
        stage.seconds_ahead += DELETE_INTERVAL_SECONDS
        stage.turn()
        stage.wait_until(lambda row=row: stage.observations.records(0, row) == [])
        stage.source.create(ONE)
        stage.read()
    stage.start()
    assert len(stage.versjoner()) == 3


# What fails delays itself


def test_an_order_with_a_version_that_cannot_be_fetched_now_waits_and_no_other_does(stage):
    before, order = stage.source.create(ONE), stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    after = stage.source.create(ONE)
    stage.source.fail(RetryableError("503"), operation="version", times=None)
    stage.start()
    assert stage.versjoner() == [event(before), event(after)]
    assert stage.position(ONE) == after.sekvensnummer
    assert stage.journal.errors[ONE] is None
    pass_time(stage, MINUTE)
    assert len(stage.versjoner()) == 2
    stage.source.heal()
    pass_time(stage, MINUTE)
    stage.wait_until(lambda: len(stage.versjoner()) == 4)
    assert stage.versjoner()[2:] == [event(order, "gapfill"), event(second, "gapfill")]
    assert not stage.order(order.trekkid).is_open


def test_what_an_order_waits_for_is_tried_again_by_the_next_owner_of_the_lane(stage):
    order = stage.source.create(ONE)
    stage.source.change(order.trekkid)

    class Breaking(GatedSource):
        def fetch_trekkpaalegg(self, *_wanted):
            raise RetryableError("the connection was reset")

    stage.through = Breaking(stage.source, lambda _: False)
    stage.start()
    assert stage.versjoner() == []
    assert stage.order(order.trekkid).failing_since(1) == stage.now
    stage.stop()
    stage.through = None
    stage.now += MINUTE
    stage.start()
    stage.wait_until(lambda: len(stage.versjoner()) == 2)
    assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]


def test_a_version_that_fails_for_a_day_is_recorded_as_missing_and_published_late_when_it_can_be_had(stage):
    order = stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    stage.source.fail(RetryableError("503"), operation="version", version=(order.trekkid, 1), times=None)
    stage.start()
    pass_time(stage, GAP_FAILING_MICROSECONDS_MAX + FAILING_PAUSE_MAX)
    stage.wait_until(lambda: len(stage.versjoner()) == 1)
    assert stage.versjoner() == [event(second, "gapfill")]
    assert stage.order(order.trekkid).missing == (Missing(1, 1, "failing"),)
    stage.source.heal()
    pass_time(stage, DAY)
    stage.wait_until(lambda: len(stage.versjoner()) == 2)
    assert stage.versjoner()[1] == event(order, "reconcile", late=True)


def test_an_unexpected_error_about_one_version_makes_its_order_wait_and_no_other(stage):
    order = stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    other = stage.source.create(ONE)
    stage.source.fail(ZeroDivisionError("a fault of ours"), operation="version")
    stage.start()
    assert stage.versjoner() == [event(other)]
    pass_time(stage, MINUTE)
    stage.wait_until(lambda: len(stage.versjoner()) == 3)
    assert stage.versjoner()[1:] == [event(order, "gapfill"), event(second, "gapfill")]


def test_page_that_fails_leaves_what_came_before_it_handed_over():
    """Otherwise an unreadable page would hold back forever the pages before it that take longer to hand over."""
    with LaneStage([ONE], maks_antall=1) as stage:
        made = [stage.source.create(ONE) for _ in range(2)]
        stage.observations.fail(WriteFault.LATE)

        class FailingPage(GatedSource):
            def fetch_page(self, trekkpliktig, cursor):
                if cursor == made[-1].sekvensnummer:
                    self.reached.set()
                    raise RetryableError("500")
                return super().fetch_page(trekkpliktig, cursor)

        gate = stage.through = FailingPage(stage.source, lambda _: False)
        stage.begin()
        assert gate.reached.wait(60)
        assert stage.versjoner() == []
        stage.observations.catch_up()
        stage.settle()
        assert stage.versjoner() == [event(each) for each in made]
        assert isinstance(stage.journal.errors[ONE], RetryableError)
        assert stage.position(ONE) == made[-1].sekvensnummer


def test_refused_trekkpliktig_is_suspended_while_the_others_are_served():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        served = stage.source.create(TWO)
        stage.source.fail(SuspendedError("403"), trekkpliktig=ONE, times=None)
        stage.start()
        assert names_of(stage.versjoner()) == [(served.trekkid, 1)]
        assert stage.lane.schedule.classes(0.0)[0]["suspended"] == 1
        stage.source.heal()
        stage.read(ONE)
        assert len(stage.versjoner()) == 2
        assert stage.lane.schedule.classes(0.0)[0]["suspended"] == 0


@pytest.mark.parametrize("error", [RetryableError, AbortedError])
def test_a_page_that_arrives_after_its_reading_failed_is_ignored(error):
    with LaneStage([ONE], maks_antall=1) as stage:
        made = [stage.source.create(ONE) for _ in range(2)]
        if error is AbortedError:
            stage.kafka.fail(Fault.ABORTED)
        else:
            stage.observations.fail(WriteFault.REFUSED)
        asked = []
        gate = stage.through = GatedSource(stage.source, lambda _: asked.append(1) or len(asked) == 2)
        stage.start()
        assert type(stage.journal.errors[ONE]) is error
        gate.opened.set()
        stage.wait_until(lambda: len(stage.source.calls) == 2)
        stage.turn()
        assert len(stage.source.calls) == 2
        stage.read()
        assert stage.error is None
        assert names_of(stage.versjoner()) == [(each.trekkid, 1) for each in made]
        assert stage.journal.ended[ONE] == 2


def test_decisions_that_are_rolled_back_are_taken_again_after_a_pause(stage):
    """Kafka rolls back all there is while it rebalances."""
    order = stage.source.create(ONE)
    stage.start()
    changed = stage.source.change(order.trekkid)
    for _ in range(10_000):
        stage.kafka.fail(Fault.ABORTED)
    before, began = len(stage.kafka.transactions), time.monotonic()
    stage.signal(ONE)
    stage.wait_until(lambda: len(stage.kafka.transactions) >= before + 4)
    rolled_back = len(stage.kafka.transactions) - before
    assert rolled_back <= (time.monotonic() - began) / ABORTED_PAUSE_SECONDS + 1
    stage.kafka.heal()
    stage.wait_until(lambda: len(stage.versjoner()) == 2)
    assert stage.versjoner() == [event(order), event(changed)]


def test_source_that_asks_for_a_pause_is_given_it(stage):
    stage.source.fail(RetryableError("429", retry_after_seconds=5000.0))
    stage.start()
    assert stage.lane.schedule.wait_seconds(time.monotonic()) > 4000


def test_an_unexpected_error_ends_only_its_own_reading():
    with LaneStage([ONE, TWO]) as stage:
        served = stage.source.create(TWO)
        stage.source.fail(ZeroDivisionError("a fault of ours"), trekkpliktig=ONE)
        stage.start()
        assert names_of(stage.versjoner()) == [(served.trekkid, 1)]
        assert isinstance(stage.journal.errors[ONE], ZeroDivisionError)


@pytest.mark.parametrize("operation", ["list", "version"])
def test_failure_that_concerns_everyone_ends_the_lane(stage, operation):
    stage.source.change(stage.source.create(ONE).trekkid)
    stage.source.fail(FatalError("the client's key is not known"), operation=operation)
    stage.start()
    stage.wait_until(lambda: stage.has_ended)
    assert isinstance(stage.error, FatalError)


def test_one_slow_employer_does_not_hold_back_the_others():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        other = stage.source.create(TWO)
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE)
        stage.begin()
        assert gate.reached.wait(60)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
        stage.wait_until(lambda: names_of(stage.versjoner()) == [(other.trekkid, 1)])
        stage.signal(TWO)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 2)
        gate.opened.set()
        stage.settle()
        stage.wait_until(lambda: len(stage.versjoner()) == 2)


def test_pages_that_wait_are_bounded():
    """An employer with a million orders must not fill the memory while what it has shown is being handed over."""
    with LaneStage([ONE], maks_antall=1) as stage:
        for _ in range(12):
            stage.source.create(ONE)
        stage.observations.fail(WriteFault.LATE)
        stage.begin()
        stage.wait_until(lambda: len(stage.source.calls) >= 3)
        stage.turn()  # in which it would ask for a page too many
        assert len(stage.source.calls) == 3
        stage.observations.catch_up()
        stage.settle()
        assert len(stage.versjoner()) == 12


# A source that goes back


def test_version_that_the_source_has_lowered_is_reported_and_nothing_is_published(stage):
    order = stage.source.create(ONE)
    second = stage.source.change(order.trekkid)
    stage.start()
    stage.source.add(second, visible=False)
    stage.read()
    assert stage.journal.lowered == {ONE: 1}
    assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]
    stage.read()
    assert stage.journal.lowered == {ONE: 1}, "it is told once"


def test_source_that_begins_its_numbers_again_is_read_from_the_start_and_the_position_lowered():
    with LaneStage([ONE], overlap_sekvensnummer=1) as stage:
        for _ in range(9):
            stage.source.create(ONE)
        stage.start()
        stage.stop()
        stage.source, former = FakeSource(), stage.versjoner()
        order = stage.source.create(ONE, trekkid="anew")
        stage.start()
        assert [call.cursor for call in stage.source.calls if call.operation == "list"] == [8, 0, 1]
        assert stage.versjoner() == [*former, event(order, "reconcile")]
        assert stage.position(ONE) == 1
        assert stage.journal.positions_ahead == [(ONE, 9, 1)]


# Employers that are added and removed


def test_employer_that_is_added_is_read_and_one_that_is_removed_is_not(stage):
    stage.start()
    added = stage.source.create(TWO)
    stage.lane.set_trekkpliktige([TWO])
    stage.wait_until(lambda: stage.versjoner() != [])
    assert names_of(stage.versjoner()) == [(added.trekkid, 1)]
    stage.source.create(ONE)
    stage.signal(ONE)
    stage.read(TWO)
    assert stage.journal.ended[ONE] == 1


@pytest.mark.parametrize("orders", [0, 1])
def test_employer_that_is_removed_and_added_again_while_it_is_read_is_read_on(stage, orders):
    made = [stage.source.create(ONE) for _ in range(orders)]
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.operation == "list")
    stage.begin()
    assert gate.reached.wait(60)
    stage.lane.set_trekkpliktige([])
    stage.lane.set_trekkpliktige([ONE])
    stage.turn()
    gate.opened.set()
    stage.settle()
    stage.read(ONE)
    assert stage.error is None
    assert names_of(stage.versjoner()) == [(order.trekkid, 1) for order in made]


# Orders that move from list to list, or are no longer in any


def test_order_that_moved_to_another_of_ours_is_published_with_its_past():
    with LaneStage([TWO], served=[ONE]) as stage:
        order = stage.source.create(ONE)
        moved = stage.source.change(order.trekkid, trekkpliktig=TWO)
        stage.start()
        assert stage.versjoner() == [event(order, "gapfill"), event(moved)]


def test_versions_made_just_before_an_order_moved_are_had_by_number_for_whom_it_left():
    with LaneStage([ONE], served=[TWO]) as stage:
        first = stage.source.create(ONE)
        stage.start()
        before = [stage.source.change(first.trekkid), stage.source.change(first.trekkid)]
        stage.source.change(first.trekkid, trekkpliktig=TWO)
        stage.now += 2 * DAY
        stage.read()
        assert stage.versjoner() == [event(first), *[event(each, "gapfill") for each in before]]
        assert stage.gjeldende() == stage.versjoner()


def test_order_in_two_lists_is_published_once():
    with LaneStage([ONE, TWO]) as stage:
        order = stage.source.create(ONE)
        stage.source.plant(TWO, order)
        stage.start()
        assert names_of(stage.versjoner()) == [(order.trekkid, 1)]
        assert stage.handed_over() == [order.trekkid] * 2


def test_order_listed_here_that_names_another_of_ours_is_published_by_its_home_all_the_same():
    with LaneStage([TWO], served=[ONE]) as stage:
        order = stage.source.create(ONE)
        stage.source.add(msgspec.structs.replace(order), listed_for=TWO)
        stage.start()
        assert names_of(stage.versjoner()) == [(order.trekkid, 1)]


def test_last_version_of_an_order_that_is_no_longer_listed_is_published():
    with LaneStage([ONE]) as stage:
        first = stage.source.create(ONE)
        other = stage.source.create(ONE)
        stage.start()
        last = stage.source.add(
            msgspec.structs.replace(first, trekkversjon=2, sekvensnummer=99, trekkstatus=Trekkstatus.AVSLUTTET),
            listed_for="nobody",
        )
        stage.now += 2 * DAY
        stage.read()
        assert stage.versjoner() == [event(first), event(other), event(last, "gapfill")]
        assert stage.gjeldende() == stage.versjoner()
        assert stage.position(ONE) == other.sekvensnummer
        assert stage.journal.vanished[ONE] == 1


def test_order_that_a_list_lacks_is_asked_for_at_each_full_comparison(stage):
    first = stage.source.create(ONE)
    stage.start()
    stage.source.add(first, listed_for="nobody")
    for days in range(1, 3):
        stage.now += 2 * DAY
        stage.read()
        asked = [call.trekkversjon for call in stage.source.calls if call.operation == "version"]
        assert asked == [2] * days
    stage.read()
    assert len(stage.handed_over()) == 3


def test_order_that_a_list_has_shown_once_is_followed_though_it_could_not_be_handed_over(stage):
    order = stage.source.create(ONE)
    stage.observations.fail(WriteFault.REFUSED)
    stage.start()
    assert stage.kafka.state(0).of(ONE).only_known == {order.trekkid.encode()}
    stage.source.add(order, listed_for="nobody")
    stage.read()
    assert stage.versjoner() == []
    stage.now += 2 * DAY
    stage.read()
    assert stage.versjoner() == [event(order, "gapfill")]
    state = stage.kafka.state(0).of(ONE)
    assert (state.only_known, list(state.keys())) == (set(), [order.trekkid.encode()])


# Observations that are lost


def lose_observations(stage):
    """Five observations of the home are deleted before it has decided on them."""
    reader = stage.observations.reader(0)
    for _ in range(5):
        stage.observations.log(Row.BULK, 0).append(None)
    reader.delete_before(ObservationOffsets(0, stage.observations.end(0, Row.BULK)))


def test_when_observations_are_lost_every_list_is_handed_over_again_and_nothing_is_published_twice(stage):
    made = [stage.source.create(ONE) for _ in range(3)]
    stage.start()
    stage.stop()
    lose_observations(stage)
    stage.start()
    stage.wait_until(lambda: stage.has_ended)
    assert isinstance(stage.error, RetryableError)
    since = stage.kafka.state(0).show_since
    assert since == stage.now
    stage.start()
    stage.wait_until(lambda: stage.kafka.state(0).of(ONE).position.shown_at == since)
    assert stage.handed_over() == [each.trekkid for each in made] * 2
    assert len(stage.versjoner()) == 3
    assert stage.journal.unannounced_count == 0
    stage.read()
    assert len(stage.handed_over()) == 6


def test_lists_that_are_to_be_shown_again_while_they_are_shown_are_shown_once_more(stage):
    """What was handed over before the second loss may be lost, however late that is reported."""
    for lost in (1, 2):
        lose_observations(stage)
        stage.start()
        stage.wait_until(lambda: stage.has_ended)
        assert stage.kafka.state(0).show_since == stage.now + lost - 1
    first = stage.source.create(ONE)
    stage.start()
    stage.wait_until(lambda: stage.kafka.state(0).of(ONE).position.shown_at == stage.now + 1)
    assert names_of(stage.versjoner()) == [(first.trekkid, 1)]


# How a lane ends


def test_round_ends_by_itself_when_everyone_was_read_and_all_is_decided_on():
    with LaneStage([ONE, TWO]) as stage:
        order = stage.source.create(ONE)
        stage.source.change(order.trekkid)
        stage.source.create(TWO)
        stage.source.fail(SuspendedError("403"), trekkpliktig=TWO, operation="list", times=None)
        schedule = RoundSchedule(lambda: 1.0)
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.operation == "version")
        stage.begin(schedule)
        assert gate.reached.wait(60)
        stage.wait_until(lambda: schedule.is_done)
        stage.turn()
        assert not stage.has_ended
        gate.opened.set()
        stage.settle()
        stage.wait_until(lambda: stage.has_ended)
        assert stage.error is None
        assert schedule.failed_for_good == {TWO: "it cannot be served"}
        assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]


def test_round_ends_after_the_tries_that_were_due_in_it(stage):
    order = stage.source.create(ONE)
    stage.source.change(order.trekkid)
    stage.source.fail(RetryableError("503"), operation="version")
    stage.start()
    stage.stop()
    stage.now += MINUTE
    schedule = RoundSchedule(lambda: 1.0)
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.operation == "version")
    stage.begin(schedule)
    assert gate.reached.wait(60)
    stage.wait_until(lambda: schedule.is_done)
    stage.turn()
    assert not stage.has_ended
    gate.opened.set()
    stage.wait_until(lambda: stage.has_ended)
    assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]


def test_round_does_not_wait_for_orders_that_wait(stage):
    stage.source.change(stage.source.create(ONE).trekkid)
    stage.source.fail(RetryableError("503"), operation="version", times=None)
    stage.start(RoundSchedule(lambda: 1.0))
    stage.wait_until(lambda: stage.has_ended)
    assert stage.error is None
    assert stage.versjoner() == []


def test_command_that_reads_nothing_asks_for_no_version_of_orders_that_wait(stage):
    order = stage.source.create(ONE)
    stage.source.change(order.trekkid)
    stage.source.fail(RetryableError("503"), operation="version")
    stage.start()
    assert stage.order(order.trekkid).is_open
    stage.stop()
    stage.now += DAY
    stage.source.calls.clear()
    stage.start(decides=False)
    stage.turn()
    before = stage.turns.count
    for_a_while(lambda: stage.turns.count < before + 50)
    assert stage.source.calls == []


# A lane's metrics, from its schedule and its state


def metrics_at(schedule, state, waiting=None, now=0, monotonic=130.0):
    return metrics_of(schedule, state, waiting or dict.fromkeys(Row, 0), now, monotonic)


def test_metrics_are_summed_over_all_employers_and_orders():
    schedule = Schedule(300.0, lambda: 1.0)
    schedule.set_trekkpliktige([ONE, TWO, THREE], 100.0)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0)
    state = LaneState()
    state.ensure(ONE).position = TrekkpliktigPosition(7, 10 * SECOND)
    state.ensure(TWO).position = TrekkpliktigPosition(5, 50 * SECOND)
    missing = (Missing(1, 2), Missing(4, 4))
    for key, order in {
        b"A": OrderState(9, missing=missing),
        b"B": OrderState(1),
        b"C": OrderState(3, missing=missing[:1], seen=5),
    }.items():
        state.orders.remember(key, order)
    metrics = metrics_at(schedule, state, {Row.URGENT: 2, Row.BULK: 9}, 60 * SECOND)
    assert metrics.trekkpliktige == {"healthy": 2, "failing": 1, "suspended": 0, "suspended_by_operator": 0}
    assert metrics.oldest_read_seconds == {
        "healthy": 30.0,
        "failing": 30.0,
        "suspended": 0.0,
        "suspended_by_operator": 0.0,
    }
    assert metrics.oldest_comparison_seconds == {"failing": 50.0, "healthy": 30.0}, "one was never compared"
    assert metrics.observations_waiting == {"urgent": 2, "bulk": 9}
    assert (metrics.orders, metrics.orders_waiting, metrics.versions_missing, metrics.position_max) == (3, 1, 5, 7)


def test_a_lane_that_knows_nothing_has_metrics_too():
    metrics = metrics_at(Schedule(300.0, lambda: 1.0), LaneState())
    assert (metrics.orders, metrics.orders_waiting, metrics.versions_missing, metrics.position_max) == (0, 0, 0, 0)
    assert metrics.oldest_comparison_seconds == {}
