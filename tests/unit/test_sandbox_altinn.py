"""The simulated Altinn's state: the retry ladder, doubles, disorder and losses, subscriptions, the log of events."""

from __future__ import annotations

from random import Random

import jwt
import pytest

from sandbox.altinn.delivery import LADDER_SECONDS, Deliveries, Delivery, Weather
from sandbox.altinn.event_log import CREATED, RESOURCE, UPDATED, EventLog
from sandbox.altinn.state import Altinn, ApiFault, Behaviour, EventSubscription
from sandbox.altinn.tokens import AltinnTokenIssuer
from sandbox.skatteetaten.state import Skatteetaten
from tests.kit.waiting import TurnedClock

EMPLOYER, OTHER = "310000025", "310000033"
SUBJECT = f"urn:altinn:organization:identifier-no:{EMPLOYER}"
ADDRESS = "https://payroll.example.no/notifications/x"


def delivery(number: int = 1, *, is_validation: bool = False) -> Delivery:
    return Delivery(1, ADDRESS, {"id": str(number)}, is_validation=is_validation)


def drained(deliveries: Deliveries, now: float = 1e12) -> list[str]:
    taken = []
    while (each := deliveries.pop_due(now)) is not None:
        taken.append(each.event["id"])
    return taken


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock(1_800_000_000.0)


@pytest.fixture
def altinn(clock: TurnedClock) -> Altinn:
    return Altinn(clock=clock, base_url="https://altinn.example.no")


def subscribed(altinn: Altinn, party: str = EMPLOYER, **filters: str) -> EventSubscription:
    subject = f"urn:altinn:organization:identifier-no:{party}"
    wanted = {"endPoint": ADDRESS, "resourceFilter": RESOURCE, "subjectFilter": subject, **filters}
    subscription = altinn.subscribe(party, wanted)
    validation = altinn.pop_due()
    assert validation is not None
    altinn.record_outcome(validation, accepted=True)
    return subscription


def test_the_ladder_is_the_documented_one_and_then_the_event_is_dropped() -> None:
    """10 s, 30 s, 1 m, 5 m, 10 m, 30 m, 1 h, 3 h, 6 h, 12 h, 12 h: twelve attempts in all."""
    deliveries, now, waits = Deliveries(Random(0)), 0.0, []
    deliveries.add(delivery(), now)
    while (pause := deliveries.wait_seconds(now)) is not None:
        waits.append(pause)
        now += pause
        taken = deliveries.pop_due(now)
        assert taken is not None
        deliveries.failed(taken, now)
    assert waits == [0, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200]
    assert deliveries.counts == {"failed": len(LADDER_SECONDS), "given_up": 1}


def test_the_ladder_is_scaled() -> None:
    deliveries = Deliveries(Random(0))
    deliveries.time_factor = 0.001
    deliveries.failed(delivery(), 5.0)
    assert deliveries.wait_seconds(5.0) == pytest.approx(0.01)


def test_deliveries_are_lost_doubled_and_reordered_by_a_seed() -> None:
    outcomes = []
    for _ in range(2):
        deliveries = Deliveries(Random(7))
        deliveries.weather = Weather(loss_rate=0.2, double_rate=0.2, disorder_rate=0.3)
        for number in range(200):
            deliveries.add(delivery(number), float(number) / 100)
        outcomes.append(drained(deliveries))
        counts = deliveries.counts
        assert 20 < counts["lost"] < 60
        assert len(outcomes[-1]) == 200 - counts["lost"] + counts["doubled"]
    assert outcomes[0] == outcomes[1]
    assert [int(each) for each in outcomes[0]] != sorted(int(each) for each in outcomes[0])


def test_validations_are_spared_by_the_weather() -> None:
    deliveries = Deliveries(Random(0))
    deliveries.weather = Weather(loss_rate=1)
    deliveries.add(delivery(is_validation=True), 0.0)
    deliveries.add(delivery(), 0.0)
    assert drained(deliveries) == ["1"]


def test_paused_deliveries_wait() -> None:
    deliveries = Deliveries(Random(0))
    deliveries.add(delivery(), 0.0)
    deliveries.is_paused = True
    assert deliveries.pop_due(1e9) is None
    assert deliveries.wait_seconds(1e9) is None
    deliveries.is_paused = False
    assert drained(deliveries) == ["1"]


