"""The health of a Kafka client and of a group member, as librdkafka's statistics and errors show it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.kit.waiting import TurnedClock
from trekkpaalegg.kafka.health import (
    CUT_OFF_SECONDS_MIN,
    FENCE_SECONDS_MAX,
    NO_BROKER,
    OUT_OF_GROUP,
    OUT_SECONDS_MAX,
    ClientHealth,
    MemberHealth,
)

ALL_DOWN, PASSWORD, AWAY = (
    KafkaError(getattr(KafkaError, name)) for name in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_TRANSPORT")
)
COORDINATOR = {"GroupCoordinator": {"state": "INIT", "source": "logical"}}
BOOTSTRAP = {"b:1/bootstrap": {"state": "CONNECT", "source": "configured"}}
LEARNED = {"b:1/1": {"state": "UP", "source": "learned"}}


def statistics(*brokers: dict[str, Any]) -> str:
    return json.dumps({"brokers": {name: broker for each in brokers for name, broker in each.items()}})


class Member:
    """The health of a member with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.health = MemberHealth("t", self.clock)

    def reports(self, broker: str, group: str, after_seconds: float = 0.0, join: str = "steady") -> None:
        self.clock.seconds += after_seconds
        self.read_late(broker, group, self.clock.seconds, join)

    def read_late(self, broker: str, group: str, written_at_seconds: float, join: str) -> None:
        """A document that was written before it is read, as when the member was kept from polling."""
        cgrp = {"state": group, "join_state": join}
        brokers = {"b:1": {"state": broker, "source": "learned"}}
        written = round(written_at_seconds * 1_000_000)
        self.health.update(json.dumps({"ts": written, "brokers": brokers, "cgrp": cgrp}))


@pytest.fixture
def member() -> Member:
    return Member()


def test_a_member_without_reports_or_in_its_group_has_no_trouble(member: Member) -> None:
    assert (member.health.is_connected, member.health.trouble()) == (None, None)
    member.reports("UP", "up")
    assert (member.health.is_connected, member.health.is_member, member.health.trouble()) == (True, True, None)


def test_it_is_reported_at_once_that_no_broker_is_connected(member: Member) -> None:
    member.reports("CONNECT", "query-coord")
    assert member.health.is_connected is False
    assert member.health.trouble() == NO_BROKER


def test_a_coordinator_that_stays_away_is_reported(member: Member) -> None:
    member.reports("UP", "up")
    member.reports("UP", "query-coord", 1)
    assert member.health.trouble() is None
    member.reports("UP", "wait-coord", OUT_SECONDS_MAX + 1)
    assert member.health.trouble() == OUT_OF_GROUP
    member.reports("UP", "up", 1)
    assert member.health.trouble() is None


def test_a_fence_without_a_lost_coordinator_comes_from_a_rival(member: Member) -> None:
    member.reports("UP", "query-coord")
    assert not member.health.is_fence_self_inflicted()
    member.reports("UP", "up")
    assert not member.health.is_fence_self_inflicted()
    member.reports("UP", "query-coord")
    member.reports("UP", "up", 1)
    assert member.health.is_fence_self_inflicted()
    member.reports("UP", "up", FENCE_SECONDS_MAX + 1)
    assert not member.health.is_fence_self_inflicted()


def test_a_fence_soon_after_joining_again_comes_from_a_rival(member: Member) -> None:
    member.reports("UP", "up")
    member.reports("UP", "wait-coord", 10)
    member.reports("UP", "up", 10)
    assert member.health.is_fence_self_inflicted()
    member.health.joined_again()
    member.health.replaced()
    member.clock.seconds += 5
    assert not member.health.is_fence_self_inflicted()
    member.reports("UP", "wait-coord", FENCE_SECONDS_MAX + 1)
    assert member.health.is_fence_self_inflicted()


def test_a_coordinator_that_admits_nobody_is_reported_and_may_cause_a_fence(member: Member) -> None:
    """As the last broker of three does, which has lost the others."""
    member.reports("UP", "up")
    member.reports("UP", "up", 1, join="wait-join")
    member.reports("UP", "up", OUT_SECONDS_MAX + 1, join="wait-join")
    assert "start the brokers that are down" in str(member.health.trouble())
    assert member.health.is_fence_self_inflicted()


