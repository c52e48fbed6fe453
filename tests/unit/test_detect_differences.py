"""What a reader hands over: what its list shows otherwise than before, and what its list lacks."""

from __future__ import annotations

import pytest

from producer.detect.differences import ABSENT_MAX, absent, differences, digest_of, lowered
from producer.domain.content import CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.observation import order_key
from producer.domain.state import NOT_HANDED_OVER, HandedOver, TrekkpliktigState
from tests.kit.versions import rejected_version, version


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
