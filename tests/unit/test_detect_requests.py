"""Decisions on operator requests: done or refused by the position, and without effect the second time."""

from __future__ import annotations

import pytest

from producer.detect.requests import REQUESTS_WAITING_MAX, decide_request, without
from producer.domain.requests import OperatorRequest
from producer.domain.state import TrekkpliktigPosition

NOW = 1_790_000_000_000_000
FAR = TrekkpliktigPosition(250, NOW - 5)


def request(kind, name="w", position=None):
    return OperatorRequest(name, kind, NOW - 1, position)


def decision(kind, position=FAR, orders=3, *, is_served=True, set_to=None, name="w"):
    return decide_request(request(kind, name, set_to), position, orders, NOW, is_served=is_served)


def outcomes(result):
    return [(each.request.id, each.outcome) for each in result.results]


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_reading_again_waits_in_the_position_until_it_is_done(kind):
    result = decision(kind)
    assert result.position.requests == (request(kind),)
    assert (result.results, result.interrupts) == ((), False)
    assert decision(kind, result.position).position == result.position


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_reading_again_is_refused_where_it_cannot_be(kind):
    full = TrekkpliktigPosition(requests=tuple(request(kind, str(number)) for number in range(REQUESTS_WAITING_MAX)))
    for position, is_served, word in (
        (FAR, False, "not among"),
        (TrekkpliktigPosition(suspended_at=1), True, "resume it first"),
        (full, True, "waiting for it already"),
    ):
        result = decision(kind, position, is_served=is_served)
        assert outcomes(result) == [("w", "refused")]
        assert word in result.results[0].detail
        assert result.position == position


def test_request_that_waits_already_is_not_refused_when_its_signal_comes_again():
    waiting = decision("backfill").position
    again = decision("backfill", waiting, is_served=False)
    assert (again.position, again.results) == (waiting, ())


def test_suspending_fails_waiting_requests_and_aborts_the_reading():
    waiting = decision("backfill", name="b").position
    result = decision("suspend", waiting)
    assert result.position == TrekkpliktigPosition(250, NOW - 5, suspended_at=NOW)
    assert outcomes(result) == [("b", "failed"), ("w", "done")]
    assert result.interrupts
    again = decide_request(request("suspend", "later"), result.position, 0, NOW + 9, is_served=True)
    assert again.position.suspended_at == NOW


def test_resuming_is_done_whether_it_was_suspended_or_not():
    for position in (FAR, decision("suspend").position):
        result = decision("resume", position)
        assert (result.position, outcomes(result)) == (FAR, [("w", "done")])


def test_setting_moves_the_position_and_nothing_else():
    suspended = decision("suspend").position
    result = decision("set", suspended, set_to=0)
    assert result.position == TrekkpliktigPosition(0, NOW - 5, suspended_at=NOW)
    assert (result.interrupts, result.forgets) == (True, False)


def test_forgetting_keeps_the_suspension_and_what_waits_and_is_done_once():
    before = TrekkpliktigPosition(250, NOW, suspended_at=7, requests=(request("backfill", "b"),))
    result = decision("forget", before)
    assert result.position == TrekkpliktigPosition(
        suspended_at=7, forgotten_by="w", requests=(request("backfill", "b"),)
    )
    assert (result.forgets, result.interrupts, result.results[0].request.orders_read) == (True, True, 3)
    again = decision("forget", TrekkpliktigPosition(99, NOW, forgotten_by="w"))
    assert (again.forgets, again.position.position, outcomes(again)) == (False, 99, [("w", "done")])
    assert decision("forget", TrekkpliktigPosition(99, forgotten_by="w"), name="other").forgets


def test_requests_that_have_ended_leave_the_position():
    position = TrekkpliktigPosition(requests=(request("backfill", "a"), request("backfill", "b")))
    left, gone = without(position, frozenset("a"))
    assert (left.requests, gone) == ((request("backfill", "b"),), [request("backfill", "a")])
