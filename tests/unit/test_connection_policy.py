"""When a consumer that Kafka has refused, fenced or forgotten is let try again, and when that ends it."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.observe.port import LedgerObserver
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.errors import (
    DisplacedError,
    FatalError,
    FencedError,
    ForgottenError,
    KafkaSettingsError,
    RefusedError,
    RetryableError,
)
from trekkpaalegg.exactly_once.worker import REJOIN_SECONDS_MIN, ConnectionPolicy


class Door:
    """A policy with a clock that is moved by hand, and what it reported."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.policy = ConnectionPolicy(self.tell, LedgerObserver(), lambda: self.now)

    def tell(self, event: str, **details: Any) -> None:
        self.told.append(f"{event}: {details['reason']}" if details else event)


@pytest.fixture
def door() -> Door:
    return Door()


def test_who_was_displaced_joins_again_once_a_minute(door: Door) -> None:
    door.policy.failed(DisplacedError("first"))
    door.now += REJOIN_SECONDS_MIN
    door.policy.failed(DisplacedError("second"))
    door.now += REJOIN_SECONDS_MIN - 1
    with pytest.raises(FencedError, match="third") as raised:
        door.policy.failed(DisplacedError("third"))
    assert ending_of(raised.value)[0] is ExitCode.FENCED
    assert [each.rpartition(": ")[2] for each in door.told] == ["first", "second"]


def test_who_was_refused_waits_for_all_that_passes_until_let_in(door: Door) -> None:
    for error in (
        RefusedError("password"),
        RefusedError("password"),
        RetryableError("away"),
        KafkaSettingsError(["key"]),
    ):
        door.policy.failed(error)
    assert [each.rpartition(": ")[2] for each in door.told] == ["password", "away", "key"]
    door.policy.connected()
    for error in (RetryableError("away"), KafkaSettingsError(["key"])):
        with pytest.raises(type(error)):
            door.policy.failed(error)


def test_what_needs_a_person_ends_it_also_after_a_refusal(door: Door) -> None:
    with pytest.raises(FatalError):
        door.policy.failed(FatalError("no such topic"))


def test_a_client_that_has_forgotten_its_brokers_is_replaced_at_once_and_as_often_as_it_happens(door: Door) -> None:
    for _ in range(3):
        door.policy.failed(ForgottenError("all forgotten"))
    assert door.told == ["all forgotten"] * 3
