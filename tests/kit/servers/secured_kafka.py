"""A real broker with listeners for TLS, client certificates and SCRAM, with users and ACLs.

::

    with SecuredKafka() as kafka:
        kafka.set_password("payroll", "secret")
        kafka.grant("User:payroll", ResourceType.TOPIC, "trekkpaalegg-versjoner", AclOperation.READ)
        client = Consumer(kafka.scram_properties("payroll", "secret") | {"group.id": "payroll"})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all of them are in its __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from sandbox.servers.certificates import ELSEWHERE, Certificates
from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.waiting import until
from trekkpaalegg.kafka.clients import create_admin_client

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.servers.certificates import Identity


Door = Literal["TLS", "MTLS", "SCRAM", "EXPIRED", "WRONG_HOST", "STRANGER"]

MECHANISM = "SCRAM-SHA-512"
_PROTOCOLS: dict[Door, str] = {
    "TLS": "SSL",
    "MTLS": "SSL",
    "SCRAM": "SASL_SSL",
    "EXPIRED": "SSL",
    "WRONG_HOST": "SSL",
    "STRANGER": "SSL",
}
_CALL_SECONDS_MAX = 30.0
_SCRAM_ITERATIONS = 4096


class SecuredKafka(EmbeddedKafka):
    """As `EmbeddedKafka`, with a door each for TLS, for TLS with client certificates and for SCRAM over TLS.

    Three more doors show certificates that must be refused: expired, of another host, of an unknown authority.
    `certificates` is the authority that clients trust, `strangers` the other one. Nobody may do anything without being
    granted it. The plain `bootstrap_servers` is the sandbox's own way in: whoever comes there may do everything.
    """

    name: ClassVar[str] = "secured-kafka"

    def __init__(self, data_folder: Path | None = None) -> None:
        super().__init__(data_folder)
        self._ports_of: dict[Door, int] = {door: free_port() for door in _PROTOCOLS}
        self.certificates = Certificates(self.data_folder / "certificates")
        self.strangers = Certificates(self.data_folder / "strangers")
        self._shown: dict[Door, Identity] = {
            "TLS": self.certificates.server(),
            "MTLS": self.certificates.server(),
            "SCRAM": self.certificates.server(),
            "EXPIRED": self.certificates.expired(),
            "WRONG_HOST": self.certificates.server("wrong-host", ELSEWHERE),
            "STRANGER": self.strangers.server(),
        }
        self.trusted = self.certificates
        """The authority of client certificates that their door knows, from the next start on."""
        self._admin: AdminClient | None = None

    def address(self, door: Door) -> str:
        """Where that door is, `host:port`."""
        return f"{LOOPBACK}:{self._ports_of[door]}"

    def show(self, door: Door, identity: Identity) -> None:
        """Let that door show another certificate, from the next start on."""
        self._shown[door] = identity

    def tls_properties(self, door: Door = "TLS", client: Identity | None = None) -> dict[str, str]:
        """What a librdkafka client needs for that door."""
        own = {} if client is None else {"ssl.certificate.location": str(client.certificate)}
        if client is not None:
            own["ssl.key.location"] = str(client.key)
        return {
            "bootstrap.servers": self.address(door),
            "security.protocol": _PROTOCOLS[door],
            "ssl.ca.location": str(self.certificates.authority),
            **own,
        }

    def scram_properties(self, user: str, password: str) -> dict[str, str]:
        """Properties of a librdkafka client that logs in by name and password."""
        return {
            **self.tls_properties("SCRAM"),
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": password,
        }

    def set_password(self, user: str, password: str) -> None:
        """Make a user, or give one another password."""
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
        change = UserScramCredentialUpsertion(user, mechanism, password.encode())
        self._finish(self._super_user().alter_user_scram_credentials([change]))

    def grant(
        self,
        principal: str,
        kind: ResourceType,
        name: str,
        operation: AclOperation,
        pattern: ResourcePatternType = ResourcePatternType.LITERAL,
    ) -> None:
        """Let the principal (`User:name`) do that."""
        allowed = AclPermissionType.ALLOW
        self._finish(
            self._super_user().create_acls([AclBinding(kind, name, pattern, principal, "*", operation, allowed)])
        )
        until(lambda: self._granted(principal, kind, name, operation), _CALL_SECONDS_MAX)

    def revoke(
        self,
        principal: str | None,
        kind: ResourceType = ResourceType.ANY,
        name: str | None = None,
        operation: AclOperation = AclOperation.ANY,
    ) -> int:
        """Take back what was granted, as far as it fits; how many grants it was. None fits every name."""
        wanted = _filter(principal, kind, name, operation)
        revoked = sum(len(found) for found in self._finish(self._super_user().delete_acls([wanted])))
        until(lambda: not self._granted(principal, kind, name, operation), _CALL_SECONDS_MAX)
        return revoked

    def _granted(
        self, principal: str | None, kind: ResourceType, name: str | None, operation: AclOperation
    ) -> list[AclBinding]:
        wanted = _filter(principal, kind, name, operation)
        found: list[AclBinding] = self._super_user().describe_acls(wanted).result(_CALL_SECONDS_MAX)
        return found

    def _super_user(self) -> AdminClient:
        if self._admin is None:
            self._admin = create_admin_client({"bootstrap.servers": self.bootstrap_servers})
        return self._admin

    @staticmethod
    def _finish(futures: dict[Any, Any]) -> list[Any]:
        return [future.result(_CALL_SECONDS_MAX) for future in futures.values()]

    def _ports(self) -> tuple[int, ...]:
        return (*super()._ports(), *self._ports_of.values())

    def _settings(self) -> dict[str, str]:
        settings = super()._settings()
        doors = [(door, f"{door}://{self.address(door)}") for door in _PROTOCOLS]
        for name in ("listeners", "advertised.listeners"):
            settings[name] = ",".join([settings[name], *(address for _, address in doors)])
        protocols = [("PLAINTEXT", "PLAINTEXT"), ("CONTROLLER", "PLAINTEXT"), *_PROTOCOLS.items()]
        settings |= {
            "listener.security.protocol.map": ",".join(f"{door}:{protocol}" for door, protocol in protocols),
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Who comes without TLS has no name; the broker itself does too.
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
            "sasl.enabled.mechanisms": MECHANISM,
        }
        for door in _PROTOCOLS:
            settings |= self._door_settings(door, f"listener.name.{door.lower()}")
        return settings

    def _door_settings(self, door: Door, start: str) -> dict[str, str]:
        settings = {
            f"{start}.ssl.keystore.type": "PEM",
            f"{start}.ssl.keystore.location": str(self._shown[door].both),
        }
        if door == "SCRAM":
            module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            settings[f"{start}.scram-sha-512.sasl.jaas.config"] = module
        if door == "MTLS":
            settings |= {
                f"{start}.ssl.client.auth": "required",
                f"{start}.ssl.truststore.type": "PEM",
                f"{start}.ssl.truststore.location": str(self.trusted.authority),
                f"{start}.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            }
        return settings


def _filter(principal: str | None, kind: ResourceType, name: str | None, operation: AclOperation) -> AclBindingFilter:
    # It is annotated as if None, which fits all, were not allowed.
    fitting: list[Any] = [kind, name, ResourcePatternType.ANY, principal, None, operation, AclPermissionType.ANY]
    return AclBindingFilter(*fitting)


Way = Literal["certificate", "password"]


class KafkaLogin:
    """The files with which one program logs in: certificate and key, or properties with name and password."""

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
