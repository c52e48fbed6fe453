"""What an answer means, and what is done about it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.webhook.delivery import (
    RETRY_AFTER_SECONDS_MAX,
    DeliveryResult,
    ResultKind,
    result_of,
)
from consumers.webhook.schedule import (
    HOLD_SECONDS_MAX,
    Complete,
    Park,
    PendingEvent,
    RetryLater,
    RetryPolicy,
    Stop,
    decide,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC).timestamp()
POLICY = RetryPolicy()


FIRST = PendingEvent(1, "a")


def decided(result: DeliveryResult, pending: PendingEvent = FIRST, *, outages: int = 0, chance: float = 0.5):
    return decide(pending, result, outages=outages, now_seconds=1000.0, retry=POLICY, chance=lambda: chance)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204, 299), ResultKind.DELIVERED),
        ((400, 413, 422), ResultKind.REFUSED),
        ((410,), ResultKind.GONE),
        ((429, 502, 503, 504), ResultKind.UNAVAILABLE),
        ((300, 301, 302, 307, 308, 401, 403, 404, 405, 408, 409, 415, 425, 500, 501, 599), ResultKind.FAILED),
    ],
)
def test_every_status_means_something(statuses: tuple[int, ...], kind: ResultKind) -> None:
    assert {result_of(status, None, NOW).kind for status in statuses} == {kind}


def test_a_result_carries_the_pause_that_the_receiver_asks_for_at_most_a_day() -> None:
    assert result_of(429, "120", NOW).retry_after_seconds == 120.0
    assert result_of(503, "9" * 50, NOW).retry_after_seconds == RETRY_AFTER_SECONDS_MAX
    assert result_of(500, None, NOW).retry_after_seconds is None


def test_delivered_refused_and_gone_are_final() -> None:
    pending = PendingEvent(1, "a")
    assert decided(DeliveryResult(ResultKind.DELIVERED)) == Complete(pending)
    assert decided(DeliveryResult(ResultKind.REFUSED, "no")) == Park(pending, "no")
    assert decided(DeliveryResult(ResultKind.GONE, "gone")) == Stop(pending, "gone")


def test_failures_are_tried_again_after_growing_pauses_and_parked_at_the_limit() -> None:
    pending, pauses = PendingEvent(1, "a"), []
    for _ in range(POLICY.attempts_max - 1):
        decision = decided(DeliveryResult(ResultKind.FAILED, "500"), pending)
        assert isinstance(decision, RetryLater)
        assert decision.hold_until_seconds is None, "others go on"
        pending = decision.later
        pauses.append(pending.due_seconds - 1000.0)
    decision = decided(DeliveryResult(ResultKind.FAILED, "500"), pending)
    assert isinstance(decision, Park)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert 2.0 < sum(pauses) / 3600 < 2.5, "as the docstring of RetryPolicy says"


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_stay_within_their_limits(tries: int, chance: float) -> None:
    pause = POLICY.pause_seconds(tries, chance)
    assert POLICY.first_pause_seconds * 0.799 <= pause <= POLICY.longest_pause_seconds * 1.201


def test_a_longer_pause_is_kept_when_asked_for_and_a_shorter_one_is_not() -> None:
    longer = decided(DeliveryResult(ResultKind.FAILED, "", 700.0))
    shorter = decided(DeliveryResult(ResultKind.FAILED, "", 1.0))
    assert isinstance(longer, RetryLater)
    assert isinstance(shorter, RetryLater)
    assert (longer.later.due_seconds, shorter.later.due_seconds) == (1700.0, 1005.0)


def test_a_receiver_that_is_away_holds_all_and_parks_nothing() -> None:
    pending = PendingEvent(1, "a")
    for outages in range(1000):
        decision = decided(DeliveryResult(ResultKind.UNAVAILABLE, "503"), pending, outages=outages)
        assert isinstance(decision, RetryLater)
        assert decision.hold_until_seconds is not None
        assert decision.hold_until_seconds - 1000.0 <= HOLD_SECONDS_MAX
        if outages:
            assert decision.later.due_seconds <= decision.hold_until_seconds, "it comes back with the receiver"
        pending = decision.later
    assert pending.failures == 0


def test_one_event_that_alone_meets_an_absent_receiver_holds_the_others_up_less_and_less_often() -> None:
    pending, pauses = PendingEvent(1, "a"), []
    for _ in range(8):
        decision = decided(DeliveryResult(ResultKind.UNAVAILABLE, "503"), pending, outages=0)
        assert isinstance(decision, RetryLater)
        pending = decision.later
        pauses.append(pending.due_seconds - 1000.0)
        assert decision.hold_until_seconds == 1005.0
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640]


def test_many_do_not_come_back_at_once() -> None:
    due = {decided(DeliveryResult(ResultKind.FAILED), chance=chance / 10).later.due_seconds for chance in range(11)}
    assert (len(due), min(due), max(due)) == (11, 1004.0, 1006.0)
