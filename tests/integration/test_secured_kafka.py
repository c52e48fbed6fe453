"""The broker with locked doors: each lets in whom it should, and nobody may do what was not granted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, ResourceType

from tests.kit.servers.secured_kafka import SecuredKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka
CALL_SECONDS_MAX = 30


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    with SecuredKafka() as server:
        server.set_password("payroll", "secret-1")
        yield server


def client(properties: dict[str, str]) -> AdminClient:
    return AdminClient(properties, logger=logging.getLogger("silent"))


def test_each_door_lets_in_whom_it_should(secured: SecuredKafka) -> None:
    payroll = secured.certificates.client("payroll")
    for properties in (
        secured.tls_properties(),
        secured.tls_properties("MTLS", payroll),
        secured.scram_properties("payroll", "secret-1"),
    ):
        assert len(client(properties).list_topics(timeout=CALL_SECONDS_MAX).brokers) == 1


@pytest.mark.parametrize("case", ["expired", "wrong host", "stranger", "no certificate", "strange certificate", "word"])
def test_each_door_keeps_out_whom_it_should(secured: SecuredKafka, case: str) -> None:
    properties = {
        "expired": lambda: secured.tls_properties("EXPIRED"),
        "wrong host": lambda: secured.tls_properties("WRONG_HOST"),
        "stranger": lambda: secured.tls_properties("STRANGER"),
        "no certificate": lambda: secured.tls_properties("MTLS"),
        "strange certificate": lambda: secured.tls_properties("MTLS", secured.strangers.client("payroll")),
        "word": lambda: secured.scram_properties("payroll", "secret-2"),
    }[case]()
    with pytest.raises(KafkaException):
        client(properties).list_topics(timeout=1)


def test_nobody_may_do_what_was_not_granted(secured: SecuredKafka) -> None:
    topic = NewTopic("granted", 1)
    for properties in (
        secured.tls_properties("MTLS", secured.certificates.client("payroll")),
        secured.scram_properties("payroll", "secret-1"),
    ):
        payroll, anyone = client(properties), client({"bootstrap.servers": secured.bootstrap_servers})
        with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
            payroll.create_topics([topic])["granted"].result(CALL_SECONDS_MAX)
        secured.grant("User:payroll", ResourceType.TOPIC, "granted", AclOperation.CREATE)
        payroll.create_topics([topic])["granted"].result(CALL_SECONDS_MAX)
        anyone.delete_topics(["granted"])["granted"].result(CALL_SECONDS_MAX)
        assert secured.revoke("User:payroll") == 1
