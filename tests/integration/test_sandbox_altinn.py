"""The simulated Altinn over real HTTP: tokens, subscriptions with validation, events pushed and pulled, commands."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox.altinn.event_log import RESOURCE, SEEN, UPDATED
from sandbox.altinn.state import SCOPE, Behaviour
from sandbox.control.world import SUPPLIER, OutsideWorld
from sandbox.maskinporten.tokens import Token
from tests.kit.receivers import EventReceiver
from tests.kit.waiting import for_a_while, until

EMPLOYER, OTHER = "310000025", "310000033"
SUBJECT = f"urn:altinn:organization:identifier-no:{EMPLOYER}"
SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def shared():
    with OutsideWorld(seed=6) as outside, EventReceiver() as receiver:
        yield outside, receiver


@pytest.fixture
def world(shared):
    outside, _ = shared
    outside.altinn.behaviour = Behaviour(withhold_seconds=0, time_factor=0.001)
    yield outside
    control(outside, "altinn-clear")
    for each in list(outside.altinn.subscriptions):
        outside.altinn.unsubscribe(each)
    outside.altinn.log.forget()
    outside.altinn.deliveries.counts.clear()


@pytest.fixture
def receiver(shared):
    return shared[1]


def control(world, command, **arguments):
    return httpx.post(f"{world.control_url}/{command}", json=arguments)


def maskinporten_token(world, party=EMPLOYER, scope=SCOPE):
    return world.tokens.mint(Token(party, SUPPLIER, scope, "client", time.time() + 100))


def exchange(world, text):
    headers = {"Authorization": f"Bearer {text}"}
    return httpx.get(f"{world.altinn_url}/authentication/api/v1/exchange/maskinporten", headers=headers)


@pytest.fixture
def http(world):
    token = exchange(world, maskinporten_token(world)).text
    with httpx.Client(base_url=f"{world.altinn_url}/events/api/v1") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def subscribe(http, receiver, part, **fields):
    wanted = {"endPoint": f"{receiver.url}/{part}", "resourceFilter": RESOURCE, "subjectFilter": SUBJECT}
    return http.post("/subscriptions", json={**wanted, **fields})


def events_at(receiver, part):
    return [call.event for call in receiver.calls if call.path == f"/{part}" and call.event["type"] != VALIDATION]


VALIDATION = "platform.events.validatesubscription"


def is_validated(http, number):
    return http.get(f"/subscriptions/{number}").json()["validated"]


def test_a_maskinporten_token_is_exchanged_for_one_of_altinn_s(world, http):
    assert exchange(world, "nonsense").status_code == 401
    assert http.get("/subscriptions").json() == {"count": 0, "subscriptions": []}
    http.headers["Authorization"] = "Bearer nonsense"
    assert http.get("/subscriptions").status_code == 401


def test_without_the_scope_nothing_is_given(world, http):
    token = exchange(world, maskinporten_token(world, scope="skatteetaten:trekkpaalegg")).text
    http.headers["Authorization"] = f"Bearer {token}"
    assert http.get("/subscriptions").status_code == 403


def test_a_subscription_is_validated_by_an_event_that_the_receiver_answers(http, receiver):
    made = subscribe(http, receiver, "a")
    assert made.status_code == 201
    number = made.json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)
    event = receiver.validations[-1].event
    assert set(event) == {"id", "source", "type", "specversion"}
    again = subscribe(http, receiver, "a")
    assert (again.status_code, again.json()["id"]) == (201, number)
    assert http.get("/subscriptions").json()["count"] == 1
    assert http.delete(f"/subscriptions/{number}").status_code == 200
    assert http.get(f"/subscriptions/{number}").status_code == 404


def test_the_validation_is_tried_again_along_the_ladder(http, receiver):
    receiver.make_trouble(500, 404)
    number = subscribe(http, receiver, "b").json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"subjectFilter": "urn:altinn:organization:identifier-no:310000033"}, 403),
        ({"subjectFilter": ""}, 400),
        ({"resourceFilter": "ske"}, 400),
        ({"endPoint": "nowhere"}, 400),
    ],
)
def test_a_wrong_subscription_is_refused(http, receiver, fields, status):
    assert subscribe(http, receiver, "c", **fields).status_code == status


def test_a_chosen_customer_is_refused(world, http, receiver):
    control(world, "altinn-refuse", trekkpliktig=EMPLOYER)
    assert subscribe(http, receiver, "d").status_code == 403
    control(world, "altinn-allow", trekkpliktig=EMPLOYER)
    assert subscribe(http, receiver, "d").status_code == 201


def test_another_s_subscription_cannot_be_seen_or_dropped(world, http, receiver):
    number = subscribe(http, receiver, "e").json()["id"]
    token = exchange(world, maskinporten_token(world, OTHER)).text
    http.headers["Authorization"] = f"Bearer {token}"
    assert http.get("/subscriptions").json()["count"] == 0
    assert http.delete(f"/subscriptions/{number}").status_code == 401


def test_a_new_version_is_pushed_until_it_is_taken(world, http, receiver):
    number = subscribe(http, receiver, "f").json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)
    receiver.make_trouble(500, 503, 302)
    order = world.skatteetaten.create(EMPLOYER)
    until(lambda: world.altinn.deliveries.counts["delivered"], SECONDS_MAX)
    calls = [call for call in receiver.calls if call.path == "/f" and call.event["type"] != VALIDATION]
    assert [call.status for call in calls] == [500, 503, 302, 200]
    assert len({call.body for call in calls}) == 1
    assert calls[0].headers["content-type"] == "application/json; charset=utf-8"
    assert calls[0].event["subject"] == SUBJECT
    assert order.trekkid.encode() not in calls[0].body
    world.altinn.behaviour = Behaviour(push_binary_rate=1)
    world.skatteetaten.change(order.trekkid)
    until(lambda: len(events_at(receiver, "f")) == 5, SECONDS_MAX)
    binary = receiver.calls[-1]
    assert binary.headers["ce-type"] == UPDATED
    assert binary.body == b""


def test_events_wait_while_pushing_is_paused_or_altinn_is_out(world, http, receiver):
    number = subscribe(http, receiver, "g").json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)
    control(world, "altinn-pause")
    world.skatteetaten.create(EMPLOYER)
    for_a_while(lambda: not events_at(receiver, "g"))
    control(world, "altinn-resume")
    until(lambda: events_at(receiver, "g"), SECONDS_MAX)
    control(world, "outage", service="altinn")
    with pytest.raises(httpx.ConnectError):
        httpx.get(world.altinn_url)
    world.skatteetaten.create(EMPLOYER)
    for_a_while(lambda: len(events_at(receiver, "g")) == 1)
    control(world, "outage", service="altinn", ended=True)
    until(lambda: len(events_at(receiver, "g")) == 2, SECONDS_MAX)


def test_losses_doubles_and_disorder_by_command(world, http, receiver):
    number = subscribe(http, receiver, "h").json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)
    weather = {"loss_rate": 0.2, "double_rate": 0.3, "disorder_rate": 0.5, "disorder_seconds": 0.05}
    control(world, "altinn-weather", weather=weather)
    told = [control(world, "altinn-event", trekkpliktig=EMPLOYER).json()["id"] for _ in range(40)]
    counts = world.altinn.deliveries.counts
    until(lambda: len(events_at(receiver, "h")) == 40 - counts["lost"] + counts["doubled"], SECONDS_MAX)
    came = [event["id"] for event in events_at(receiver, "h")]
    assert counts["lost"] > 0
    assert len(set(came)) == 40 - counts["lost"] < len(came)
    assert came != [each for each in told if each in came]
    assert control(world, "altinn-counts").json()["push"]["doubled"] == counts["doubled"]


def test_any_event_and_any_body_can_be_forged(world, http, receiver):
    number = subscribe(http, receiver, "i").json()["id"]
    until(lambda: is_validated(http, number), SECONDS_MAX)
    control(world, "altinn-event", trekkpliktig=EMPLOYER, fields={"type": "no.such.type", "time": None})
    until(lambda: events_at(receiver, "i"), SECONDS_MAX)
    assert events_at(receiver, "i")[0]["type"] == "no.such.type"
    assert "time" not in events_at(receiver, "i")[0]
    assert control(world, "altinn-push", address=f"{receiver.url}/j", body='{"type": "x"}').json() == 200
    assert receiver.calls[-1].body == b'{"type": "x"}'


def pull(http, **query):
    return http.get("/events", params={"resource": RESOURCE, "after": "0", "subject": SUBJECT, **query})


def test_events_are_pulled_page_by_page(world, http):
    told = [world.altinn.emit_event(EMPLOYER, str(number), UPDATED)["id"] for number in range(5)]
    world.altinn.emit_event(OTHER, "9", UPDATED)
    first = pull(http, size=3)
    assert [event["id"] for event in first.json()] == told[:3]
    following = parse_qs(urlsplit(first.headers["next"]).query)
    assert following["after"] == [told[2]]
    assert following["subject"] == [SUBJECT]
    assert [event["id"] for event in pull(http, after=told[2]).json()] == told[3:]
    assert pull(http, after=told[4]).json() == []
    assert [event["id"] for event in pull(http, after="unknown").json()] == told
    assert pull(http, type=SEEN).json() == []


def test_a_caller_that_lists_all_gets_only_its_own_events_and_continues(world, http):
    """Pages are cut before they are filtered: one that holds only others' events is empty and has a next."""
    world.altinn.emit_event(OTHER, "9", UPDATED)
    mine = world.altinn.emit_event(EMPLOYER, "1", UPDATED)["id"]
    answer = http.get("/events", params={"resource": RESOURCE, "after": "0", "size": 1})
    assert answer.json() == []
    after = parse_qs(urlsplit(answer.headers["next"]).query)["after"][0]
    answer = http.get("/events", params={"resource": RESOURCE, "after": after, "size": 1})
    assert [event["id"] for event in answer.json()] == [mine]


def test_young_events_are_withheld_and_pages_may_be_short(world, http):
    world.altinn.emit_event(EMPLOYER, "1", UPDATED)
    world.altinn.behaviour = Behaviour(withhold_seconds=30, next_when_empty=False)
    answer = pull(http)
    assert answer.json() == []
    assert "next" not in answer.headers
    control(world, "altinn-behaviour", settings={"withhold_seconds": 0, "short_page_rate": 1})
    assert pull(http, size=1).json() == []


@pytest.mark.parametrize("query", [{"after": ""}, {"resource": ""}, {"size": "0"}, {"size": "1001"}, {"size": "x"}])
def test_a_wrong_question_is_refused(http, query):
    assert pull(http, **query).status_code == 400


def test_faults_are_answered(world, http):
    control(world, "altinn-fault", fault={"operation": "events", "status": 503, "retry_after_seconds": 7})
    answer = pull(http)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert pull(http).status_code == 200
