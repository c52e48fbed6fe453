"""When librdkafka's statistics tell the producer's clients and the consumers' that it has forgotten every broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumers.apply.retry import Admission
from consumers.observe.port import NullObserver
from consumers.stream.health import Standing
from trekkpaalegg.errors import ForgottenError
from trekkpaalegg.kafka.brokers import Brokers
from trekkpaalegg.kafka.diagnosis import LastReason

COORDINATOR = {"GroupCoordinator": {"state": "INIT", "source": "logical"}}
BOOTSTRAP = {"b:1/bootstrap": {"state": "CONNECT", "source": "configured"}}
LEARNED = {"b:1/1": {"state": "UP", "source": "learned"}}


def statistics(*brokers: dict[str, Any]) -> str:
    return json.dumps({"brokers": {name: broker for each in brokers for name, broker in each.items()}})


def is_forgotten(standing: Standing) -> bool:
    try:
        standing.check()
    except ForgottenError:
        return True
    return False


@pytest.mark.parametrize("known", [BOOTSTRAP, LEARNED])
def test_a_broker_that_is_known_is_not_forgotten_however_it_is(known: dict[str, Any]) -> None:
    producers, consumers = Brokers(), Standing("t", LastReason())
    for take in (producers.take, consumers.take):
        for _ in range(5):
            take(statistics(COORDINATOR, known))
    assert not producers.are_forgotten
    assert not is_forgotten(consumers)


@pytest.mark.parametrize("left", [[], [COORDINATOR]])
def test_when_none_or_only_a_coordinator_is_told_of_twice_all_are_forgotten(left: list[dict[str, Any]]) -> None:
    producers, consumers = Brokers(), Standing("t", LastReason())
    seen = []
    for told in (statistics(*left), statistics(BOOTSTRAP), statistics(*left), statistics(*left)):
        producers.take(told)
        consumers.take(told)
        seen.append((producers.are_forgotten, is_forgotten(consumers)))
    assert seen == [(False, False)] * 3 + [(True, True)]


def test_a_new_client_has_forgotten_none() -> None:
    brokers = Brokers()
    brokers.take(statistics())
    brokers.take(statistics())
    brokers.connecting_anew()
    brokers.take(statistics())
    assert not brokers.are_forgotten


def test_who_has_forgotten_is_let_in_again_at_once_and_as_often_as_it_happens() -> None:
    told: list[str] = []
    admission = Admission(lambda event, **_: told.append(event), NullObserver())
    for _ in range(3):
        admission.denied(ForgottenError("all forgotten"))
    assert told == ["all forgotten: connecting anew"] * 3
