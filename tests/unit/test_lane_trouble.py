"""A lane in memory: what is odd about one order or element is reported once, and troubles no other."""

from __future__ import annotations

import msgspec
import pytest

from producer.detect.decide import GAP_FAILING_MICROSECONDS_MAX, Counts
from producer.detect.differences import UNIDENTIFIED_MAX
from producer.domain.state import Missing
from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkstatus
from producer.lane.home import FAILING_PAUSE_MAX, FAILING_PAUSE_MIN
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import DAY, SECOND, LaneStage, event, names_of
from trekkpaalegg.errors import RetryableError

ONE, TWO = "311111111", "322222222"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def pass_time(stage, microseconds):
    """Time passes, and the lane notices."""
    stage.now += microseconds
    stage.signal("nobody")


# A list that shows a lower version than before


def lower(stage, trekkid, to, **changes):
    """The source is restored: the list shows this version of the order, perhaps with other content."""
    for each in stage.source.versions():
        if each.trekkid == trekkid and each.trekkversjon >= to:
            is_shown = each.trekkversjon == to
            stage.source.add(msgspec.structs.replace(each, **changes) if is_shown else each, visible=is_shown)


def published_in_three_readings(stage):
    """An order of three versions, each of which was listed."""
    first = stage.source.create(ONE)
    stage.start()
    for _ in range(2):
        stage.source.change(first.trekkid)
        stage.read()
    assert names_of(stage.versjoner()) == [(first.trekkid, number) for number in (1, 2, 3)]
    return first


def changed_content(stage):
    return sum((each.counts for each in stage.journal.decisions), start=Counts()).changed_content


def test_lower_version_with_the_content_that_was_published_is_reported_once_and_changes_nothing(stage):
    first = published_in_three_readings(stage)
    before = stage.order(first.trekkid)
    lower(stage, first.trekkid, 2)
    for _ in range(3):
        stage.read()
    assert stage.journal.lowered == {ONE: 1}
    assert stage.history.look_ups == [{(first.trekkid.encode(), 2)}]
    assert stage.order(first.trekkid) == before
    assert (len(stage.versjoner()), stage.quarantined(), changed_content(stage)) == (3, [], 0)


def test_lower_version_with_other_content_is_quarantined_and_counted_once(stage):
    first = published_in_three_readings(stage)
    lower(stage, first.trekkid, 2, saksnummer="another")
    for _ in range(3):
        stage.read()
        stage.stop()
        stage.now += DAY
        stage.start()
    assert (stage.journal.lowered, changed_content(stage)) == ({ONE: 1}, 1)
    assert stage.quarantined() == ["changed_content"]
    assert len(stage.versjoner()) == 3


def test_content_from_before_a_correction_is_known_too(stage):
    first = stage.source.create(ONE)
    stage.start()
    stage.source.add(msgspec.structs.replace(first, trekkstatus=Trekkstatus.AVSLUTTET))
    stage.read()
    stage.source.change(first.trekkid)
    stage.read()
    assert [each.correction for each in stage.versjoner()] == [None, 1, None]
    lower(stage, first.trekkid, 1, trekkstatus=Trekkstatus.AKTIV)
    stage.read()
    assert len(stage.history.look_ups) == 1
    assert stage.quarantined() == []


def test_lower_versions_of_a_page_are_reported_though_a_later_page_fails():
    with LaneStage([ONE], maks_antall=1) as stage:
        first = published_in_three_readings(stage)
        other = stage.source.create(ONE)
        stage.read()
        lower(stage, first.trekkid, 2)

        class FailingPage(GatedSource):
            def fetch_page(self, trekkpliktig, cursor):
                if cursor >= 2:
                    raise RetryableError("500")
                return super().fetch_page(trekkpliktig, cursor)

        stage.through = FailingPage(stage.source, lambda _: False)
        stage.start()
        assert isinstance(stage.journal.errors[ONE], RetryableError)
        stage.through = None
        stage.start()
        stage.read()
        assert stage.journal.lowered == {ONE: 1}
        assert (other.trekkid, 1) in names_of(stage.versjoner())


