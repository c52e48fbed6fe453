"""`trekkpaalegg-consumer webhook` as a program, from a real Kafka to a payroll system that fails in every way."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from consumers.webhook.signing import new_secret
from sandbox.consumer_process import ConsumerProcess
from sandbox.event_stream import EventTopics, make_stream
from sandbox.payroll_receiver import PayrollReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producer.encode.event import Publication
    from sandbox.kafka import EmbeddedKafka

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
