"""The swap: told of changes by the simulated Altinn, with polling so slow that it cannot be what found them."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from producer.publish.topics import lane_of
from sandbox.altinn.delivery import Weather
from sandbox.altinn.state import Behaviour
from sandbox.demo.proof import read_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.kafka


ORIGIN = {"polling": "poll", "push": "notification", "pull": "notification"}
ROUGH = Weather(loss_rate=0.1, double_rate=0.3, disorder_rate=0.3, disorder_seconds=0.5)
LIVE_EVENTS = 10
ACKNOWLEDGED = 60


def event_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def event(number: int, trekkpliktig: str) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": event_id(number),
        "type": "dialogporten.dialog.updated.v1",
        "resource": "urn:altinn:resource:ske-informasjon-om-trekkpaalegg",
        "subject": f"urn:altinn:organization:identifier-no:{trekkpliktig}",
        "source": "https://127.0.0.1/",
    }


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    """Its producers are called by Altinn, and hardly poll."""
    made = make_stage(kafka)
    made.settings |= made.woken_by("push")
    return made


@pytest.fixture
def post(stage: Any) -> Iterator[Callable[[dict[str, str]], int]]:
    """Calls the receiver as anybody may who knows the address; gives the status of its answer."""
    with httpx.Client(timeout=60) as client:
        yield lambda content: client.post(stage.receiver_address, json=content).status_code


def test_a_change_that_any_worker_is_told_of_wakes_the_owner_of_the_lane_and_is_published_without_a_poll(
    stage: Any,
) -> None:
    skatteetaten = stage.outside.skatteetaten
    first = stage.run()
    second = stage.run(TREKKPAALEGG_WEBHOOK_PORT="0")
    stage.wait_until_owned(first, second, deadline_seconds=90)
    stage.wait_until_published(60)
    stage.subscribe()
    made = [skatteetaten.create(each) for each in stage.employers]
    stage.wait_until_published(60)
    changed = [skatteetaten.change(each.trekkid) for each in made for _ in range(2)]
    stage.wait_until_published(60)
    origins = stage.origins()
    assert {origins[each.trekkid, 1] for each in made} == {"notification"}
    assert {origins[each.trekkid, each.trekkversjon] for each in changed} <= {"notification", "gapfill"}
    stage.prove()


def test_switching_there_and_back_under_load_loses_and_doubles_nothing(stage: Any) -> None:
    """Each way takes over at the position of the one before, which was stopped or killed; Altinn tells badly.

    In each phase events come in the way of that phase, or the switch would prove nothing.
    """
    stage.outside.altinn.behaviour = Behaviour(time_factor=0.01)
    worker = stage.run("swapped")
    stage.subscribe()
    stage.outside.altinn.deliveries.weather = ROUGH
    with stage.traffic(seed=6):
        for number, way in enumerate(("push", "polling", "pull", "polling", "push")):
            if number:
                worker.kill() if number % 2 else worker.stop()
                worker = stage.run("swapped", **stage.woken_by(way))
            wait_until_events_come(stage, worker, ORIGIN[way])
    stage.wait_until_published(90)
    stage.prove()
    last = {each: stage.outside.skatteetaten.book.page(each, 0, None)[-1].sekvensnummer for each in stage.employers}
    stage.wait_until(lambda: stage.positions() == last, 30, "each position is the last number of the source")


def wait_until_events_come(stage: Any, worker: Any, origin: str) -> None:
    """Some that came to be in this way since the lanes were taken and everybody was read."""
    stage.wait_until_owned(worker, deadline_seconds=90)

    def count() -> int:
        return list(stage.arrived().values()).count(origin)

    before = count()
    stage.wait_until(lambda: count() >= before + LIVE_EVENTS, 60, f"events come by {origin}")


def test_an_acknowledged_notification_is_in_kafka_even_if_the_receiver_dies_at_once(stage: Any, post: Any) -> None:
    """A worker is killed while it takes calls: every change whose call it answered 2xx is read by the one that stays.

    Nobody polls, and nobody calls again.
    """
    stage.set_kafka_properties(session_timeout_ms="3000", heartbeat_interval_ms="500")
    stage.outside.altinn.behaviour = Behaviour(notifications=False)
    receiver = stage.run()
    stays = stage.run(TREKKPAALEGG_WEBHOOK_PORT="0")
    stage.wait_until_owned(receiver, stays, deadline_seconds=90)
    stage.wait_until_published(60)
    kept = stage.lanes_of(stays)
    acknowledged: dict[str, tuple[str, int]] = {}
    enough = threading.Event()

    def tell(number: int) -> None:
        employer = stage.employers[number % len(stage.employers)]
        made = stage.outside.skatteetaten.create(employer)
        try:
            status = post(event(number, employer))
        except httpx.TransportError:
            return
        if status == 200:
            acknowledged[event_id(number)] = (made.trekkid, 1)
        if len(acknowledged) >= ACKNOWLEDGED:
            enough.set()

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(tell, number) for number in range(10 * ACKNOWLEDGED)]
        assert enough.wait(60)
        receiver.kill()
        for call in calls:
            call.result()
    signals = read_committed(stage.kafka.bootstrap_servers, stage.topics.signals)
    stored = {json.loads(message.value())["id"] for message in signals if message.value()}
    assert acknowledged.keys() <= stored
    stage.wait_until(lambda: set(acknowledged.values()) <= stage.arrived().keys(), 90, "all that was acknowledged")
    origins = stage.origins()
    of_kept = {each.identity for each in stage.versjoner() if lane_of(each.event.trekkpliktig, stage.lanes) in kept}
    assert {origins[each] for each in acknowledged.values() if each in of_kept} == {"notification"}
    stays.stop()
    stage.once()  # of those whose call was not answered nobody has told
    stage.prove()


def test_an_unhandled_wake_up_comes_again_after_a_kill(stage: Any, post: Any) -> None:
    """Between 2xx and the reading's end all workers die: the signal is open still, and wakes whoever comes next."""
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    worker = stage.run("one")
    stage.wait_until_published(60)
    skatteetaten.behaviour.latency_seconds = 5.0
    made = skatteetaten.create(employer)
    assert [post(event(number, employer)) for number in range(3)] == [200] * 3
    worker.kill()
    assert (made.trekkid, 1) not in stage.origins()
    skatteetaten.behaviour.latency_seconds = 0.0
    worker = stage.run("one", TREKKPAALEGG_WEBHOOK_PORT="0")
    stage.wait_until_published(60)
    taken = 'trekkpaalegg_signals_total{kind="wake_up"}'
    stage.wait_until(lambda: stage.metric(worker, taken) >= 3, 30, "the wake-ups come again")
    stage.prove()