@pytest.mark.parametrize(("seconds", "is_ours"), [(CUT_OFF_SECONDS_MIN - 1, False), (CUT_OFF_SECONDS_MIN, True)])
def test_only_a_long_rebalance_is_reported_and_may_cause_a_fence(member: Member, seconds: float, is_ours: bool) -> None:
    member.reports("UP", "up")
    member.reports("UP", "up", 1, join="wait-join")
    member.reports("UP", "up", seconds, join="wait-sync")
    assert member.health.trouble() is None
    assert member.health.is_fence_self_inflicted() is is_ours


def test_a_member_kept_from_polling_learns_afterwards_how_long_it_was_cut_off(member: Member) -> None:
    """As when a revoked lane waited for its transaction: its reports are read at once, then the fence."""
    member.reports("UP", "up")
    written = member.clock.seconds
    member.clock.seconds += 10
    member.read_late("UP", "up", written + 1, "wait-join")
    assert not member.health.is_fence_self_inflicted()
    member.read_late("UP", "up", written + 1 + CUT_OFF_SECONDS_MIN, "wait-join")
    assert member.health.is_fence_self_inflicted()


def test_a_password_refused_after_all_brokers_were_down_is_a_refusal(member: Member) -> None:
    """By one broker of several it is none, nor once another one is connected."""
    health = member.health
    for error in (PASSWORD, AWAY, ALL_DOWN):
        health.record_error(error)
        assert health.refusal is None
    member.reports("UP", "up")
    health.record_error(PASSWORD)
    assert health.refusal is None
    health.record_error(ALL_DOWN)
    assert health.refusal is ALL_DOWN
    health.replaced()
    assert (health.refusal, health.reason.is_refusal) == (None, False)


def test_that_all_brokers_are_down_shows_by_the_error_or_by_the_statistics(member: Member) -> None:
    """A client that has not been connected yet may be on its way, by the statistics."""
    health = member.health
    member.reports("DOWN", "init")
    assert not health.are_all_down
    health.record_error(ALL_DOWN)
    assert health.are_all_down
    member.reports("DOWN", "init")
    assert health.are_all_down
    member.reports("UP", "up")
    assert not health.are_all_down
    member.reports("DOWN", "up")
    assert health.are_all_down


def test_partitions_and_known_ends_are_those_of_the_client_s_topic() -> None:
    partitions = {
        "0": {"partition": 0, "hi_offset": 12, "ls_offset": 10},
        "1": {"partition": 1, "hi_offset": -1001},
        "-1": {"partition": -1, "hi_offset": -1001},
    }
    document = {
        "brokers": BOOTSTRAP | LEARNED,
        "topics": {"t": {"topic": "t", "partitions": partitions}, "other": {"partitions": {}}},
    }
    health = ClientHealth("t")
    health.update(json.dumps(document))
    assert (health.partition_count, health.ends) == (2, {0: 12})
    health.update("{}")
    assert (health.partition_count, health.ends) == (0, {})


@pytest.mark.parametrize("known", [BOOTSTRAP, LEARNED])
def test_a_broker_that_is_known_is_not_forgotten_in_whatever_state(known: dict[str, Any]) -> None:
    health = ClientHealth()
    for _ in range(5):
        health.update(statistics(COORDINATOR, known))
        assert not health.has_forgotten_brokers


@pytest.mark.parametrize("left", [[], [COORDINATOR]])
def test_brokers_are_forgotten_when_two_reports_in_a_row_name_none_or_only_a_coordinator(
    left: list[dict[str, Any]],
) -> None:
    health = ClientHealth()
    found = []
    for document in (statistics(*left), statistics(BOOTSTRAP), statistics(*left), statistics(*left)):
        health.update(document)
        found.append(health.has_forgotten_brokers)
    assert found == [False, False, False, True]


def test_a_new_client_has_forgotten_none() -> None:
    health = ClientHealth()
    health.update(statistics())
    health.update(statistics())
    health.replaced()
    health.update(statistics())
    assert not health.has_forgotten_brokers
