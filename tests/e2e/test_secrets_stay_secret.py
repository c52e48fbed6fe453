"""No planted secret is in anything that the programs print, log or show to `ps`, also where they go wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumers.webhook.delivery import new_secret
from sandbox.servers.certificates import Certificates
from tests.kit.processes import ForkedProducer, ProducerProcess
from tests.kit.servers.registry_door import RegistryDoor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.control.world import OutsideWorld
    from sandbox.servers.registry import EmbeddedRegistry
    from tests.kit.servers.secured_kafka import SecuredKafka

pytestmark = pytest.mark.kafka
SASL, REGISTRY, LEDGER = "sasl-5b1d9cplanted", "registry-7f02e1planted", "ledger-c83aa4planted"
COMMAND_SECONDS_MAX = 300.0
PREFIX, USER = "secrets", "planted"
COMMANDS = [
    ("producer", "--help"),
    ("producer", "run", "--help"),
    ("producer", "topics", "apply", "--partitions", "1"),
    ("producer", "acls", "apply", "--producer-principal", "User:trekk"),
    ("producer", "doctor"),
    ("producer", "doctor", "--json"),
    ("producer", "schemas", "register"),
    ("producer", "once"),
    ("consumers", "--help"),
    ("consumers", "tail", "--from-beginning", "--until-end"),
    ("consumers", "verify", "--topics-only"),
    ("consumers", "run", "--until-end"),
    ("consumers", "replay"),
    ("consumers", "webhook", "--until-end", "--state", "sqlite:///state.db"),
]


class Place:
    """Settings full of secrets, and the programs run with them."""

    def __init__(self, settings: dict[str, str], secrets: list[str], folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self._secrets = secrets

    def run(
        self, arguments: tuple[str, ...], *, process: type[ProducerProcess] = ForkedProducer, **settings: str
    ) -> str:
        """All that the command prints, in which no secret is; nor is one in what `ps` shows meanwhile."""
        log_file = self.folder / "told"
        log_file.unlink(missing_ok=True)
        module, *rest = arguments
        started = process(rest, {**self.settings, **settings}, log_file, program=(sys.executable, "-m", module))
        shown = Path(f"/proc/{started.pid}/cmdline").read_text()
        try:
            started.wait(COMMAND_SECONDS_MAX)
        finally:
            started.kill()
        told = log_file.read_text(errors="replace")
        found = [secret[:6] for secret in self._secrets if secret in told or secret in shown]
        assert found == [], f"{arguments} shows secrets that begin so"
        assert told
        return told


@pytest.fixture
def place(outside: OutsideWorld, registry: EmbeddedRegistry, secured: SecuredKafka, tmp_path: Path) -> Iterator[Place]:
    certificates = Certificates(tmp_path / "registry")
    forward_secret = new_secret()
    with RegistryDoor(registry.url, certificates.server(), "trekk", REGISTRY) as door:
        secured.set_password(USER, SASL)
        own = tmp_path / "own.properties"
        own.write_text(f"sasl.mechanism=SCRAM-SHA-512\nsasl.username={USER}\nsasl.password={SASL}\n")
        settings = {
            **outside.environment(outside.generate(1, 3)),
            "TREKKPAALEGG_TOPIC_PREFIX": PREFIX,
            "TREKKPAALEGG_LEDGER": f"postgresql://payroll:{LEDGER}@127.0.0.1:1/payroll",
            "TREKKPAALEGG_FORWARD_URL": "http://127.0.0.1:1/trekk",
            "TREKKPAALEGG_FORWARD_SECRET": forward_secret,
            "KAFKA_BROKERS": secured.address("SCRAM"),
            "KAFKA_CA_PATH": str(secured.certificates.authority),
            "KAFKA_PROPERTIES_FILE": str(own),
            "KAFKA_SCHEMA_REGISTRY": door.url,
            "KAFKA_SCHEMA_REGISTRY_USER": "trekk",
            "KAFKA_SCHEMA_REGISTRY_PASSWORD": REGISTRY,
            "KAFKA_SCHEMA_REGISTRY_CA_PATH": str(certificates.authority),
        }
        jwk: dict[str, Any] = json.loads(settings["MASKINPORTEN_CLIENT_JWK"])
        private = [jwk[part] for part in ("d", "p", "q", "dp", "dq", "qi")]
        secrets = [SASL, REGISTRY, LEDGER, forward_secret, forward_secret.removeprefix("whsec_"), *private]
        yield Place(settings, [*secrets, "wrong-planted"], tmp_path)


def test_nothing_that_is_said_holds_a_secret(place: Place) -> None:
    """Refused by Kafka for want of rights, by the ledger that is not there; then by a wrong password and a registry."""
    for command in COMMANDS:
        place.run(command)
    place.run(("producer", "doctor"), process=ProducerProcess)
    assert "401" in place.run(("producer", "doctor"), KAFKA_SCHEMA_REGISTRY_PASSWORD="wrong-planted")
    (place.folder / "own.properties").write_text(
        f"sasl.mechanism=SCRAM-SHA-512\nsasl.username={USER}\nsasl.password=wrong-planted\n"
    )
    for command in (("producer", "doctor", "--json"), ("producer", "once"), ("consumers", "tail")):
        assert "refuses user or password" in place.run(command)
    bad = place.folder / "bad.properties"
    bad.write_text(
        f"sasl.mechanism=SCRAM-SHA-512\nsasl.username={USER}\nsasl.passwort=wrong-planted\nsecret.x=wrong-planted\n"
    )
    place.run(("producer", "once"), KAFKA_PROPERTIES_FILE=str(bad))
