"""What operators ask for is granted or refused, by what stands, and the same wish twice does nothing more."""

from __future__ import annotations

import pytest

from producer.detect.requests import WISHES_MAX, grant, with_progress, without
from producer.domain.requests import Wish
from producer.domain.state import TrekkpliktigPosition

NOW = 1_790_000_000_000_000
FAR = TrekkpliktigPosition(250, NOW - 5)


def wish(kind, name="w", position=None):
    return Wish(name, kind, NOW - 1, position)


def granted(kind, position=FAR, orders=3, *, is_ours=True, set_to=None, name="w"):
    return grant(wish(kind, name, set_to), position, orders, NOW, is_ours=is_ours)


def outcomes(result):
    return [(each.wish.id, each.outcome) for each in result.answers]


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_reading_again_waits_in_the_position_until_it_is_done(kind):
    result = granted(kind)
    assert result.position.wishes == (wish(kind),)
    assert (result.answers, result.interrupts) == ((), False)
    assert granted(kind, result.position).position == result.position


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_reading_again_is_refused_where_it_cannot_be(kind):
    full = TrekkpliktigPosition(wishes=tuple(wish(kind, str(number)) for number in range(WISHES_MAX)))
    for position, is_ours, word in (
        (FAR, False, "not among"),
        (TrekkpliktigPosition(suspended_at=1), True, "resume it first"),
        (full, True, "wait for it already"),
    ):
        result = granted(kind, position, is_ours=is_ours)
        assert outcomes(result) == [("w", "refused")]
        assert word in result.answers[0].detail
        assert result.position == position


def test_suspending_keeps_since_when_gives_up_what_waits_and_breaks_off_what_goes_on():
    waiting = granted("backfill", name="b").position
    result = granted("suspend", waiting)
    assert result.position == TrekkpliktigPosition(250, NOW - 5, suspended_at=NOW)
    assert outcomes(result) == [("b", "failed"), ("w", "done")]
    assert result.interrupts
    again = grant(wish("suspend", "later"), result.position, 0, NOW + 9, is_ours=True)
    assert again.position.suspended_at == NOW


def test_resuming_is_done_whether_it_was_suspended_or_not():
    for position in (FAR, granted("suspend").position):
        result = granted("resume", position)
        assert (result.position, outcomes(result)) == (FAR, [("w", "done")])


def test_setting_moves_the_position_and_nothing_else():
    suspended = granted("suspend").position
    result = granted("set", suspended, set_to=0)
    assert result.position == TrekkpliktigPosition(0, NOW - 5, suspended_at=NOW)
    assert (result.interrupts, result.forgets) == (True, False)


def test_forgetting_keeps_the_suspension_and_what_waits_and_is_done_once():
    before = TrekkpliktigPosition(250, NOW, suspended_at=7, wishes=(wish("backfill", "b"),))
    result = granted("forget", before)
    assert result.position == TrekkpliktigPosition(suspended_at=7, forgotten_by="w", wishes=(wish("backfill", "b"),))
    assert (result.forgets, result.interrupts, result.answers[0].wish.orders_read) == (True, True, 3)
    again = granted("forget", TrekkpliktigPosition(99, NOW, forgotten_by="w"))
    assert (again.forgets, again.position.position, outcomes(again)) == (False, 99, [("w", "done")])
    assert granted("forget", TrekkpliktigPosition(99, forgotten_by="w"), name="other").forgets


def test_progress_is_added_to_the_wishes_that_are_granted_and_no_other():
    position = TrekkpliktigPosition(wishes=(wish("backfill", "a"), wish("backfill", "b")))
    for _ in range(2):
        position = with_progress(position, frozenset("a"), 100, 7, 1)
    first, second = position.wishes
    assert (first.orders_read, first.published, first.quarantined) == (100, 14, 2)
    assert second == wish("backfill", "b")
    left, gone = without(position, frozenset("a"))
    assert (left.wishes, gone) == ((second,), [first])
