"""Kafka refuses in mid-run, for want of a right or by a certificate that has expired; all goes on by itself later.

Producer and consumer run as processes of their own, never started again, and each version is there once at the end.
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

from producer.publish.acls import consumer_acls, producer_acls
from sandbox.consumer_process import ConsumerProcess
from sandbox.secured_kafka import SecuredKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producer.publish.acls import Acl
    from sandbox.producer_process import ProducerProcess

pytestmark = pytest.mark.kafka
DEADLINE_SECONDS = 90.0
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
TREKK, PAYROLL = "User:trekk", "User:payroll"


@pytest.fixture
def secured() -> Iterator[SecuredKafka]:
    with SecuredKafka() as server:
        yield server


def grant(kafka: SecuredKafka, acls: list[Acl]) -> None:
    for acl in acls:
        pattern = ResourcePatternType.PREFIXED if acl.is_prefix else ResourcePatternType.LITERAL
        kafka.grant(acl.principal, KINDS[acl.right.kind], acl.right.name, AclOperation[acl.right.operation], pattern)


class Scene:
    """A stage whose producer comes by certificate, and a consumer that comes by name and password."""

    def __init__(self, stage: Any, kafka: SecuredKafka, folder: Path) -> None:
        self.stage = stage
        self.kafka = kafka
        self.client = kafka.certificates.client("trekk")
        stage.settings |= {
            "KAFKA_BROKERS": kafka.address("MTLS"),
            "KAFKA_CA_PATH": str(kafka.certificates.authority),
            "KAFKA_CERTIFICATE_PATH": str(self.client.certificate),
            "KAFKA_PRIVATE_KEY_PATH": str(self.client.key),
        }
        kafka.set_password("payroll", "secret-1")
        own = folder / "payroll.properties"
        own.write_text("sasl.mechanism=SCRAM-SHA-512\nsasl.username=payroll\nsasl.password=secret-1\n")
        grant(kafka, producer_acls(TREKK, stage.prefix, stage.prefix))
        grant(kafka, consumer_acls(PAYROLL, stage.prefix, None))
        self.ledger = folder / "ledger.db"
        self.consumer = ConsumerProcess(
            ("run",),
            {
                "TREKKPAALEGG_LEDGER": f"sqlite:///{self.ledger}",
                "TREKKPAALEGG_TOPIC_PREFIX": stage.prefix,
                "KAFKA_BROKERS": kafka.address("SCRAM"),
                "KAFKA_CA_PATH": str(kafka.certificates.authority),
                "KAFKA_PROPERTIES_FILE": str(own),
            },
            folder / "consumer.log",
        )

    def missing_at(self, producer: ProducerProcess) -> str:
        """What `/readyz` says that is missing; empty when nothing is."""
        started = next((each for each in producer.log_entries() if each["event"] == "started"), None)
        if started is None:
            return "not started"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{started['http_port']}/readyz", timeout=5) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())
        return "; ".join(told["missing"].values())

    def wait_until_ready(self, producer: ProducerProcess) -> None:
        self.stage.wait_until(lambda: not self.missing_at(producer), DEADLINE_SECONDS, "the producer is ready")

    def wait_until_it_says(self, producer: ProducerProcess, words: str) -> None:
        """Until both its log and `/readyz` say so."""

        def is_said() -> bool:
            logged = any(words in str(entry.get("reason")) for entry in producer.log_entries())
            return logged and words in self.missing_at(producer)

        self.stage.wait_until(is_said, DEADLINE_SECONDS, f"log and /readyz say: {words}")

    def wait_until_told(self, words: str) -> None:
        """Until the consumer says so."""
        log_file = self.consumer.log_file
        self.stage.wait_until(lambda: words in log_file.read_text(), DEADLINE_SECONDS, f"the consumer says: {words}")

    def wait_until_applied(self) -> None:
        """Until the topic and the ledger have every version of the source."""
        self.stage.wait_until_published(DEADLINE_SECONDS)
        self.stage.wait_until(self._is_applied, DEADLINE_SECONDS, "every version is in the ledger")

    def _is_applied(self) -> bool:
        with closing(sqlite3.connect(self.ledger)) as connection:
            found = connection.execute("SELECT trekkid, trekkversjon FROM trekkpaalegg_versjon").fetchall()
        return sorted(found) == sorted(each.identity for each in self.stage.versjoner())

    def more_orders(self) -> None:
        for employer in self.stage.employers:
            self.stage.outside.skatteetaten.create(employer)


@pytest.fixture
def scene(secured: SecuredKafka, make_stage: Any, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(make_stage(secured, employers=3, orders=9, lanes=2), secured, tmp_path)
    yield made
    made.consumer.kill()


def test_a_right_that_is_revoked_in_mid_run_is_named_and_all_goes_on_once_it_is_granted(scene: Scene) -> None:
    """Of the producer: writing the history, its transactional id, its group. Of the consumer: the topic, the group."""
    stage, kafka = scene.stage, scene.kafka
    producer, consumer = stage.run(), scene.consumer
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


def test_a_broker_whose_certificate_has_expired_is_named_and_all_goes_on_once_it_has_a_good_one(scene: Scene) -> None:
    stage, kafka = scene.stage, scene.kafka
    producer, consumer = stage.run(), scene.consumer
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
