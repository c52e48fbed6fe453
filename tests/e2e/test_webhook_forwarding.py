"""`trekkpaalegg-consumer webhook` as a program, from a real Kafka to a payroll system that fails in every way."""

from __future__ import annotations

import itertools
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from consumers.webhook.delivery import new_secret
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.processes import ConsumerProcess
from tests.kit.receivers import PayrollReceiver
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.postgresql import EmbeddedPostgresql

pytestmark = pytest.mark.kafka

DEADLINE_SECONDS = 60.0
QUICK = ("--first-pause", "0.05", "--longest-pause", "0.2")


class Scene:
    """A topic, a payroll system, and the program between them, with its state in a file."""

    def __init__(self, topics: EventTopics, receiver: PayrollReceiver, folder: Path) -> None:
        self.topics = topics
        self.receiver = receiver
        self.folder = folder
        self.state = f"sqlite:///{folder}/webhook.db"
        self.settings = {**topics.settings, "TREKKPAALEGG_FORWARD_SECRET": receiver.secret}
        self._numbers = itertools.count(1)
        self._started: list[ConsumerProcess] = []

    def start(self, *options: str, settings: dict[str, str] | None = None) -> ConsumerProcess:
        """The forwarder."""
        return self.command("--to", self.receiver.url, "--state", self.state, *QUICK, *options, settings=settings)

    def command(self, *arguments: str, settings: dict[str, str] | None = None) -> ConsumerProcess:
        log_file = self.folder / f"webhook-{next(self._numbers)}.log"
        process = ConsumerProcess(["webhook", *arguments], {**self.settings, **(settings or {})}, log_file)
        self._started.append(process)
        return process

    def run(self, *options: str) -> ConsumerProcess:
        """The forwarder until it has delivered or parked all, which it must."""
        process = self.start("--until-end", *options)
        assert process.wait(DEADLINE_SECONDS) == 0, process.last_lines()
        return process

    def told(self, *arguments: str) -> str:
        """What a command that goes well says."""
        process = self.command(*arguments, "--state", self.state)
        assert process.wait(DEADLINE_SECONDS) == 0, process.last_lines()
        return process.log_file.read_text()

    def logs(self) -> str:
        return "".join(each.log_file.read_text() for each in self._started)

    def close(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def scene(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Scene]:
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as topics, PayrollReceiver(new_secret()) as receiver:
        made = Scene(topics, receiver, tmp_path)
        yield made
        made.close()


def ids_by_order(stream: Sequence[Publication]) -> dict[str, list[str]]:
    """What each order's events are called, in the order of the topic."""
    wanted: dict[str, list[str]] = {}
    for each in stream:
        version = each.trekkpaalegg
        correction = f"/{each.correction}" if each.correction else ""
        wanted.setdefault(version.trekkid, []).append(f"{version.trekkid}/{version.trekkversjon}{correction}")
    return wanted


def prove_delivered(receiver: PayrollReceiver, stream: Sequence[Publication]) -> None:
    """Every event, each order's in its order, no two of an order at once, and no older one after a newer."""
    wanted = ids_by_order(stream)
    assert {trekkid: receiver.accepted_of(trekkid) for trekkid in wanted} == wanted
    assert receiver.overtaking == []
    for trekkid, ids in wanted.items():
        places = [ids.index(call.webhook_id) for call in receiver.accepted if call.trekkid == trekkid]
        assert places == sorted(places), trekkid


def test_every_event_arrives_signed_and_in_order_and_no_national_id_is_told(scene: Scene) -> None:
    stream = make_stream(1, 40)
    scene.topics.write(stream, gjeldende=False)
    scene.receiver.delay_seconds = 0.02
    scene.run()
    prove_delivered(scene.receiver, stream)
    assert len(scene.receiver.accepted) == len(stream), "once each, where nothing goes wrong"
    assert 1 < scene.receiver.concurrency_seen <= 4
    persons = {each.trekkpaalegg.skyldner.reveal() for each in stream}
    assert {call.data["skyldner"] for call in scene.receiver.accepted} == persons
    shown = scene.logs() + "".join(f"{call.headers}" for call in scene.receiver.calls)
    assert not [person for person in persons if person in shown]


def test_killed_at_any_moment_nothing_is_lost_and_the_order_is_kept(scene: Scene) -> None:
    """Kill -9 while it starts, reads, sends and writes; each time another goes on at once."""
    stream = make_stream(2, 120, roughness=ROUGH)
    scene.receiver.delay_seconds = 0.005
    scene.receiver.make_trouble(500, times=10)
    shares = (0.0, 0.01, 0.2, 0.5, 0.8)
    part = len(stream) // len(shares) + 1
    for number, share in enumerate(shares):
        process = scene.start()
        scene.topics.write(stream[number * part : (number + 1) * part], gjeldende=False)
        until(lambda share=share: len(scene.receiver.accepted) >= share * len(stream), DEADLINE_SECONDS)
        process.kill()
    scene.receiver.delay_seconds = 0.0
    scene.run()
    prove_delivered(scene.receiver, stream)
    sent_again = len(scene.receiver.accepted) - len(stream)
    assert sent_again <= 5 * 4, "no more than what was on its way at each kill"


def test_a_stop_waits_for_events_in_flight_and_the_next_start_continues_there(
    scene: Scene, postgresql: EmbeddedPostgresql
) -> None:
    """On PostgreSQL. Two that would forward at once refuse each other."""
    scene.state = f"{postgresql.url}?options=-csearch_path%3D{scene.topics.prefix.replace('-', '_')}"
    stream = make_stream(3, 40)
    scene.topics.write(stream, gjeldende=False)
    scene.receiver.delay_seconds = 0.3
    process = scene.start("--concurrency", "1")
    until(lambda: scene.receiver.accepted, DEADLINE_SECONDS)
    second = scene.start()
    assert second.wait(DEADLINE_SECONDS) == 1
    assert "another forwarder uses this state" in second.last_lines()
    until(lambda: scene.receiver.in_flight_count, DEADLINE_SECONDS)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0, process.last_lines()
    assert time.monotonic() - begun < 10
    assert len(scene.receiver.accepted) < len(stream)
    scene.receiver.delay_seconds = 0.0
    scene.run()
    prove_delivered(scene.receiver, stream)
    assert len(scene.receiver.accepted) == len(stream), "none twice: the stop waited"


def test_parked_events_are_shown_released_and_dropped_by_commands(scene: Scene) -> None:
    stream = make_stream(4, 12)
    scene.topics.write(stream, gjeldende=False)
    scene.topics.write_raw(b"\xc3\x01 no event", key=b"10001")
    wanted = ids_by_order(stream)
    first, second = [order for order, ids in wanted.items() if len(ids) > 1][:2]
    for order in (first, second):
        scene.receiver.make_trouble(422, trekkid=order)
    scene.run()
    scene.receiver.mend()
    lines = scene.told("parked", "--json").splitlines()
    parked = {each["trekkid"]: each for each in map(json.loads, lines[:-1])}
    assert set(parked) == {first, second, "10001"}
    assert parked[first]["reason"] == "the receiver answered 422"
    assert parked[first]["behind"] == len(wanted[first]) - 1
    assert "cannot be decoded" in parked["10001"]["reason"]
    assert lines[-1].startswith("trekkpaalegg-consumer: 3 parked")

    assert "1 released" in scene.told("release", "--trekkid", first)
    assert "1 dropped" in scene.told("drop", "--at", parked["10001"]["at"], "--yes")
    unsure = scene.command("drop", "--trekkid", second, "--state", scene.state)
    assert unsure.wait(DEADLINE_SECONDS) == 1, "not confirmed"
    scene.run()
    assert scene.receiver.accepted_of(first) == wanted[first]
    assert scene.receiver.accepted_of(second) == []
    assert list(map(json.loads, scene.told("parked", "--json").splitlines()[:-1])) == [parked[second]]


def test_an_address_that_is_gone_ends_it_with_1_and_wrong_settings_with_2(scene: Scene) -> None:
    scene.topics.write(make_stream(5, 3), gjeldende=False)
    scene.receiver.make_trouble(410)
    gone = scene.start()
    unsafe = {"TREKKPAALEGG_FORWARD_URL": "http://payroll.example/hemmelig", "TREKKPAALEGG_FORWARD_SECRET": "hemmelig"}
    wrong = scene.command("--state", "nowhere", settings=unsafe)
    assert gone.wait(DEADLINE_SECONDS) == 1
    assert "answered 410: it accepts no more events at this address" in gone.last_lines()
    assert wrong.wait(DEADLINE_SECONDS) == 2
    told = wrong.last_lines()
    for fault in ("must begin with https://", "TREKKPAALEGG_FORWARD_SECRET", "--state: "):
        assert fault in told
    assert "hemmelig" not in told
