"""Whether Kafka lets a consumer in: what its statistics and errors say, and when it is tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumers.apply.retry import JOINED_AGAIN_SECONDS_MIN, Admission
from consumers.cli.exit_codes import ExitCode, ending_of
from consumers.observe.port import NullObserver
from consumers.stream.health import CUT_OFF_SECONDS_MIN, FENCE_SECONDS_MAX, Standing
from trekkpaalegg.errors import (
    DisplacedError,
    FatalError,
    FencedError,
    KafkaSettingsError,
    RefusedError,
    RetryableError,
)
from trekkpaalegg.kafka.diagnosis import LastReason

ALL_DOWN, PASSWORD, AWAY = (
    KafkaError(getattr(KafkaError, name)) for name in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_TRANSPORT")
)


class Member:
    """A standing with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.standing = Standing("t", LastReason(), lambda: self.now)

    def told(self, broker: str, group: str, after_seconds: float = 0.0, join: str = "steady") -> None:
        self.now += after_seconds
        cgrp = {"state": group, "join_state": join}
        self.standing.take(json.dumps({"brokers": {"b:1": {"state": broker}}, "cgrp": cgrp}))

    @property
    def is_displaced(self) -> bool:
        """Whether a fence now is taken for one of its own making."""
        return isinstance(self.standing.judged(FencedError("fenced")), DisplacedError)


@pytest.fixture
def member() -> Member:
    return Member()


def test_a_fence_out_of_the_blue_is_a_rival_s(member: Member) -> None:
    member.told("UP", "wait-coord")
    assert not member.is_displaced
    member.told("UP", "up")
    assert not member.is_displaced


def test_a_fence_after_a_lost_coordinator_is_of_its_own_making_for_a_while(member: Member) -> None:
    member.told("UP", "up")
    member.told("UP", "wait-coord", 10)
    member.told("UP", "up", 1)
    assert member.is_displaced
    assert not isinstance(member.standing.judged(RefusedError("no")), FencedError)
    member.told("UP", "up", FENCE_SECONDS_MAX + 1)
    assert not member.is_displaced


@pytest.mark.parametrize(("seconds", "is_displaced"), [(CUT_OFF_SECONDS_MIN - 1, False), (CUT_OFF_SECONDS_MIN, True)])
def test_a_hand_over_is_no_reason_for_a_fence_unless_it_takes_long(
    member: Member, seconds: float, is_displaced: bool
) -> None:
    member.told("UP", "up")
    member.told("UP", "up", 1, join="wait-join")
    member.told("UP", "up", seconds, join="wait-sync")
    assert member.is_displaced is is_displaced


def test_a_password_refused_after_all_brokers_were_down_is_a_refusal(member: Member) -> None:
    """Of one broker of several it is none, nor once another one is connected."""
    assert not member.standing.is_refused(PASSWORD)
    member.standing.is_refused(AWAY)
    assert not member.standing.is_refused(ALL_DOWN)
    assert member.standing.is_refused(PASSWORD)
    member.told("UP", "up")
    assert not member.standing.is_refused(PASSWORD)


def test_silence_begins_with_the_error_or_with_the_statistics_and_is_told_once(member: Member) -> None:
    """Who has not been connected yet is not silent by the statistics: it may be on its way."""
    standing = member.standing
    member.told("DOWN", "init")
    assert not standing.begins_silence()
    standing.is_refused(ALL_DOWN)
    assert [standing.begins_silence() for _ in range(2)] == [True, False]
    member.told("DOWN", "init")
    assert not standing.begins_silence()
    member.told("UP", "up")
    assert not standing.begins_silence()
    member.told("DOWN", "up")
    assert [standing.begins_silence() for _ in range(2)] == [True, False]
    standing.is_refused(ALL_DOWN)
    assert not standing.begins_silence()


class Door:
    """An admission with a clock that is moved by hand, and what it told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.admission = Admission(self.tell, NullObserver(), lambda: self.now)

    def tell(self, event: str, **details: Any) -> None:
        self.told.append(f"{event}: {details['reason']}")


@pytest.fixture
def door() -> Door:
    return Door()


def test_who_was_displaced_joins_again_once_a_minute(door: Door) -> None:
    door.admission.denied(DisplacedError("first"))
    door.now += JOINED_AGAIN_SECONDS_MIN
    door.admission.denied(DisplacedError("second"))
    door.now += JOINED_AGAIN_SECONDS_MIN - 1
    with pytest.raises(FencedError, match="third") as raised:
        door.admission.denied(DisplacedError("third"))
    assert ending_of(raised.value)[0] is ExitCode.FENCED
    assert [each.rpartition(": ")[2] for each in door.told] == ["first", "second"]


def test_who_was_refused_waits_for_all_that_passes_until_let_in(door: Door) -> None:
    for error in (
        RefusedError("password"),
        RefusedError("password"),
        RetryableError("away"),
        KafkaSettingsError(["key"]),
    ):
        door.admission.denied(error)
    assert [each.rpartition(": ")[2] for each in door.told] == ["password", "away", "key"]
    door.admission.granted()
    for error in (RetryableError("away"), KafkaSettingsError(["key"])):
        with pytest.raises(type(error)):
            door.admission.denied(error)


def test_what_needs_a_person_ends_it_also_after_a_refusal(door: Door) -> None:
    with pytest.raises(FatalError):
        door.admission.denied(FatalError("no such topic"))