def test_the_same_subscription_again_is_the_existing_one_validated_again(altinn: Altinn) -> None:
    first = subscribed(altinn)
    again = subscribed(altinn)
    assert again is first
    assert first.validated
    assert altinn.summary()["push"] == {"validated": 2}
    other = altinn.subscribe(EMPLOYER, {"endPoint": f"{ADDRESS}y", "resourceFilter": RESOURCE})
    assert other.id != first.id
    assert [each.id for each in altinn.of_party(EMPLOYER)] == [first.id, other.id]


def test_only_what_is_validated_and_fits_is_pushed(altinn: Altinn) -> None:
    altinn.subscribe(EMPLOYER, {"endPoint": ADDRESS, "resourceFilter": RESOURCE, "subjectFilter": SUBJECT})
    altinn.emit_event(EMPLOYER, "1", CREATED)
    assert altinn.pop_due().is_validation
    assert altinn.pop_due() is None
    subscribed(altinn)
    altinn.emit_event(OTHER, "1", CREATED)
    altinn.emit_event(EMPLOYER, "1", CREATED, {"resource": "urn:altinn:resource:another"})
    assert altinn.pop_due() is None
    told = altinn.emit_event(EMPLOYER, "1", UPDATED)
    assert altinn.pop_due().event == told


def test_a_dropped_subscription_gets_nothing_more(altinn: Altinn) -> None:
    subscription = subscribed(altinn)
    altinn.emit_event(EMPLOYER, "1", CREATED)
    altinn.unsubscribe(subscription.id)
    altinn.emit_event(EMPLOYER, "1", UPDATED)
    assert altinn.pop_due() is None
    with pytest.raises(KeyError):
        altinn.unsubscribe(subscription.id)


def test_a_new_version_says_of_whom_and_not_of_what(altinn: Altinn, clock: TurnedClock) -> None:
    skatteetaten = Skatteetaten(clock=clock)
    skatteetaten.on_new_version = altinn.new_version
    subscribed(altinn)
    order = skatteetaten.create(EMPLOYER)
    skatteetaten.change(order.trekkid, visible=False)
    skatteetaten.reveal(order.trekkid, 2)
    first, second = altinn.pop_due().event, altinn.pop_due().event
    assert (first["type"], second["type"]) == (CREATED, UPDATED)
    assert first["subject"] == second["subject"] == SUBJECT
    assert first["resourceinstance"] == second["resourceinstance"] != order.trekkid
    assert "data" not in first
    altinn.behaviour = Behaviour(notifications=False)
    skatteetaten.change(order.trekkid)
    assert altinn.pop_due() is None


def test_the_log_goes_on_after_an_id_and_begins_again_after_one_that_it_does_not_know() -> None:
    log = EventLog()
    for number in range(4):
        log.register({"id": str(number + 1), "subject": "a" if number % 2 else "b"}, float(number))
    assert [each.event["id"] for each in log.after("2", None)] == ["3", "4"]
    assert [each.event["id"] for each in log.after("1", "a")] == ["2", "4"]
    assert [each.event["id"] for each in log.after("0", None)] == ["1", "2", "3", "4"]
    assert [each.event["id"] for each in log.after("gone", "b")] == ["1", "3"]
    log.forget()
    log.register({"id": "5", "subject": "a"}, 9.0)
    assert [each.event["id"] for each in log.after("4", None)] == ["5"]


def test_tokens_are_jwts_that_end(clock: TurnedClock) -> None:
    tokens = AltinnTokenIssuer(Random(0), clock)
    text = tokens.mint(EMPLOYER, "a b", 60)
    assert jwt.decode(text, options={"verify_signature": False})["exp"] == int(clock.seconds) + 60
    assert tokens.find(text).party == EMPLOYER
    assert tokens.find(text).scopes == {"a", "b"}
    assert tokens.find(f"{text}x") is None
    assert AltinnTokenIssuer(Random(1), clock).find(text) is None
    clock.seconds += 60
    assert tokens.find(text) is None
    revoked = tokens.mint(EMPLOYER, "a", 60)
    tokens.revoke_all()
    assert tokens.find(revoked) is None


def test_faults_strike_the_calls_that_they_fit_and_are_used_up(altinn: Altinn) -> None:
    altinn.faults += [ApiFault(503, operation="list", times=2), ApiFault(429, trekkpliktig=OTHER, times=None)]
    assert altinn.fault_of("get", EMPLOYER) is None
    assert [altinn.fault_of("list", EMPLOYER).status for _ in range(2)] == [503, 503]
    assert altinn.fault_of("list", EMPLOYER) is None
    assert [altinn.fault_of("list", OTHER).status for _ in range(3)] == [429, 429, 429]
