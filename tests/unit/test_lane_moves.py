"""A lane in memory: orders that have moved to another trekkpliktig or are no longer listed."""

from __future__ import annotations

import msgspec

from producer.domain.trekkpaalegg import Trekkstatus
from tests.kit.stages.lane_stage import DAY, LaneStage, event

ONE, TWO = "311111111", "322222222"


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
