"""Release of a quarantined record: a new version is published in its turn, other content as a correction."""

from __future__ import annotations

import pytest

from producer.detect.decide import VERSION_JUMP_MAX, decide
from producer.detect.release import release
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.observation import Observation
from producer.domain.state import NO_ORDER, Failing, Missing, OrderState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Trekkstatus
from producer.errors import RejectedTrekkpaaleggError
from tests.kit.versions import TEMPLATE, TREKKPLIKTIG, rejected_version, version

NOW = 1_790_000_000_000_000


def of(newest, **changes):
    return OrderState(newest, content_hash(version(newest)), CONTENT_HASH_VERSION, **changes)


def decided(order, element, versions=None, *, correction=False):
    return release(order, element, versions or {}, NOW, trekkpliktig=TREKKPLIKTIG, correction=correction)


def released(order, element, versions=None, *, correction=False):
    """What it publishes, and the state after it."""
    found = decided(order, element, versions, correction=correction)
    assert not found.wanted
    return [
        (each.trekkpaalegg.trekkversjon, each.origin.value, each.late, each.correction, each.current)
        for each in found.publications
    ], found.order


def observe(order, element):
    return decide(order, Observation(b"A", TREKKPLIKTIG, Origin.POLL, element), {}, NOW)


def test_next_version_is_published_in_its_turn():
    events, order = released(of(1, missing=(Missing(2, 2, "rejected"),)), version(2))
    assert events == [(2, "release", False, None, True)]
    assert order == of(2)


def test_first_version_of_an_order_is_published():
    events, order = released(NO_ORDER, version(1))
    assert events == [(1, "release", False, None, True)]
    assert order == of(1)


def test_older_version_that_is_missing_is_published_late_and_leaves_the_newest_alone():
    events, order = released(of(5, missing=(Missing(2, 4),)), version(3))
    assert events == [(3, "release", True, None, False)]
    assert (order.trekkversjon, order.content_hash) == (5, content_hash(version(5)))
    assert order.missing == (Missing(2, 2), Missing(4, 4))


def test_versions_before_it_are_wanted_and_published_too():
    assert decided(of(1), version(4)).wanted == [2, 3]
    events, order = released(of(1), version(4), {2: version(2), 3: Gone()})
    assert events == [(2, "gapfill", False, None, True), (4, "release", False, None, True)]
    assert order.missing == (Missing(3, 3, "HTTP 404"),)


def test_order_waits_for_a_version_before_it_that_cannot_be_fetched_now():
    events, order = released(of(1), version(3), {2: Failed("503")})
    assert events == []
    assert (order.seen, order.failing, order.readers) == (3, (Failing(2, 2, NOW),), (TREKKPLIKTIG,))


def test_a_jump_is_accepted_and_skipped_versions_are_recorded_as_missing():
    number = VERSION_JUMP_MAX + 2
    events, order = released(of(1, corrections=((1, 1),)), version(number))
    assert events == [(number, "release", False, None, True)]
    assert order == of(
        number,
        missing=(Missing(2, number - 1, "jump"),),
        corrections=((1, 1),),
        readers=(TREKKPLIKTIG,),
        tried_at=NOW,
    )


def test_jump_by_a_billion_costs_nothing():
    _, order = released(of(1), version(1_000_000_001))
    assert order.missing == (Missing(2, 1_000_000_000, "jump"),)


def test_jump_that_is_believed_anyway_is_decided_on_as_usual():
    versions = {number: Gone() for number in range(3, VERSION_JUMP_MAX + 1)} | {2: version(2)}
    events, order = released(of(1), version(VERSION_JUMP_MAX + 1), versions)
    assert [event[0] for event in events] == [2, VERSION_JUMP_MAX + 1]
    assert order.missing == (Missing(3, VERSION_JUMP_MAX, "HTTP 404"),)


def test_jump_to_a_version_that_was_recorded_as_missing_is_no_longer_missing():
    number = VERSION_JUMP_MAX + 2
    _, order = released(of(1, missing=(Missing(3, 4), Missing(number, number))), version(number))
    assert order.missing == (Missing(2, number - 1, "jump"),)


def test_jump_over_versions_that_are_waited_for_ends_the_waiting():
    order = of(1, seen=3, failing=(Failing(2, 2, NOW - 5),), readers=("322222222",), tried_at=NOW - 5)
    _, order = released(order, version(5000))
    assert (order.seen, order.failing, order.readers) == (0, (), ("322222222", TREKKPLIKTIG))


def test_changed_content_is_published_only_as_a_correction():
    with pytest.raises(RejectedTrekkpaaleggError, match="--correction"):
        decided(of(2), version(2, 200))
    events, order = released(of(2), version(2, 200), correction=True)
    assert events == [(2, "release", False, 1, True)]
    assert order.content_hash == content_hash(version(2, 200))
    events, order = released(order, version(2, 300), correction=True)
    assert events == [(2, "release", False, 2, True)]
    assert order.corrections == ((2, 2),)


def test_later_observations_are_compared_with_a_released_correction():
    _, order = released(of(2), version(2, 200), correction=True)
    assert observe(order, version(2, 200)).order is order
    assert observe(order, version(2)).rejected


def test_a_correction_of_an_older_version_is_written_only_to_the_history():
    events, order = released(of(3), version(1, 200), correction=True)
    assert events == [(1, "release", False, 1, False)]
    assert (order.trekkversjon, order.content_hash) == (3, content_hash(version(3)))


def test_a_version_published_with_the_same_content_is_refused():
    for correction in (False, True):
        with pytest.raises(RejectedTrekkpaaleggError, match="nothing to release"):
            decided(of(2), version(2), correction=correction)


def test_corrections_of_a_midnight_switch_and_of_an_operator_are_numbered_together():
    order = observe(of(1), version(1, trekkstatus=Trekkstatus.AVSLUTTET)).order
    events, _ = released(order, version(1, 200), correction=True)
    assert events == [(1, "release", False, 2, True)]


def test_version_that_cannot_be_encoded_is_refused_with_the_reason():
    with pytest.raises(RejectedTrekkpaaleggError, match="invalid_field at skyldner"):
        decided(of(1), version(2), {2: rejected_version(2)})


def test_messages_hold_no_value_of_a_person():
    with pytest.raises(RejectedTrekkpaaleggError) as caught:
        decided(of(2), version(2, 200))
    assert TEMPLATE.skyldner.reveal() not in str(caught.value)