def test_history_that_cannot_be_read_now_is_read_later_and_other_orders_go_on(stage):
    first = published_in_three_readings(stage)
    stage.history.failures = 1
    lower(stage, first.trekkid, 2, saksnummer="another")
    other = stage.source.create(ONE)
    stage.read()
    assert names_of(stage.versjoner())[3:] == [(other.trekkid, 1)]
    assert stage.quarantined() == ["changed_content"]
    assert len(stage.history.look_ups) == 2


# Elements without trekkid


def plant_nameless(stage, count, text):
    for number in range(count):
        raw = f"{text} {number}".encode()
        reason = RejectionReason.MISSING_FIELD
        stage.source.plant(ONE, Rejected(ONE, raw, raw.ljust(32), reason, "trekkid", "It is missing."))


def test_elements_without_trekkid_whose_text_changes_are_recorded_a_stated_number_of_times_a_day(stage):
    order = stage.source.create(ONE)
    stage.start()
    for number in range(5):
        stage.source.uproot(ONE)
        plant_nameless(stage, 30, f"reading {number}")
        stage.read()
        stage.start()
    assert stage.quarantined() == ["missing_field"] * UNIDENTIFIED_MAX
    assert stage.journal.unrecorded_count > 0
    assert stage.kafka.state(0).of(ONE).position.unidentified == UNIDENTIFIED_MAX
    second = stage.source.change(order.trekkid)
    stage.read()
    assert stage.versjoner() == [event(order), event(second)]
    stage.now += DAY
    stage.read()
    assert stage.quarantined() == ["missing_field"] * (UNIDENTIFIED_MAX + 30)


# Failing versions, side by side


def test_orders_whose_versions_fail_are_given_up_together_after_a_day_and_delay_no_other():
    with LaneStage([ONE, TWO]) as stage:
        failing = [stage.source.create(ONE) for _ in range(300)]
        for each in failing:
            stage.source.change(each.trekkid)
            stage.source.fail(RetryableError("503"), operation="version", version=(each.trekkid, 1), times=None)
        after = stage.source.create(ONE)
        other = stage.source.create(TWO)
        stage.start()
        assert sorted(names_of(stage.versjoner())) == sorted([(after.trekkid, 1), (other.trekkid, 1)])
        assert sum(order.seen > order.trekkversjon for _, order in stage.kafka.state(0).orders.open_orders()) == 300

        stage.now += DAY // 2
        changed = [stage.source.change(each.trekkid) for each in (after, other)]
        stage.read()
        assert names_of(stage.versjoner())[2:] == [(each.trekkid, 2) for each in changed]

        pass_time(stage, GAP_FAILING_MICROSECONDS_MAX - DAY // 2 + FAILING_PAUSE_MAX)
        stage.wait_until(lambda: len(stage.versjoner()) == 304)
        assert sorted(names_of(stage.versjoner())[4:]) == sorted((each.trekkid, 2) for each in failing)
        for each in failing:
            assert stage.order(each.trekkid).missing == (Missing(1, 1, "failing"),)
        given_up = sum((each.counts for each in stage.journal.decisions), start=Counts()).gaps_given_up
        assert given_up == 300


def test_versions_of_one_order_that_fail_are_given_up_together(stage):
    order = stage.source.create(ONE)
    for _ in range(20):
        newest = stage.source.change(order.trekkid)
    stage.source.fail(RetryableError("503"), operation="version", times=None)
    stage.start()
    assert stage.versjoner() == []
    pass_time(stage, FAILING_PAUSE_MIN)  # the newest, which the list has shown, is fetched by number from now on
    stage.wait_until(lambda: stage.order(order.trekkid).failing_since(21) is not None)
    pass_time(stage, GAP_FAILING_MICROSECONDS_MAX + SECOND)
    stage.wait_until(lambda: bool(stage.order(order.trekkid).missing))
    assert stage.order(order.trekkid).missing == (Missing(1, 21, "failing"),)
    stage.source.heal()
    pass_time(stage, DAY)
    stage.wait_until(lambda: len(stage.versjoner()) == 21)
    assert stage.order(order.trekkid).trekkversjon == newest.trekkversjon
    assert not stage.order(order.trekkid).is_open
