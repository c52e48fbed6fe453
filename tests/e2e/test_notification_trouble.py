"""Calls that are wrong, and an Altinn that is away or refuses: each is told apart, and no change waits for a poll."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sandbox.altinn.state import Behaviour
from sandbox.demo.proof import read_committed

pytestmark = pytest.mark.kafka

TOLD = "trekkpaalegg_notifications_total"
ALLOWED, OTHER = "192.0.2.7", "198.51.100.7"
PERSON = "01417012345"
OUTCOMES = {
    "refused_address": 2,
    "refused_secret": 2,
    "malformed": 5,
    "oversized": 1,
    "validation": 1,
    "echo": 1,
    "not_ours": 2,
    "other_resource": 1,
    "unknown_type": 1,
    "double": 4,
    "wake_up": 1,
}
"""What the receiver counts of the calls below."""


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    """Its producers are called by Altinn, and hardly poll."""
    made = make_stage(kafka)
    made.settings |= made.woken_by("push")
    return made


class Caller:
    """Calls the receiver of a stage, through a reverse proxy that says who calls; the last event's number is its id."""

    def __init__(self, stage: Any, http: httpx.Client) -> None:
        self._stage = stage
        self._http = http
        self._number = 0

    def event(self, **changes: Any) -> dict[str, Any]:
        self._number += 1
        made = {
            "specversion": "1.0",
            "id": f"00000000-0000-4000-8000-{self._number:012}",
            "type": "dialogporten.dialog.updated.v1",
            "resource": "urn:altinn:resource:ske-informasjon-om-trekkpaalegg",
            "subject": f"urn:altinn:organization:identifier-no:{self._stage.employers[0]}",
            "source": "https://127.0.0.1/",
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def post(self, content: Any, *, address: str = ALLOWED, url: str = "", **headers: str) -> int:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = {"content-type": "application/json", "x-forwarded-for": address, **headers}
        return self._http.post(url or self._stage.receiver_address, content=body, headers=sent).status_code

    def get(self) -> int:
        return self._http.get(self._stage.receiver_address, headers={"x-forwarded-for": ALLOWED}).status_code


def test_any_input_wakes_at_most_the_employer_that_it_names_and_stops_nothing(stage: Any) -> None:
    """Forged, replayed, oversized, malformed, unknown, for others, by others: counted, and nothing of it is shown."""
    worker = stage.run(TREKKPAALEGG_WEBHOOK_ALLOWED_ADDRESSES=ALLOWED, TREKKPAALEGG_WEBHOOK_PROXIES="127.0.0.1")
    stage.wait_until_published(60)
    stage.outside.skatteetaten.forget_calls()
    guessed = stage.receiver_address[:-1] + "_"
    with httpx.Client(timeout=60) as http:
        caller = Caller(stage, http)
        event, post = caller.event, caller.post
        assert [post(event(), address=OTHER), post(event(), address=f"{ALLOWED}, {OTHER}")] == [403, 403]
        assert [post(event(), url=guessed), post(b"", url=guessed)] == [404, 404]
        assert caller.get() == 405
        broken = [b"", b"[" * 30_000, b"\xff\xfe", event(specversion="9.9"), event(id=None)]
        assert [post(each) for each in broken] == [400] * 5
        assert post(event(data="x" * 70_000)) == 413
        unheeded = [
            event(type="platform.events.validatesubscription", subject=None, resource=None),
            event(type="dialogporten.dialog.seen.v1"),
            event(subject="urn:altinn:organization:identifier-no:271828182"),
            event(subject=f"urn:altinn:person:identifier-no:{PERSON}"),
            event(resource="urn:altinn:resource:another"),
        ]
        assert [post(each) for each in unheeded] == [200] * 5
        assert post(event(type="skatteetaten.trekkpaalegg.endret.v9")) == 200
        replayed = event()
        assert [post(replayed) for _ in range(5)] == [200] * 5
        counted = {name: stage.metric(worker, f'{TOLD}{{outcome="{name}"}}') for name in OUTCOMES}
        assert counted == OUTCOMES
        made = stage.outside.skatteetaten.create(stage.employers[0])
        assert post(event()) == 200
    stage.wait_until_published(60)
    assert stage.origins()[made.trekkid, 1] == "notification"
    signals = read_committed(stage.kafka.bootstrap_servers, stage.topics.signals)
    assert [(message.key() or b"").decode() for message in signals] == [stage.employers[0]] * 3
    assert stage.outside.skatteetaten.summary()["calls"]["list"]["200"] <= 2 * 3, "no reading but for those three"
    log = worker.log_file.read_text()
    assert [each for each in (PERSON, guessed[-40:], stage.receiver_address[-40:]) if each in log] == []
    stage.prove()


def test_too_frequent_calls_get_429_and_no_change_is_missed(stage: Any) -> None:
    stage.outside.altinn.behaviour = Behaviour(time_factor=0.01)
    worker = stage.run(TREKKPAALEGG_WEBHOOK_CALLS_PER_SECOND="6")
    stage.wait_until_published(60)
    stage.subscribe()
    made = [stage.outside.skatteetaten.create(each) for each in stage.employers for _ in range(3)]
    stage.wait_until_published(60)
    assert stage.metric(worker, f'{TOLD}{{outcome="refused_rate"}}') > 0
    origins = stage.origins()
    assert {origins[each.trekkid, 1] for each in made} == {"notification"}
    stage.prove()


def test_changes_during_an_altinn_outage_are_notified_when_it_is_back(stage: Any) -> None:
    outside = stage.outside
    stage.run()
    stage.wait_until_published(60)
    stage.subscribe()
    outside.stop_altinn()
    try:
        made = [outside.skatteetaten.create(each) for each in stage.employers]
        assert {trekkid for trekkid, _ in stage.origins()}.isdisjoint(each.trekkid for each in made)
    finally:
        outside.start_altinn()
    stage.wait_until_published(60)
    origins = stage.origins()
    assert {origins[each.trekkid, 1] for each in made} == {"notification"}
    stage.prove()


def test_an_employer_whose_subscription_is_refused_is_polled_while_others_are_notified(stage: Any) -> None:
    refused, *others = stage.employers
    stage.outside.altinn.refused.add(refused)
    worker = stage.run(TREKKPAALEGG_POLL_INTERVAL_SECONDS="2")
    stage.wait_until_published(60)
    applying = stage.begin("subscriptions", "apply")
    assert applying.wait(120) == 1
    assert f"1 of {len(stage.employers)} trekkpliktige are not as they should be: {refused}" in applying.last_lines()
    stage.outside.skatteetaten.create(refused)
    told = [stage.outside.skatteetaten.create(each) for each in others]
    stage.wait_until_published(60)
    heard = f'{TOLD}{{outcome="wake_up"}}'
    stage.wait_until(lambda: stage.metric(worker, heard) == len(told), 30, "the others are told of")
    missed = "trekkpaalegg_unannounced_changes_total"
    stage.wait_until(lambda: stage.metric(worker, missed) >= 1, 60, "the one that nobody told of is counted")
    stage.prove()
