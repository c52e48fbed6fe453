"""A lane that polls for events: they lead to readings, and a cursor is committed with the end of its reading."""

from __future__ import annotations

from random import Random

import pytest

from producer.domain.requests import RESUME, SUSPEND
from producer.domain.state import NO_EVENT
from producer.errors import SuspendedError
from sandbox.altinn.event_log import SEEN, UPDATED, dialog_event
from tests.kit.fakes.event_feed import FakeEventFeed
from tests.kit.fakes.observations import WriteFault
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import LaneStage, event
from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, RetryableError

ONE, TWO = "311111111", "322222222"
RANDOM = Random("ids")
NOW, LONG_AGO = 1_800_000_000.0, 1_700_000_000.0


@pytest.fixture
def feed():
    return FakeEventFeed()


@pytest.fixture
def stage(feed):
    with LaneStage([ONE, TWO], feed=feed) as made:
        yield made


def tell(feed, trekkpliktig, kind=UPDATED, at=NOW):
    told = dialog_event(RANDOM, "https://altinn.example.test", trekkpliktig, "1", kind, at)
    feed.publish(told)
    return told["id"]


def cursor(stage, trekkpliktig):
    return stage.kafka.state(0).of(trekkpliktig).event_cursor


def asked_for(feed, trekkpliktig):
    return [after for name, after in feed.pulls if name == trekkpliktig]


def wait_until_asked(stage, feed, trekkpliktig, times=2):
    """One call that was under way, and one that began after it."""
    wanted = len(feed.pulls) + times
    stage.wait_until(lambda: sum(name == trekkpliktig for name, _ in list(feed.pulls)[wanted - times :]) >= times)


def test_an_event_leads_to_a_reading_and_its_cursor_is_committed(stage, feed):
    stage.start()
    created = stage.source.create(ONE)
    told = tell(feed, ONE)
    stage.wait_until(lambda: stage.versjoner() == [event(created, "notification")])
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    assert stage.journal.ended == {ONE: 2, TWO: 1}
    assert cursor(stage, TWO) == NO_EVENT
    assert stage.journal.notifications == {"wake_up": 1}
    assert stage.journal.unannounced_count == 0


def test_the_next_owner_polls_after_the_committed_cursor(stage, feed):
    stage.start()
    told = tell(feed, ONE)
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    stage.stop()
    feed.pulls.clear()
    stage.start()
    wait_until_asked(stage, feed, ONE)
    assert set(asked_for(feed, ONE)) == {told}
    assert stage.journal.ended[ONE] == 3


def test_the_cursor_waits_for_a_reading_that_began_after_its_events(stage, feed):
    """The present reading may be past the change that they announce."""
    stage.start()
    stage.stop()
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE and stage.signals > 0)
    stage.start()
    stage.signal(ONE)
    assert gate.reached.wait(60)
    told = tell(feed, ONE)
    stage.wait_until(lambda: stage.journal.notifications["wake_up"] == 1)
    stage.read(TWO)
    assert cursor(stage, ONE) == NO_EVENT
    transactions = len(stage.kafka.committed(stage.kafka.topics.positions))
    gate.opened.set()
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    assert stage.journal.ended[ONE] == 4
    assert len(stage.kafka.committed(stage.kafka.topics.positions)) > transactions


def test_the_cursor_waits_until_what_its_events_announced_is_handed_over(stage, feed):
    stage.start()
    stage.observations.fail(WriteFault.LATE)
    created = stage.source.create(ONE)
    told = tell(feed, ONE)
    stage.wait_until(lambda: created.trekkid.encode() in stage.kafka.state(0).of(ONE))
    stage.read(TWO)
    assert cursor(stage, ONE) == NO_EVENT
    stage.observations.catch_up()
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    assert stage.versjoner() == [event(created, "notification")]


def test_events_come_again_if_the_lane_ends_before_their_reading(stage, feed):
    stage.start()
    stage.stop()
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE and told != [])
    told: list[str] = []
    stage.start()
    created = stage.source.create(ONE)
    told.append(tell(feed, ONE))
    assert gate.reached.wait(60)
    stage.lane.stop()
    gate.opened.set()
    stage.stop()
    assert cursor(stage, ONE) == NO_EVENT
    stage.through = None
    stage.start()
    stage.wait_until(lambda: cursor(stage, ONE).after == told[0])
    assert [(each.trekkid, each.trekkversjon) for each in stage.versjoner()] == [(created.trekkid, 1)]


