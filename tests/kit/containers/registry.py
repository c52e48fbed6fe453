"""A real schema registry (Apicurio) with Confluent's API in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sandbox.servers.registry import lists_subjects
from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.containers import images
from tests.kit.containers.server import ContainerServer

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

    from tests.kit.containers.images import Image

_PORT = 8080


class ContainerRegistry(ContainerServer):
    """Apicurio Registry, its data in a file of the container. `port` 0 takes a free one."""

    name: ClassVar[str] = "registry"
    image: ClassVar[Image] = images.REGISTRY

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port or free_port(), _PORT)

    @property
    def url(self) -> str:
        """Base address as Confluent clients want it."""
        return f"http://{LOOPBACK}:{self.port}/apis/ccompat/v7"

    def _describe(self, container: DockerContainer) -> None:
        container.with_envs(
            QUARKUS_OTEL_SDK_DISABLED="true",
            QUARKUS_LOG_LEVEL="WARN",
            APICURIO_STORAGE_KIND="sql",
            APICURIO_STORAGE_SQL_KIND="h2",
            APICURIO_DATASOURCE_URL="jdbc:h2:file:/tmp/artifacts",
            JAVA_OPTS_APPEND="-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        )

    def _answers(self) -> bool:
        return lists_subjects(self.url)
