"""A real schema registry (Apicurio) with Confluent's API as a child process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import httpx

from sandbox.servers.java import fetch_program, small_jvm
from sandbox.servers.process import ServerProcess
from sandbox.servers.server import LOOPBACK, EmbeddedServer, free_port

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY_VERSION = "3.3.3"

_START_DEADLINE_SECONDS = 240


class EmbeddedRegistry(EmbeddedServer):
    """Apicurio Registry, version `REGISTRY_VERSION`, its data in a file database. `port` 0 takes a free one."""

    name: ClassVar[str] = "registry"

    def __init__(self, data_folder: Path | None = None, *, port: int = 0) -> None:
        super().__init__(data_folder)
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """Base address as Confluent clients want it."""
        return f"http://{LOOPBACK}:{self.port}/apis/ccompat/v7"

    def _ports(self) -> tuple[int, ...]:
        return (self.port,)

    def _launch(self) -> ServerProcess:
        program = fetch_registry()
        process = ServerProcess(
            self.name,
            [*small_jvm("registry"), "-Xmx512m", "-jar", str(program)],
            environment={
                "QUARKUS_HTTP_PORT": str(self.port),
                "QUARKUS_HTTP_HOST": LOOPBACK,
                "QUARKUS_MANAGEMENT_HOST": LOOPBACK,  # else it listens on every address, port 9000
                "QUARKUS_MANAGEMENT_PORT": "0",
                "QUARKUS_OTEL_SDK_DISABLED": "true",
                "QUARKUS_LOG_LEVEL": "WARN",
                "APICURIO_STORAGE_KIND": "sql",
                "APICURIO_STORAGE_SQL_KIND": "h2",
                "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{self.data_folder / 'artifacts'}",
            },
            log_file=self.log_file,
            working_folder=self.data_folder,
            temporary_folder=self.temporary_folder,
        )
        process.wait_until(self._answers, deadline_seconds=_START_DEADLINE_SECONDS)
        return process

    def _answers(self) -> bool:
        return lists_subjects(self.url)


def lists_subjects(url: str) -> bool:
    """Whether a registry answers at this base address."""
    try:
        return httpx.get(f"{url}/subjects", timeout=5).is_success
    except httpx.TransportError:
        return False


def fetch_registry() -> Path:
    """The jar that starts the registry, from the cache or fetched into it (about 160 MB)."""
    folder = fetch_program(
        f"apicurio-registry-{REGISTRY_VERSION}", "io.apicurio", "apicurio-registry-app", REGISTRY_VERSION, "all"
    )
    return next(folder.glob("**/quarkus-run.jar"))
