"""A real schema registry (Apicurio) with Confluent's API as a child process."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import httpx

from sandbox.servers.java import JavaServer, cache_folder, fetch_program
from sandbox.servers.process import ServerProcess, ServerStartError
from sandbox.servers.server import LOOPBACK, free_port

REGISTRY_VERSION = "3.3.3"

CACHE_NAME = f"apicurio-registry-{REGISTRY_VERSION}"

_START_DEADLINE_SECONDS = 240
_USE_SECONDS_MAX = 60
_MANIFEST_LINE = 70


class EmbeddedRegistry(JavaServer):
    """Apicurio Registry, version `REGISTRY_VERSION`, its data in a file database. `port` 0 takes a free one."""

    name: ClassVar[str] = "registry"
    cache_name: ClassVar[str] = CACHE_NAME

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
        process = ServerProcess(
            self.name,
            [*self._jvm(), "-Xmx512m", "-jar", str(starter(fetch_registry()))],
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
        # It is asked many times a second while a registry starts, and what TLS needs takes 40 ms to load.
        return httpx.get(f"{url}/subjects", timeout=5, verify=not url.startswith("http:")).is_success
    except httpx.TransportError:
        return False


def fetch_registry() -> Path:
    """The jar that starts the registry, from the cache or fetched into it (about 160 MB)."""
    folder = fetch_program(CACHE_NAME, "io.apicurio", "apicurio-registry-app", REGISTRY_VERSION, "all")
    return next(folder.glob("**/quarkus-run.jar"))


def prepare_registry() -> None:
    """Fetch the registry, and have it run once so that later starts take less time. Does nothing the second time.

    Raises `FetchError`, and `ServerStartError` when it does not run.
    """
    fetch_registry()
    EmbeddedRegistry.keep_classes(_use)


def _use(registry: EmbeddedRegistry) -> None:
    """Register and read a schema, so that the registry loads what these need."""
    schema = {"schema": '"string"'}
    for answer in (
        httpx.post(f"{registry.url}/subjects/first-value/versions", json=schema, timeout=_USE_SECONDS_MAX),
        httpx.get(f"{registry.url}/subjects/first-value/versions/latest", timeout=_USE_SECONDS_MAX),
    ):
        if not answer.is_success:
            raise ServerStartError(f"the registry answered {answer.status_code}: {answer.text}")


def starter(program: Path) -> Path:
    """A jar beside the registry's own that starts it with all its jars on one class path.

    Quarkus' `quarkus-run.jar` loads them with a class loader of its own, whose classes a JVM cannot keep. What Quarkus
    has transformed comes first, as it stands in for what is in the other jars.
    """
    made = cache_folder() / f"{CACHE_NAME}.jar"
    if made.exists():
        return made
    folder = program.parent
    jars = [folder / "quarkus" / f"{name}-bytecode.jar" for name in ("generated", "transformed")]
    for name in ("app", "lib/boot", "lib/main"):
        jars += sorted((folder / name).glob("*.jar"))
    manifest = {
        "Manifest-Version": "1.0",
        "Main-Class": "io.quarkus.runner.GeneratedMain",
        "Add-Opens": "java.base/java.lang",
        "Enable-Native-Access": "ALL-UNNAMED",
        "Class-Path": " ".join(quote(str(jar.relative_to(made.parent))) for jar in jars),
    }
    with tempfile.TemporaryDirectory(dir=made.parent) as unfinished:
        file = Path(unfinished) / made.name
        with zipfile.ZipFile(file, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "".join(_folded(f"{name}: {each}") for name, each in manifest.items()))
        with contextlib.suppress(FileExistsError):  # another process was quicker
            made.hardlink_to(file)
    return made


def _folded(line: str) -> str:
    """A line of a manifest: 72 bytes at most, and what is longer goes on after a space."""
    parts = [
        line[:_MANIFEST_LINE],
        *(f" {line[at : at + _MANIFEST_LINE - 1]}" for at in range(_MANIFEST_LINE, len(line), _MANIFEST_LINE - 1)),
    ]
    return "".join(f"{part}\r\n" for part in parts)
