"""Release of a quarantined record: a new version is published in its turn, other content as a correction."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import msgspec
import pytest
from producer.detect.detect import VERSION_JUMP_MAX, Context, detect

from producer.detect.release import release
from producer.domain.content import content_hash
from producer.domain.state import OrderState, TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Trekkstatus
from producer.errors import RejectedTrekkpaaleggError
from tests.kit.fakes.source import make_trekkpaalegg

ONE, TWO = "311111111", "322222222"
CONTEXT = Context(ONE, frozenset({ONE, TWO}), Origin.POLL, 1_790_000_000_000_000)
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)


def version(trekkversjon=1, amount=100, **changes):
    periode = msgspec.structs.replace(TEMPLATE.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(amount))
    named = {"trekkid": "A", "trekkversjon": trekkversjon, "sekvensnummer": 10 * trekkversjon}
    return msgspec.structs.replace(TEMPLATE, **{**named, "trekkstoerrelse_for_periode": (periode,), **changes})


def state_of(trekkversjon, *, missing=(), amount=100):
    state = TrekkpliktigState(TrekkpliktigPosition(7))
    if trekkversjon:
        published = version(trekkversjon, amount)
        state.remember(b"A", OrderState(trekkversjon, content_hash(published), 1, missing=missing))
    return state


def released(state, element, versions=None, *, correction=False):
    """The decision, and the state after it."""
    found = release(state, element, versions or {}, CONTEXT, correction=correction)
    state.remember_all(found.orders)
    assert found.position == 7
    return [
        (each.trekkpaalegg.trekkversjon, each.origin.value, each.late, each.correction, each.current)
        for each in found.publications
    ], state.order(b"A")


def test_next_version_is_published_in_its_turn():
    events, order = released(state_of(1, missing=((2, 2),)), version(2))
    assert events == [(2, "release", False, None, True)]
    assert (order.trekkversjon, order.missing) == (2, ())


def test_first_version_of_an_order_is_published():
    events, order = released(state_of(0), version(1))
    assert events == [(1, "release", False, None, True)]
    assert order.trekkversjon == 1


def test_older_version_that_is_missing_is_published_late_and_leaves_the_newest_alone():
    events, order = released(state_of(5, missing=((2, 4),)), version(3))
    assert events == [(3, "release", True, None, False)]
    assert (order.trekkversjon, order.content_hash, order.missing) == (5, content_hash(version(5)), ((2, 2), (4, 4)))


def test_versions_before_it_are_published_too():
    events, order = released(state_of(1), version(4), {("A", 2): version(2), ("A", 3): Gone()})
    assert events == [(2, "gapfill", False, None, True), (4, "release", False, None, True)]
    assert order.missing == ((3, 3),)


def test_version_before_it_that_cannot_be_fetched_now_stops_it():
    found = release(state_of(1), version(3), {("A", 2): Failed("503")}, CONTEXT, correction=False)
    assert found.stopped == Failed("503")
    assert found.publications == []


def test_a_jump_is_accepted_and_skipped_versions_are_recorded_as_missing():
    events, order = released(state_of(1), version(VERSION_JUMP_MAX + 2))
    assert events == [(VERSION_JUMP_MAX + 2, "release", False, None, True)]
    assert order.missing == ((2, VERSION_JUMP_MAX + 1),)
    assert order.content_hash == content_hash(version(VERSION_JUMP_MAX + 2))


def test_jump_that_detection_would_believe_is_left_to_it():
    versions = {("A", number): Gone() for number in range(3, VERSION_JUMP_MAX + 1)} | {("A", 2): version(2)}
    events, order = released(state_of(1), version(VERSION_JUMP_MAX + 1), versions)
    assert [event[0] for event in events] == [2, VERSION_JUMP_MAX + 1]
    assert order.missing == ((3, VERSION_JUMP_MAX),)


def test_jump_to_a_version_that_was_recorded_as_missing_is_no_longer_missing():
    number = VERSION_JUMP_MAX + 2
    _, order = released(state_of(1, missing=((3, 4), (number, number))), version(number))
    assert order.missing == ((2, number - 1),)


def test_jump_of_an_order_that_is_anothers_of_ours_is_left_to_that_one():
    events, order = released(state_of(1), version(VERSION_JUMP_MAX + 2, trekkpliktig=TWO))
    assert events == []
    assert order.trekkversjon == 1


def test_order_of_a_trekkpliktig_that_is_none_of_ours_is_published_here():
    events, _ = released(state_of(1), version(2, trekkpliktig="999999999"))
    assert events == [(2, "release", False, None, True)]


def test_changed_content_is_published_only_as_a_correction():
    state = state_of(2)
    with pytest.raises(RejectedTrekkpaaleggError, match="--correction"):
        release(state, version(2, 200), {}, CONTEXT, correction=False)
    events, order = released(state, version(2, 200), correction=True)
    assert events == [(2, "release", False, 1, True)]
    assert order.content_hash == content_hash(version(2, 200))
    events, order = released(state, version(2, 300), correction=True)
    assert events == [(2, "release", False, 2, True)]
    assert order.corrections == ((2, 2),)


def test_later_answers_are_compared_with_a_released_correction():
    state = state_of(2)
    released(state, version(2, 200), correction=True)
    assert not detect(state, [version(2, 200)], {}, CONTEXT).changes_something
    assert detect(state, [version(2)], {}, CONTEXT).rejected


def test_a_correction_of_an_older_version_is_written_only_to_the_history():
    events, order = released(state_of(3), version(1, 200), correction=True)
    assert events == [(1, "release", False, 1, False)]
    assert (order.trekkversjon, order.content_hash) == (3, content_hash(version(3)))


def test_a_version_published_with_the_same_content_is_refused():
    for correction in (False, True):
        with pytest.raises(RejectedTrekkpaaleggError, match="nothing to release"):
            release(state_of(2), version(2), {}, CONTEXT, correction=correction)


def test_corrections_of_a_midnight_switch_and_of_an_operator_are_numbered_together():
    state = state_of(1)
    ended = version(1, trekkstatus=Trekkstatus.AVSLUTTET)
    state.remember_all(detect(state, [ended], {}, CONTEXT).orders)
    events, _ = released(state, version(1, 200), correction=True)
    assert events == [(1, "release", False, 2, True)]


def test_messages_hold_no_value_of_a_person():
    with pytest.raises(RejectedTrekkpaaleggError) as caught:
        release(state_of(2), version(2, 200), {}, CONTEXT, correction=False)
    assert TEMPLATE.skyldner.reveal() not in str(caught.value)