def test_a_failed_reading_commits_no_cursor_and_the_next_is_for_the_same_events(stage, feed):
    stage.start()
    stage.source.fail(RetryableError("down"), trekkpliktig=ONE)
    created = stage.source.create(ONE)
    told = tell(feed, ONE)
    stage.wait_until(lambda: stage.journal.errors[ONE] is not None)
    assert cursor(stage, ONE) == NO_EVENT
    stage.read(ONE)
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    assert stage.versjoner() == [event(created, "notification")]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RetryableError("Altinn is down"), "pull_failed"),
        (SuspendedError("Altinn refuses"), "pull_refused"),
        (FatalError("Altinn refuses all"), "pull_refused"),
        (KeyError("a fault of ours"), "pull_refused"),
    ],
)
def test_a_feed_that_fails_for_one_employer_does_not_hold_up_others(stage, feed, error, outcome):
    feed.refusals[ONE] = error
    stage.start()
    stage.wait_until(lambda: stage.journal.notifications[outcome] == 1)
    made = [stage.source.create(ONE), stage.source.create(TWO)]
    tell(feed, ONE)
    tell(feed, TWO)
    stage.wait_until(lambda: event(made[1], "notification") in stage.versjoner())
    stage.read(ONE)
    assert event(made[0]) in stage.versjoner()
    assert stage.error is None
    assert len(asked_for(feed, ONE)) == 1, "it is polled again only after a pause"


def test_age_of_the_oldest_poll_is_reported_by_class(stage, feed):
    feed.refusals[ONE] = SuspendedError("Altinn refuses")
    stage.start()
    wait_until_asked(stage, feed, TWO)
    until(lambda: stage.journal.metrics and "suspended" in stage.journal.metrics[-1].oldest_pull_seconds, 60)
    assert stage.journal.metrics[-1].oldest_pull_seconds.keys() == {"healthy", "suspended"}


def test_irrelevant_events_move_the_cursor_with_the_next_reading_and_cause_none(stage, feed):
    stage.start()
    told = tell(feed, ONE, SEEN)
    stage.wait_until(lambda: stage.journal.notifications["echo"] == 1)
    wait_until_asked(stage, feed, ONE)
    assert cursor(stage, ONE) == NO_EVENT
    assert stage.journal.ended[ONE] == 1
    assert asked_for(feed, ONE)[-1] == told
    stage.read(ONE)
    assert cursor(stage, ONE).after == told


def test_an_unknown_cursor_costs_one_reading(stage, feed):
    stage.start()
    known = tell(feed, ONE)
    stage.wait_until(lambda: cursor(stage, ONE).after == known)
    stage.stop()
    feed.forget()
    oldest = [tell(feed, ONE, at=LONG_AGO) for _ in range(3)]
    stage.start()
    stage.wait_until(lambda: cursor(stage, ONE).after == oldest[-1])
    wait_until_asked(stage, feed, ONE)
    assert stage.journal.ended[ONE] <= 4
    assert asked_for(feed, ONE)[-1] == oldest[-1]


def test_one_suspended_by_an_operator_is_not_polled_until_resumed(stage, feed):
    stage.start()
    stage.request(ONE, SUSPEND, "suspend")
    wait_until_asked(stage, feed, TWO, 3)
    before = len(asked_for(feed, ONE))
    created = stage.source.create(ONE)
    told = tell(feed, ONE)
    wait_until_asked(stage, feed, TWO, 10)
    assert len(asked_for(feed, ONE)) == before
    assert stage.versjoner() == []
    stage.request(ONE, RESUME, "resume")
    stage.wait_until(lambda: cursor(stage, ONE).after == told)
    assert [(each.trekkid, each.trekkversjon) for each in stage.versjoner()] == [(created.trekkid, 1)]


def test_one_removed_from_the_list_is_not_polled_any_more(stage, feed):
    stage.start()
    wait_until_asked(stage, feed, ONE)
    stage.lane.set_trekkpliktige([TWO])
    wait_until_asked(stage, feed, TWO, 3)
    before = len(asked_for(feed, ONE))
    wait_until_asked(stage, feed, TWO, 10)
    assert len(asked_for(feed, ONE)) == before
