"""How a member stands with Kafka and its group, by librdkafka's statistics; whether a fence is of its own making."""

from __future__ import annotations

import json

import pytest

from producer.group.health import CUT_OFF_SECONDS_MIN, FENCE_SECONDS_MAX, OUT_SECONDS_MAX, Standing


class Member:
    """A standing with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.standing = Standing(lambda: self.now)

    def told(self, broker: str, group: str, after_seconds: float = 0.0, join: str = "steady") -> None:
        self.now += after_seconds
        cgrp = {"state": group, "join_state": join}
        self.standing.take(json.dumps({"brokers": {"b:1": {"state": broker}}, "cgrp": cgrp}))


@pytest.fixture
def member() -> Member:
    return Member()


def test_nothing_is_wrong_with_one_that_has_heard_nothing_yet_or_is_in_its_group(member: Member) -> None:
    assert (member.standing.brokers.is_connected, member.standing.trouble()) == (None, None)
    member.told("UP", "up")
    assert (member.standing.brokers.is_connected, member.standing.trouble()) == (True, None)


def test_no_broker_is_told_at_once(member: Member) -> None:
    member.told("CONNECT", "query-coord")
    assert member.standing.brokers.is_connected is False
    assert "no broker is connected" in str(member.standing.trouble())


def test_a_coordinator_that_is_away_is_told_when_it_stays_away(member: Member) -> None:
    member.told("UP", "up")
    member.told("UP", "query-coord", 1)
    assert member.standing.trouble() is None
    member.told("UP", "wait-coord", OUT_SECONDS_MAX + 1)
    assert "the group of workers does not take this one in" in str(member.standing.trouble())
    member.told("UP", "up", 1)
    assert member.standing.trouble() is None


def test_a_fence_out_of_the_blue_is_a_rival_s(member: Member) -> None:
    member.told("UP", "query-coord")
    member.told("UP", "up")
    assert not member.standing.may_join_again()
    member.told("UP", "query-coord")
    member.told("UP", "up", FENCE_SECONDS_MAX + 1)
    assert not member.standing.may_join_again()


def test_one_that_never_was_in_its_group_is_fenced_by_a_rival(member: Member) -> None:
    member.told("UP", "query-coord")
    assert not member.standing.may_join_again()


def test_a_fence_after_a_lost_coordinator_is_answered_by_joining_once(member: Member) -> None:
    member.told("UP", "up")
    member.told("UP", "wait-coord", 10)
    member.told("UP", "up", 10)
    assert member.standing.may_join_again()
    member.now += 5
    assert not member.standing.may_join_again()
    member.told("UP", "wait-coord", FENCE_SECONDS_MAX + 1)
    assert member.standing.may_join_again()


def test_a_coordinator_that_answers_and_takes_nobody_in_is_told_and_may_lead_to_a_fence(member: Member) -> None:
    """As the last broker of three does, which has lost the others."""
    member.told("UP", "up")
    member.told("UP", "up", 1, join="wait-join")
    member.told("UP", "up", OUT_SECONDS_MAX + 1, join="wait-join")
    assert "start the brokers that are down" in str(member.standing.trouble())
    assert member.standing.may_join_again()


def test_a_hand_over_of_lanes_is_neither_told_nor_a_reason_for_a_fence(member: Member) -> None:
    member.told("UP", "up")
    member.told("UP", "up", 1, join="wait-sync")
    member.told("UP", "up", CUT_OFF_SECONDS_MIN - 1, join="wait-assign-call")
    assert member.standing.trouble() is None
    assert not member.standing.may_join_again()