def test_slow_polling_finds_and_counts_what_notifications_missed(stage: Any) -> None:
    worker = stage.run(TREKKPAALEGG_POLL_INTERVAL_SECONDS="3")
    stage.wait_until_published(60)
    missed = "trekkpaalegg_unannounced_changes_total"
    before = stage.metric(worker, missed)
    for each in stage.employers:  # nobody has subscribed, so nobody is told
        stage.outside.skatteetaten.create(each)
    stage.wait_until_published(60)
    stage.wait_until(
        lambda: stage.metric(worker, missed) - before == len(stage.employers), 30, "each of them is counted"
    )
    stage.prove()


@pytest.mark.parametrize(("flood", "readings_max"), [(2_000, 50), pytest.param(10_000, 100, marks=pytest.mark.long)])
def test_a_flood_of_events_about_one_employer_is_few_readings(
    stage: Any, post: Any, flood: int, readings_max: int
) -> None:
    """One at first, then ever fewer: they depend on how long the machine needs for the flood, not on its size."""
    worker = stage.run(TREKKPAALEGG_WEBHOOK_CALLS_PER_SECOND="100000")
    stage.wait_until_published(60)
    stage.outside.skatteetaten.forget_calls()
    employer = stage.employers[0]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: post(event(number, employer)), range(flood)))
    assert answers == [200] * flood
    stage.outside.skatteetaten.create(employer)
    assert post(event(flood, employer)) == 200
    stage.wait_until_published(60)
    taken = 'trekkpaalegg_notifications_total{outcome="wake_up"'
    stage.wait_until(lambda: stage.metric(worker, taken) > flood, 60, "all are counted")
    assert stage.outside.skatteetaten.summary()["calls"]["list"]["200"] < readings_max
    stage.prove()
