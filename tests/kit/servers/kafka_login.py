"""The files with which a program logs in to a secured Kafka, to be spoiled and renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.servers.certificates import Identity
    from tests.kit.servers.secured_kafka import SecuredKafka

Way = Literal["certificate", "password"]


class KafkaLogin:
    """The files by which one program comes in: certificate and key, or properties with name and password."""

    def __init__(self, kafka: SecuredKafka, principal: str, way: Way, folder: Path) -> None:
        self.kafka = kafka
        self.way = way
        self.user = principal.removeprefix("User:")
        self.certificate, self.key = folder / f"{self.user}.crt", folder / f"{self.user}.key"
        self.properties = folder / f"{self.user}.properties"
        kafka.set_password(self.user, password_of(kafka))
        self.renew()

    @property
    def settings(self) -> dict[str, str]:
        """Those by which producer or consumer find the files."""
        authority = {"KAFKA_CA_PATH": str(self.kafka.certificates.authority)}
        if self.way == "password":
            address, file = self.kafka.address("SCRAM"), str(self.properties)
            return {**authority, "KAFKA_BROKERS": address, "KAFKA_PROPERTIES_FILE": file}
        return {
            **authority,
            "KAFKA_BROKERS": self.kafka.address("MTLS"),
            "KAFKA_CERTIFICATE_PATH": str(self.certificate),
            "KAFKA_PRIVATE_KEY_PATH": str(self.key),
        }

    @property
    def refusal(self) -> str:
        """What is said of one that no longer counts."""
        return "refuses our certificate" if self.way == "certificate" else "refuses user or password"

    def renew(self, *, without_key: bool = False) -> None:
        """Write what counts now."""
        self._write(self.kafka.trusted.client(self.user), password_of(self.kafka), without_key=without_key)

    def spoil(self) -> None:
        """Write what never counts."""
        self._write(self.kafka.trusted.client(self.user, is_expired=True), "secret-0")

    def _write(self, made: Identity, password: str, *, without_key: bool = False) -> None:
        self.certificate.write_bytes(made.certificate.read_bytes())
        if not without_key:
            self.key.write_bytes(made.key.read_bytes())
        self.properties.write_text(
            f"sasl.mechanism=SCRAM-SHA-512\nsasl.username={self.user}\nsasl.password={password}\n"
        )


def password_of(kafka: SecuredKafka) -> str:
    """Everyone's: it changes together with the authority of client certificates."""
    return "secret-1" if kafka.trusted is kafka.certificates else "secret-2"
