"""Every way in which a connection to Kafka can be refused: both programs end with the true reason and what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import consumers.cli.main
import producer.cli.main
from tests.kit.servers.secured_kafka import SecuredKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    with SecuredKafka() as server:
        server.set_password("payroll", "secret-1")
        yield server


def properties_of(secured: SecuredKafka, case: str) -> dict[str, str]:
    return {
        "expired": lambda: secured.tls_properties("EXPIRED"),
        "wrong host": lambda: secured.tls_properties("WRONG_HOST"),
        "strange authority": lambda: secured.tls_properties("STRANGER"),
        "no certificate": lambda: secured.tls_properties("MTLS"),
        "strange certificate": lambda: secured.tls_properties("MTLS", secured.strangers.client("payroll")),
        "wrong password": lambda: secured.scram_properties("payroll", "secret-2"),
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
