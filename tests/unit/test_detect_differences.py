"""What a reader hands over: what its list shows otherwise than before, and what its list lacks."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from producer.detect.differences import (
    ABSENT_MAX,
    UNIDENTIFIED_MAX,
    absent,
    differences,
    digest_of,
    is_unidentified,
    lowered,
    with_unidentified,
    within_limit,
)
from producer.domain.content import CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.observation import order_key
from producer.domain.state import NOT_HANDED_OVER, HandedOver, TrekkpliktigState
from tests.kit.versions import rejected_version, version

NOW = 1_790_000_000_000_000
HOUR = 3600 * 1_000_000


def state_of(*elements):
    """The state of a reader that has handed over these elements, in this order."""
    state = TrekkpliktigState()
    for element in elements:
        state.remember(order_key(element), digest_of(element))
    return state


def test_everything_differs_from_nothing():
    page = [version(1), rejected_version(1, trekkid="B"), rejected_version(None, trekkid=None)]
    assert differences(TrekkpliktigState(), page) == page


def test_what_was_handed_over_is_not_handed_over_again():
    page = [version(1), rejected_version(1, trekkid="B"), rejected_version(None, trekkid=None)]
    state = state_of(*page)
    assert differences(state, page) == []
    assert differences(state, [version(1, "100.00", sekvensnummer=99)]) == []
    assert differences(state, page, everything=True) == page


@pytest.mark.parametrize("element", [version(2), version(1, 200), rejected_version(1), version(1, saksnummer="x")])
def test_other_version_or_content_differs(element):
    assert differences(state_of(version(1)), [element]) == [element]


@pytest.mark.parametrize("element", [version(1), rejected_version(2), rejected_version(1, b"bad otherwise")])
def test_what_follows_an_element_that_was_not_understood_differs(element):
    assert differences(state_of(rejected_version(1)), [element]) == [element]


def test_order_that_is_only_known_differs():
    state = TrekkpliktigState()
    state.remember(b"A", NOT_HANDED_OVER)
    assert differences(state, [version(1)]) == [version(1)]
    assert differences(state, [rejected_version(None)]) == [rejected_version(None)]


def test_content_is_compared_by_the_method_of_what_was_handed_over(monkeypatch):
    monkeypatch.setitem(METHODS, 2, lambda trekkpaalegg, _: trekkpaalegg.opprettet.to_bytes(8, "big"))
    state = TrekkpliktigState()
    state.remember(b"A", HandedOver(1, content_hash(version(1), method=2), 2))
    assert differences(state, [version(1, 200)]) == []
    assert differences(state, [version(1, opprettet=7)]) == [version(1, opprettet=7)]


def test_hash_by_a_newer_programs_method_differs():
    state = TrekkpliktigState()
    state.remember(b"A", HandedOver(1, content_hash(version(1)), CONTENT_HASH_VERSION + 7))
    assert differences(state, [version(1)]) == [version(1)]


def test_elements_below_what_was_handed_over_are_lowered():
    state = state_of(version(3))
    page = [version(2), version(3), version(4), version(1, trekkid="B"), rejected_version(1)]
    assert lowered(state, page) == [version(2)]


# Orders that the list lacks


def known(*keys):
    state = TrekkpliktigState()
    for key in keys:
        state.remember(key, NOT_HANDED_OVER)
    return state


def test_orders_that_are_known_and_not_seen_are_absent():
    state = known(b"A", b"B", b"C", b"#0f")
    assert sorted(absent(state, [hash(b"B")], seed=1)) == [b"A", b"C"]
    assert absent(state, [hash(b"A"), hash(b"B"), hash(b"C")], seed=1) == []


def test_absent_orders_are_found_in_parts_as_well_as_at_once():
    state = known(*[b"%d" % number for number in range(140_000)])
    seen = [hash(b"%d" % number) for number in range(140_000) if number % 1000]
    assert sorted(absent(state, seen, seed=1)) == sorted(b"%d" % number for number in range(0, 140_000, 1000))


def test_of_very_many_absent_orders_some_are_handed_over_each_time_and_in_the_end_all():
    state = known(*[b"%d" % number for number in range(2 * ABSENT_MAX)])
    handed_over = set()
    for seed in range(30):
        keys = absent(state, [], seed)
        assert len(set(keys)) == ABSENT_MAX
        assert keys == absent(state, [], seed)
        handed_over |= set(keys)
    assert len(handed_over) == len(state)


# Elements without trekkid


def nameless(text):
    return replace(rejected_version(None, trekkid=None), raw_hash=text.encode().ljust(32))


def take(state, elements, now):
    """What is handed over of these elements, as the lane keeps it in the state; returns it."""
    kept = within_limit(state, differences(state, elements), now)
    count = sum(is_unidentified(state, each) for each in kept)
    state.position = with_unidentified(state.position, count, now)
    for each in kept:
        state.remember(order_key(each), digest_of(each))
    return kept


def test_a_stated_number_of_elements_without_trekkid_is_handed_over_a_day():
    state = TrekkpliktigState()
    taken = [
        len(take(state, [nameless(f"{hour}/{each}") for each in range(30)], NOW + hour * HOUR)) for hour in range(23)
    ]
    assert taken == [30, 30, 30, UNIDENTIFIED_MAX - 90, *[0] * 19]
    assert len(take(state, [nameless(f"next day {each}") for each in range(200)], NOW + 24 * HOUR)) == UNIDENTIFIED_MAX
    assert take(state, [nameless("later")], NOW + 47 * HOUR) == []


def test_elements_without_trekkid_that_were_handed_over_are_not_counted_again_nor_are_others_held_back():
    state = TrekkpliktigState()
    same = [nameless(str(each)) for each in range(UNIDENTIFIED_MAX)]
    take(state, same, NOW)
    elements = [*same, nameless("one more"), version(1), rejected_version(1, trekkid="B")]
    assert within_limit(state, elements, NOW) == [*same, *elements[-2:]]
    assert take(state, elements, NOW) == elements[-2:]


@pytest.mark.parametrize("jump", [-1, 24 * HOUR, 400 * 24 * HOUR, -400 * 24 * HOUR])
def test_a_clock_that_jumps_begins_another_day_at_most(jump):
    state = TrekkpliktigState()
    for now in (NOW, NOW + jump):
        assert len(take(state, [nameless(f"{now}/{each}") for each in range(300)], now)) == UNIDENTIFIED_MAX
        assert take(state, [nameless(f"{now}/more")], now + HOUR) == []
    assert state.position.unidentified == UNIDENTIFIED_MAX
