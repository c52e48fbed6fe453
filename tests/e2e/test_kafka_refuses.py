"""Kafka refuses for want of a right, or by certificate or password; all goes on by itself when that was mended.

Producer and consumer run as processes of their own, never started again, and each version is there once at the end.
One broker serves all tests of this module, in their order; each leaves it as it was.
"""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType

from producer.admin.acls import consumer_acls, producer_acls
from sandbox.demo.proof import bodies_of_source
from tests.kit.processes import ConsumerProcess
from tests.kit.servers.secured_kafka import KafkaLogin, SecuredKafka, password_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producer.admin.acls import Acl
    from tests.kit.processes import ProducerProcess
    from tests.kit.servers.secured_kafka import Way

pytestmark = pytest.mark.kafka
DEADLINE_SECONDS = 180.0
PAUSE_SECONDS = 0.2
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
TREKK, PAYROLL = "User:trekk", "User:payroll"


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    with SecuredKafka() as server:
        yield server


def grant(kafka: SecuredKafka, acls: list[Acl]) -> None:
    for acl in acls:
        pattern = ResourcePatternType.PREFIXED if acl.is_prefix else ResourcePatternType.LITERAL
        kafka.grant(acl.principal, KINDS[acl.right.kind], acl.right.name, AclOperation[acl.right.operation], pattern)


def change_what_counts(kafka: SecuredKafka) -> None:
    """Other client certificates and another password; whoever is connected must come in anew."""
    kafka.trusted = kafka.strangers if kafka.trusted is kafka.certificates else kafka.certificates
    for principal in (TREKK, PAYROLL):
        kafka.set_password(principal.removeprefix("User:"), password_of(kafka))
    kafka.stop()
    kafka.start()


class Scene:
    """A stage whose producer comes in one way, and a consumer that comes in the other."""

    def __init__(self, stage: Any, kafka: SecuredKafka, folder: Path, producer_way: Way) -> None:
        self.stage = stage
        self.kafka = kafka
        self.trekk = KafkaLogin(kafka, TREKK, producer_way, folder)
        self.payroll = KafkaLogin(
            kafka, PAYROLL, "password" if producer_way == "certificate" else "certificate", folder
        )
        stage.settings |= self.trekk.settings
        grant(kafka, producer_acls(TREKK, stage.prefix, stage.prefix))
        grant(kafka, consumer_acls(PAYROLL, stage.prefix, None))
        self.ledger = folder / "ledger.db"
        self.log_file = folder / "consumer.log"
        self._consumers: list[ConsumerProcess] = []

    def start(self) -> tuple[ProducerProcess, ConsumerProcess]:
        settings = {"TREKKPAALEGG_LEDGER": f"sqlite:///{self.ledger}", "TREKKPAALEGG_TOPIC_PREFIX": self.stage.prefix}
        self._consumers.append(ConsumerProcess(("run",), settings | self.payroll.settings, self.log_file))
        return self.stage.run(), self._consumers[0]

    def close(self) -> None:
        for each in self._consumers:
            each.kill()

    def missing_at(self, producer: ProducerProcess) -> str:
        """What `/readyz` says that is missing, or that it says nothing yet; empty when nothing is missing."""
        started = next((each for each in producer.log_entries() if each["event"] == "started"), None)
        if started is None:
            return "not started"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{started['http_port']}/readyz", timeout=30) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())
        except OSError:
            return "no answer"
        return "; ".join(told["missing"].values())

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        self.stage.wait_until(holds, DEADLINE_SECONDS, what, pause_seconds=PAUSE_SECONDS)

    def wait_until_ready(self, producer: ProducerProcess) -> None:
        self.wait_until(lambda: not self.missing_at(producer), "the producer is ready")

    def wait_until_it_says(self, producer: ProducerProcess, words: str) -> None:
        """Until both its log and `/readyz` say so."""

        def is_said() -> bool:
            logged = any(words in str(entry.get("reason")) for entry in producer.log_entries())
            return logged and words in self.missing_at(producer)

        self.wait_until(is_said, f"log and /readyz say: {words}")

    def wait_until_told(self, words: str) -> None:
        """Until the consumer says so."""
        self.wait_until(lambda: words in self.log_file.read_text(), f"the consumer says: {words}")

    def wait_until_applied(self) -> None:
        """Until the topic and the ledger have every version of the source."""
        self.stage.wait_until_published(DEADLINE_SECONDS)
        self.wait_until(self._is_applied, "every version is in the ledger")

    def _is_applied(self) -> bool:
        with closing(sqlite3.connect(self.ledger)) as connection:
            try:
                found = connection.execute("SELECT trekkid, trekkversjon FROM trekkpaalegg_versjon").fetchall()
            except sqlite3.OperationalError:
                return False  # the consumer has not made its tables yet
        return sorted(found) == sorted(bodies_of_source(self.stage.outside.skatteetaten))

    def more_orders(self) -> None:
        for employer in self.stage.employers:
            self.stage.outside.skatteetaten.create(employer)


