"""`…-versjoner` is lost or restored from an older copy: what is lost is found, and published again from the source."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.settings.model import load_settings
from consumers.verify.proof import ProofOptions, prove
from producer.admin.kafka import KafkaAdmin
from sandbox.demo.proof import read_committed
from tests.kit.waiting import Unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from sandbox.demo.proof import Published

pytestmark = pytest.mark.kafka

SECONDS_MAX = 90.0


class Loss:
    """A stage whose history is made again with a part of what stood in it."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.properties = {"bootstrap.servers": stage.kafka.bootstrap_servers}
        self.client = AdminClient(self.properties)

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run a command of the producer to its end; what it printed and logged."""
        process = self.stage.begin(*arguments)
        ended = process.wait(SECONDS_MAX)
        told: str = process.log_file.read_text()
        assert ended == code, told
        return told

    def reconcile(self, code: int = 0) -> Any:
        """The document that `reconcile --history --json` prints."""
        told = self.command("reconcile", "--history", "--json", code=code)
        start = min(found.start() for found in re.finditer(r"^\{$", told, re.MULTILINE))
        return json.JSONDecoder().raw_decode(told[start:])[0]

    def lose(self, topic: str, keeps: Callable[[Message], bool] = lambda _: False) -> None:
        """Make a topic again with those of its records that are kept, and adopt it."""
        kept = [each for each in read_committed(self.stage.kafka.bootstrap_servers, topic) if keeps(each)]
        admin = KafkaAdmin(self.properties)
        self.client.delete_topics([topic])[topic].result(SECONDS_MAX)
        self.stage.wait_until(lambda: not admin.describe([topic]), 30, f"{topic} is gone")
        self.command("topics", "apply", "--partitions", str(self.stage.lanes), code=1)
        self.command("topics", "adopt", "--yes")
        with contextlib.closing(_Restored(self.properties)) as restored:
            for each in kept:
                restored.write(each)

    def faults(self) -> dict[str, int]:
        """The checks of `verify` that do not hold, and how many differences each has."""
        settings = load_settings(
            None,
            {"KAFKA_BROKERS": self.properties["bootstrap.servers"], "TREKKPAALEGG_TOPIC_PREFIX": self.stage.prefix},
        )
        return {
            each.name: len(each.differences) for each in prove(settings, ProofOptions(), Unseen()).checks if not each.ok
        }

    def prove(self) -> list[Published]:
        """All events: each version of the source once; `verify` finds nothing."""
        found: list[Published] = self.stage.versjoner()
        assert sorted(each.identity for each in found) == sorted(self.stage.outside.skatteetaten.identities())
        assert self.faults() == {}
        return found


class _Restored:
    """Writes records as they were."""

    def __init__(self, properties: dict[str, str]) -> None:
        self._producer = Producer(properties)

    def write(self, message: Message) -> None:
        self._producer.produce(
            message.topic() or "", message.value(), message.key(), message.partition() or 0, headers=message.headers()
        )

    def close(self) -> None:
        assert self._producer.flush(SECONDS_MAX) == 0


@pytest.fixture
def loss(kafka: Any, make_stage: Any) -> Loss:
    """Orders with up to three versions, all of them published."""
    stage = make_stage(kafka, employers=4, orders=24)
    for place, each in enumerate(stage.outside.skatteetaten.book.newest_of_all()):
        for _ in range(place % 3):
            stage.outside.skatteetaten.change(each.trekkid)
    stage.once()
    return Loss(stage)


def kept(message: Message) -> bool:
    """Of a third of the orders nothing, of another the first version, of the others all but the second."""
    version = int(dict(message.headers() or [])["ce_id"].rsplit(b"/", 1)[1])
    return version in {0: (), 1: (1,), 2: (1, 3)}[sum(message.key() or b"") % 3]


def test_what_a_history_lost_is_published_again_once(loss: Loss) -> None:
    """No worker runs. `verify` names what is wrong before, and nothing after; a second time nothing is lost."""
    before = {each.identity for each in loss.stage.versjoner()}
    loss.lose(loss.stage.topics.versjoner, kept)
    lost = before - {each.identity for each in loss.stage.versjoner()}
    assert 10 < len(lost) < len(before)
    assert {"positions", "gjeldende"} <= loss.faults().keys()
    told = loss.reconcile()
    again = {(each["trekkid"], each["trekkversjon"]) for each in told["differences"]}
    assert again == lost
    assert {each["difference"] for each in told["differences"]} == {"published again"}
    assert {each.identity for each in loss.prove() if each.origin == "repair"} == lost
    assert loss.reconcile()["differences"] == []
    loss.stage.once()
    loss.prove()


def test_newest_versions_that_were_lost_are_copied_from_the_history(loss: Loss) -> None:
    """Of a third of the orders `…-gjeldende` keeps nothing, of another an older version."""
    before = loss.stage.versjoner()
    loss.lose(loss.stage.topics.gjeldende, kept)
    assert loss.faults().keys() == {"gjeldende"}
    assert loss.reconcile()["differences"] == []
    assert loss.prove() == before


def test_workers_that_run_compare_with_the_history(loss: Loss) -> None:
    """All is lost, and orders change meanwhile."""
    stage, source = loss.stage, loss.stage.outside.skatteetaten
    before = {each.identity for each in stage.versjoner()}
    loss.lose(stage.topics.versjoner)
    stage.wait_until_owned(stage.run(), stage.run())
    with stage.traffic():
        told = loss.reconcile()
    assert {(each["trekkid"], each["trekkversjon"]) for each in told["differences"]} >= before
    source.create(stage.employers[0])
    stage.wait_until_published(60)
    loss.prove()


def test_what_cannot_be_had_again_is_listed_and_known_to_be_missing(loss: Loss) -> None:
    source = loss.stage.outside.skatteetaten
    gone = next(each.trekkid for each in source.book.newest_of_all() if each.trekkversjon == 3)
    loss.lose(loss.stage.topics.versjoner, lambda message: message.key() != gone.encode())
    source.forget(gone, 2)
    told = loss.reconcile(code=1)
    (listed,) = [each for each in told["differences"] if each["difference"] != "published again"]
    assert (listed["trekkid"], listed["trekkversjon"]) == (gone, 2)
    assert "HTTP 404" in listed["difference"]
    assert loss.faults() == {}
    source.restore(gone, 2)
    loss.reconcile()
    assert [each.identity for each in loss.prove() if each.late] == [(gone, 2)]
