"""A lane in memory: every version that can be read is published once, in order."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from producer.domain.state import LaneState, OrderState, TrekkpliktigPosition
from producer.domain.trekkpaalegg import Trekkstatus
from producer.errors import SuspendedError
from producer.lane.lane import metrics_of
from producer.lane.schedule import RoundSchedule, Schedule
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import DAY, LaneStage, event, names_of
from trekkpaalegg.errors import FatalError, RetryableError

# A lane in memory: every version that can be read is published once, in order
ONE, TWO, THREE = "311111111", "322222222", "333333333"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def test_every_page_is_read_and_its_versions_published_in_the_order_of_the_source():
    with LaneStage([ONE], maks_antall=2) as stage:
        made = [stage.source.create(ONE) for _ in range(5)]
        stage.start()
        assert stage.versjoner() == [event(version) for version in made]
        assert stage.gjeldende() == stage.versjoner()
        assert stage.position(ONE) == made[-1].sekvensnummer
        assert [call.cursor for call in stage.source.calls] == [0, 2, 4, 5]


def test_events_and_position_are_in_one_transaction(stage):
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
        stage.source.calls.clear()
        stage.read()
        assert stage.source.calls[0].cursor == 3
        assert len(stage.versjoner()) == 5


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


def test_a_version_that_cannot_be_fetched_now_ends_the_reading_before_it_and_is_published_later(stage):
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


def test_an_answer_cut_off_while_a_version_is_fetched_is_a_temporary_failure(stage):
    order = stage.source.create(ONE)
    stage.source.change(order.trekkid)

    class Breaking(GatedSource):
        def fetch_trekkpaalegg(self, *_wanted):
            raise RetryableError("the connection was reset")

    stage.through = Breaking(stage.source, lambda _: False)
    stage.start()
    assert stage.versjoner() == []
    assert stage.kafka.state(0).of(ONE).order(order.trekkid.encode()).failing_since == stage.now
    stage.stop()
    stage.through = None
    stage.start()
    assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]


def test_page_that_fails_leaves_what_came_before_it_published():
    """Otherwise an unreadable page would hold back forever the pages before it that take longer to decide on."""
    with LaneStage([ONE], maks_antall=1) as stage:
        order = stage.source.create(ONE)
        second = stage.source.change(order.trekkid)
        third = stage.source.create(ONE)

        class FailingPage(GatedSource):
            def fetch_page(self, trekkpliktig, cursor):
                if cursor == third.sekvensnummer:
                    self.opened.set()
                    raise RetryableError("500")
                return super().fetch_page(trekkpliktig, cursor)

        stage.through = FailingPage(stage.source, lambda asked: asked.operation == "version")
        stage.start()
        assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2), (third.trekkid, 1)]
        assert isinstance(stage.journal.errors[ONE], RetryableError)
        assert stage.position(ONE) == third.sekvensnummer > second.sekvensnummer


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


@pytest.mark.parametrize("error", [SuspendedError("403"), RetryableError("503")])
def test_a_page_that_arrives_after_its_reading_failed_is_ignored(error):
    with LaneStage([ONE], maks_antall=1) as stage:
        order = stage.source.create(ONE)
        stage.source.change(order.trekkid)
        stage.source.fail(error, operation="version")
        asked = []
        gate = stage.through = GatedSource(
            stage.source, lambda question: question.operation == "list" and (asked.append(1) or len(asked) == 2)
        )
        stage.start()
        assert isinstance(stage.journal.errors[ONE], type(error))
        gate.opened.set()
        stage.read()
        assert stage.error is None
        assert names_of(stage.versjoner()) == [(order.trekkid, 1), (order.trekkid, 2)]
        assert stage.journal.ended[ONE] == 2


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


def test_failure_that_concerns_everyone_ends_the_lane(stage):
    stage.source.fail(FatalError("the client's key is not known"))
    stage.start()
    assert isinstance(stage.error, FatalError)
    assert stage.has_ended


def test_one_slow_employer_does_not_hold_back_the_others():
    with LaneStage([ONE, TWO]) as stage:
        stage.source.create(ONE)
        other = stage.source.create(TWO)
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE)
        starting = threading.Thread(target=stage.start)
        starting.start()
        assert gate.reached.wait(60)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
        assert names_of(stage.versjoner()) == [(other.trekkid, 1)]
        stage.lane.signal(TWO, 0)
        stage.wait_until(lambda: stage.journal.ended[TWO] == 2)
        gate.opened.set()
        starting.join(60)
        assert len(stage.versjoner()) == 2


def test_pages_that_wait_are_bounded():
    """An employer with a million orders whose first version takes long to fetch must not fill the memory."""
    with LaneStage([ONE], maks_antall=1) as stage:
        order = stage.source.create(ONE)
        stage.source.change(order.trekkid)
        for _ in range(10):
            stage.source.create(ONE)
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.operation == "version")
        starting = threading.Thread(target=stage.start)
        starting.start()
        assert gate.reached.wait(60)
        stage.wait_until(lambda: len([call for call in stage.source.calls if call.operation == "list"]) >= 3)
        stage.lane.signal(ONE, 0)  # another turn of the loop, which would ask for a page too many
        stage.lane.signal("nobody", 1)
        assert len([call for call in stage.source.calls if call.operation == "list"]) == 3
        gate.opened.set()
        starting.join(60)
        assert len(stage.versjoner()) == 12


def test_employer_that_is_added_is_read_and_one_that_is_removed_is_not(stage):
    stage.start()
    added = stage.source.create(TWO)
    stage.lane.set_trekkpliktige([TWO])
    stage.wait_until(lambda: stage.journal.ended[TWO] == 1)
    assert names_of(stage.versjoner()) == [(added.trekkid, 1)]
    stage.source.create(ONE)
    stage.signal(ONE)
    stage.read(TWO)
    assert stage.journal.ended[ONE] == 1


@pytest.mark.parametrize("orders", [0, 1])
def test_employer_that_is_removed_and_added_again_while_it_is_read_is_read_on(stage, orders):
    made = [stage.source.create(ONE) for _ in range(orders)]
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.operation == "list")
    starting = threading.Thread(target=stage.start)
    starting.start()
    assert gate.reached.wait(60)
    stage.lane.set_trekkpliktige([])
    stage.lane.set_trekkpliktige([ONE])
    for turns in (1, 2):
        stage.signal("nobody")
        stage.wait_until(lambda turns=turns: stage.kafka.signal_offset(0) == turns)
    gate.opened.set()
    starting.join(60)
    stage.read(ONE)
    assert stage.error is None
    assert names_of(stage.versjoner()) == [(order.trekkid, 1) for order in made]


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


# A lane in memory: orders that have moved to another trekkpliktig or are no longer listed


def test_order_that_moved_is_published_by_the_lane_of_its_new_trekkpliktig_without_its_past():
    with LaneStage([TWO], served=[ONE]) as stage:
        order = stage.source.create(ONE)
        moved = stage.source.change(order.trekkid, trekkpliktig=TWO)
        stage.start()
        assert stage.versjoner() == [event(moved)]


def test_versions_made_just_before_an_order_moved_are_published_by_the_lane_that_it_left():
    with LaneStage([ONE], served=[TWO]) as stage:
        first = stage.source.create(ONE)
        stage.start()
        before = [stage.source.change(first.trekkid), stage.source.change(first.trekkid)]
        stage.source.change(first.trekkid, trekkpliktig=TWO)
        stage.now += 2 * DAY
        stage.read()
        assert stage.versjoner() == [event(first), *[event(each, "reconcile", late=True) for each in before]]
        assert stage.gjeldende() == [event(first)]


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
        assert stage.versjoner() == [event(first), event(other), event(last, "reconcile")]
        assert stage.gjeldende() == stage.versjoner()
        assert stage.position(ONE) == other.sekvensnummer


def test_order_listed_here_that_names_another_of_ours_is_left_to_the_lane_of_that_one():
    with LaneStage([TWO], served=[ONE]) as stage:
        order = stage.source.create(ONE)
        stage.source.add(msgspec.structs.replace(order), listed_for=TWO)
        stage.start()
        assert stage.versjoner() == []
        assert stage.position(TWO) == order.sekvensnummer


# A lane's metrics, from its schedule and its state


def test_metrics_are_summed_over_all_employers():
    schedule = Schedule(300.0, lambda: 1.0)
    schedule.set_trekkpliktige([ONE, TWO], 100.0)
    schedule.start_next(100.0)
    schedule.failed(ONE, 100.0)
    state = LaneState()
    state.ensure(ONE).position = TrekkpliktigPosition(7)
    state.ensure(ONE).remember(b"A", OrderState(9, bytes(8), 1, missing=((1, 2), (4, 4))))
    state.ensure(ONE).remember(b"B", OrderState(1, bytes(8), 1))
    state.ensure(TWO).position = TrekkpliktigPosition(5)
    state.ensure(TWO).remember(b"C", OrderState(3, bytes(8), 1, missing=((2, 2),)))
    metrics = metrics_of(schedule, state, 130.0)
    assert metrics.trekkpliktige == {"healthy": 1, "failing": 1, "suspended": 0, "suspended_by_operator": 0}
    assert metrics.oldest_read_seconds == {
        "healthy": 30.0,
        "failing": 30.0,
        "suspended": 0.0,
        "suspended_by_operator": 0.0,
    }
    assert (metrics.orders, metrics.versions_missing, metrics.position_max) == (3, 4, 7)


def test_a_lane_that_knows_nothing_has_metrics_too():
    metrics = metrics_of(Schedule(300.0, lambda: 1.0), LaneState(), 130.0)
    assert (metrics.orders, metrics.versions_missing, metrics.position_max) == (0, 0, 0)