@pytest.fixture
def make_scene(secured: SecuredKafka, make_stage: Any, tmp_path: Path) -> Iterator[Callable[[Way], Scene]]:
    made: list[Scene] = []

    def make(producer_way: Way) -> Scene:
        made.append(Scene(make_stage(secured, employers=3, orders=9, lanes=2), secured, tmp_path, producer_way))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def scene(make_scene: Callable[[Way], Scene]) -> Scene:
    return make_scene("certificate")


def test_a_revoked_right_is_named_and_work_resumes_once_it_is_granted(scene: Scene) -> None:
    """Of the producer: writing the history, its transactional id, its group. Of the consumer: the topic, the group."""
    stage, kafka = scene.stage, scene.kafka
    producer, consumer = scene.start()
    scene.wait_until_ready(producer)
    scene.wait_until_applied()
    rights = producer_acls(TREKK, stage.prefix, stage.prefix)
    versjoner, group = stage.topics.versjoner, f"{stage.prefix}"
    for operation, kind, name in (
        ("WRITE", "topic", versjoner),
        ("WRITE", "transactional id", f"{stage.prefix}-"),
        ("READ", "group", group),
    ):
        before = len(stage.versjoner())
        kafka.revoke(TREKK, KINDS[kind], name, AclOperation[operation])
        scene.more_orders()
        scene.wait_until_it_says(producer, f"{operation} on {kind} {name}")
        if kind != "group":
            assert len(stage.versjoner()) == before
        grant(kafka, [each for each in rights if (each.right.operation, each.right.name) == (operation, name)])
        stage.wait_until_published(DEADLINE_SECONDS)
        scene.wait_until_ready(producer)
    for kind, name in (("topic", versjoner), ("group", "trekkpaalegg-consumer-")):
        scene.wait_until_applied()
        kafka.revoke(PAYROLL, KINDS[kind], name, AclOperation.READ)
        scene.more_orders()
        scene.wait_until_told(f"READ on {kind} {name}")
        rights = consumer_acls(PAYROLL, stage.prefix, None)
        grant(kafka, [each for each in rights if each.right.name == name])
        scene.wait_until_applied()
    assert producer.is_running()
    assert consumer.is_running()
    stage.prove()


def test_expired_certificates_are_named_and_work_resumes_once_they_are_renewed(
    scene: Scene,
) -> None:
    """The producer's own certificate and the consumer's password at the start; later the brokers' certificates."""
    stage, kafka = scene.stage, scene.kafka
    scene.trekk.spoil()
    scene.payroll.spoil()
    producer, consumer = scene.start()
    scene.wait_until_it_says(producer, "our own certificate has expired")
    scene.wait_until_told(scene.payroll.refusal)
    scene.trekk.renew()
    scene.payroll.renew()
    scene.wait_until_ready(producer)
    scene.wait_until_applied()
    good, expired = kafka.certificates.server(), kafka.certificates.expired()
    kafka.stop()
    kafka.show("MTLS", expired)
    kafka.show("SCRAM", expired)
    kafka.start()
    scene.more_orders()
    scene.wait_until_it_says(producer, "has expired; have the brokers' certificates renewed")
    scene.wait_until_told("has expired; have the brokers' certificates renewed")
    kafka.stop()
    kafka.show("MTLS", good)
    kafka.show("SCRAM", good)
    kafka.start()
    scene.wait_until_applied()
    scene.wait_until_ready(producer)
    assert producer.is_running()
    assert consumer.is_running()
    stage.prove()


@pytest.mark.parametrize("producer_way", ["certificate", "password"])
def test_renewed_certificates_and_passwords_are_taken_up_in_mid_run_without_a_restart(
    make_scene: Callable[[Way], Scene], producer_way: Way
) -> None:
    """The new certificate comes a while before its key."""
    scene = make_scene(producer_way)
    stage = scene.stage
    producer, consumer = scene.start()
    scene.wait_until_ready(producer)
    scene.wait_until_applied()
    change_what_counts(scene.kafka)
    scene.more_orders()
    scene.wait_until_it_says(producer, scene.trekk.refusal)
    scene.wait_until_told(scene.payroll.refusal)
    scene.trekk.renew(without_key=True)
    scene.payroll.renew(without_key=True)
    if producer_way == "certificate":
        words = "certificates or password cannot be used yet"
        scene.wait_until(lambda: producer.has_logged(words), words)
    else:
        scene.wait_until_told("the Kafka settings cannot be used")
    scene.trekk.renew()
    scene.payroll.renew()
    scene.wait_until_applied()
    scene.wait_until_ready(producer)
    assert producer.is_running()
    assert consumer.is_running()
    stage.prove()
