"""A secured broker lets in whom it should; where it refuses, both programs end with the true reason and what to do."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, ResourceType

import consumers.cli.main
import producer.cli.main
from producer.publish.recovery.recover import single_broker_warnings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.servers.secured_kafka import SecuredKafka

pytestmark = pytest.mark.kafka
REASONS = {
    "expired": "has expired; have the brokers' certificates renewed",
    "wrong host": "is for another host",
    "strange authority": "is signed by an authority that is not known here",
    "no certificate": "wants a certificate of ours",
    "strange certificate": "refuses our certificate",
    "wrong password": "refuses user or password; see sasl.username and sasl.password",
    "plain to TLS": "speaks TLS, and this client does not",
    "TLS to plain": "does not speak TLS",
}
USER = "visitor"
CALL_SECONDS_MAX = 60


@pytest.fixture(scope="module", autouse=True)
def _user(secured: SecuredKafka) -> None:
    secured.set_password(USER, "secret-1")


def properties_of(secured: SecuredKafka, case: str) -> dict[str, str]:
    return {
        "expired": lambda: secured.tls_properties("EXPIRED"),
        "wrong host": lambda: secured.tls_properties("WRONG_HOST"),
        "strange authority": lambda: secured.tls_properties("STRANGER"),
        "no certificate": lambda: secured.tls_properties("MTLS"),
        "strange certificate": lambda: secured.tls_properties("MTLS", secured.strangers.client(USER)),
        "wrong password": lambda: secured.scram_properties(USER, "secret-2"),
        "plain to TLS": lambda: {"bootstrap.servers": secured.address("TLS")},
        "TLS to plain": lambda: secured.tls_properties() | {"bootstrap.servers": secured.bootstrap_servers},
    }[case]()


@pytest.fixture
def environment(
    secured: SecuredKafka, case: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith(("KAFKA_", "TREKKPAALEGG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "kafka.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties_of(secured, case).items()))
    monkeypatch.setenv("KAFKA_PROPERTIES_FILE", str(file))
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", topic_prefix)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("case", REASONS)
def test_a_refused_connection_is_told_by_its_reason(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    for run_command, arguments in (
        (producer.cli.main.run_command, ["topics", "apply", "--dry-run"]),
        (consumers.cli.main.run_command, ["tail", "--from-beginning", "--until-end"]),
    ):
        code = run_command(arguments)
        told = capsys.readouterr().err
        assert (code, REASONS[case] in told) == (1, True), (arguments, told)
        assert "secret-" not in told


def client(properties: dict[str, str]) -> AdminClient:
    return AdminClient(properties, logger=logging.getLogger("silent"))


def test_each_door_lets_in_whom_it_should(secured: SecuredKafka) -> None:
    visitor = secured.certificates.client(USER)
    for properties in (
        secured.tls_properties(),
        secured.tls_properties("MTLS", visitor),
        secured.scram_properties(USER, "secret-1"),
    ):
        assert len(client(properties).list_topics(timeout=CALL_SECONDS_MAX).brokers) == 1


def test_nothing_is_permitted_that_was_not_granted(secured: SecuredKafka, topic_prefix: str) -> None:
    topic = NewTopic(topic_prefix, 1)
    for properties in (
        secured.tls_properties("MTLS", secured.certificates.client(USER)),
        secured.scram_properties(USER, "secret-1"),
    ):
        visitor, anyone = client(properties), client({"bootstrap.servers": secured.bootstrap_servers})
        with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
            visitor.create_topics([topic])[topic_prefix].result(CALL_SECONDS_MAX)
        secured.grant(f"User:{USER}", ResourceType.TOPIC, topic_prefix, AclOperation.CREATE)
        visitor.create_topics([topic])[topic_prefix].result(CALL_SECONDS_MAX)
        anyone.delete_topics([topic_prefix])[topic_prefix].result(CALL_SECONDS_MAX)
        assert secured.revoke(f"User:{USER}") == 1


def test_a_setting_of_the_broker_that_may_not_be_seen_is_not_warned_of(secured: SecuredKafka) -> None:
    assert single_broker_warnings(secured.scram_properties(USER, "secret-1")) == []
