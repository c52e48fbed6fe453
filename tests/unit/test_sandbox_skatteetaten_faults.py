"""The simulated Skatteetaten's faults, and the shapes of its errors, without a network."""

from __future__ import annotations

import json

import msgspec
import pytest

from sandbox.skatteetaten.answer import AnswerDelivery
from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind, Operation, rough_weather
from tests.unit.skatteetaten_world import OURS, THEIRS, World


@pytest.fixture
def world():
    return World()


def test_a_scripted_fault_strikes_once_where_it_fits(world):
    world.state.add_fault(Fault(FaultKind.STATUS, Operation.LIST, OURS, status=503, seconds=7))
    assert world.ask("/x/1").status == 404
    assert world.ask(party=THEIRS).status == 200
    struck = world.ask()
    assert (struck.status, struck.headers["retry-after"]) == (503, "7")
    assert world.ask().status == 200
    assert world.state.summary()["faults"] == {"503": 1}


def test_retry_after_can_be_an_http_date(world):
    world.state.add_fault(Fault(FaultKind.STATUS, status=429, seconds=60, as_http_date=True))
    assert world.ask().headers["retry-after"] == "Mon, 21 Sep 2026 14:14:20 GMT"


def test_a_fault_may_wait_and_may_last(world):
    world.state.add_fault(Fault(FaultKind.STATUS, after=1, times=2, status=500))
    assert [world.ask().status for _ in range(4)] == [200, 500, 500, 200]


def test_faults_by_rate_repeat_with_the_seed():
    def statuses():
        world = World()
        world.state.add_fault(Fault(FaultKind.STATUS, times=None, rate=0.3, status=500))
        return [world.ask().status for _ in range(200)]

    seen = statuses()
    assert 30 < seen.count(500) < 90
    assert seen == statuses()


def test_rough_weather_brings_every_passing_fault_and_about_as_many_as_said(world):
    for fault in rough_weather(0.5):
        world.state.add_fault(fault)
    for _ in range(500):
        world.text[OURS] = world.mint(OURS)
        world.ask()
    struck = world.state.summary()["faults"]
    assert set(struck) == {"delay", "429", "500", "503", "reset", "truncated", "expired_token", "body"}
    assert 150 < sum(struck.values()) < 280


def test_one_organisation_can_be_forbidden_and_allowed_again(world):
    world.state.forbid(OURS)
    assert [world.ask().status, world.ask().status, world.ask(party=THEIRS).status] == [403, 403, 200]
    world.state.allow(OURS)
    assert world.ask().status == 200


def test_an_early_expired_token_stays_expired(world):
    world.state.add_fault(Fault(FaultKind.EXPIRED_TOKEN))
    assert [world.ask().status, world.ask().status] == [401, 401]
    world.text[OURS] = world.mint(OURS)
    assert world.ask().status == 200


def test_a_delay_goes_together_with_another_fault(world):
    world.state.add_fault(Fault(FaultKind.DELAY, seconds=0.5))
    world.state.add_fault(Fault(FaultKind.STATUS, status=500))
    result = world.ask()
    assert (result.delay_seconds, result.status) == (0.5, 500)


def test_broken_connections_are_told_by_the_delivery(world):
    world.state.create(OURS)
    world.state.add_fault(Fault(FaultKind.RESET))
    world.state.add_fault(Fault(FaultKind.TRUNCATED))
    world.state.add_fault(Fault(FaultKind.FILLER, size_bytes=1000))
    reset, truncated, filler = world.ask(), world.ask(), world.ask()
    assert (reset.delivery, reset.body) == (AnswerDelivery.RESET, b"")
    assert truncated.delivery is AnswerDelivery.TRUNCATED
    assert json.loads(truncated.body)
    assert (filler.delivery, filler.filler_bytes) == (AnswerDelivery.FILLER, 1000)
    assert world.state.summary()["calls"]["list"] == {"reset": 1, "truncated": 1, "filler": 1}


def test_any_body_can_stand_for_an_answer(world):
    world.state.add_fault(Fault(FaultKind.BODY, body="<html>", content_type="text/html"))
    result = world.ask()
    assert (result.status, result.body, result.headers["content-type"]) == (200, b"<html>", "text/html")


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        (ErrorShape.KODE, lambda body: json.loads(body)["korrelasjonsid"] == "k-1"),
        (ErrorShape.KODE_INTEGER, lambda body: isinstance(json.loads(body)["korrelasjonsid"], int)),
        (ErrorShape.PROBLEM, lambda body: json.loads(body)["status"] == 404),
        (ErrorShape.PLAIN, lambda body: body.decode().startswith("Fant")),
        (ErrorShape.NONE, lambda body: body == b""),
    ],
)
def test_error_bodies_come_in_every_documented_shape(world, shape, check):
    world.state.behaviour.error_shape = shape
    result = world.ask("/x/1")
    assert result.status == 404
    assert check(result.body)


def test_mixed_error_shapes_are_all_seen(world):
    world.state.behaviour.error_shape = ErrorShape.MIXED
    kinds = {world.ask("/x/1").headers.get("content-type") for _ in range(100)}
    assert len(kinds) == 4


def test_a_fault_with_an_unknown_field_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "delay", "second": 3}, Fault)
