"""A real Apache Kafka broker in a container, with any properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sandbox.servers.kafka import SMALL_NODE, is_in_cluster
from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.containers import images
from tests.kit.containers.server import ContainerServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testcontainers.core.container import DockerContainer

    from tests.kit.containers.images import Image

_PORT = 9092
_NODE = 1
_HEAP_MEGABYTES = 512


class ContainerKafka(ContainerServer):
    """One broker, its own controller, of an image in the shape of `apache/kafka`.

    `properties` are added to the broker's settings and win over the ones set here. `port` 0 takes a free one.
    """

    name: ClassVar[str] = "kafka"
    image: ClassVar[Image] = images.KAFKA

    def __init__(self, *, properties: Mapping[str, str] | None = None, port: int = 0) -> None:
        super().__init__(port or free_port(), _PORT)
        self._properties = dict(properties or {})

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    def _describe(self, container: DockerContainer) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(_NODE),
            "controller.quorum.voters": f"{_NODE}@localhost:9093",
            "controller.listener.names": "CONTROLLER",
            # The broker calls itself too, to write into transactions. Inside the container nobody listens at the
            # address that is published outside, so that it needs a listener of its own: transactions would hang.
            "listeners": f"PLAINTEXT://:{_PORT},BROKER://:9094,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers},BROKER://localhost:9094",
            "inter.broker.listener.name": "BROKER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "/var/lib/kafka/data",
            **SMALL_NODE,
            **self._properties,
        }
        for name, value in properties.items():
            container.with_env(variable_of(name), value)
        container.with_env("KAFKA_HEAP_OPTS", f"-Xmx{_HEAP_MEGABYTES}m")
        container.with_env("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1")

    def _answers(self) -> bool:
        return is_in_cluster(_NODE, self.bootstrap_servers)


def variable_of(name: str) -> str:
    """The environment variable from which the image makes this property of the broker."""
    return "KAFKA_" + name.replace("_", "__").replace("-", "___").replace(".", "_").upper()
