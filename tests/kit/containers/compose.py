"""One run of `docker-compose.yml` with ports, secrets, volumes and containers of its own."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import msgspec
import psycopg
from docker.client import DockerClient

from sandbox.cli.secrets import make_secrets
from sandbox.servers.server import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).parents[3]
_WAIT_SECONDS = 900
_COMMAND_SECONDS = 960
_PORTS = ("KAFKA", "REGISTRY", "POSTGRESQL", "CONTROL", "PROMETHEUS")


class Ended(msgspec.Struct, frozen=True):
    """How a command ended, and what it said on both streams."""

    code: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """Everything."""
        return self.output + self.errors


class ComposeProject:
    """One run, as a context manager: at its end nothing is left of it, neither containers nor volumes nor networks.

    `files` are compose files beside `docker-compose.yml`. `environment` may be changed between two commands. What only
    reads the state of containers asks the engine itself: `docker compose` takes a third of a second of CPU time a call,
    which a loop that waits for a state would spend again and again.
    """

    def __init__(
        self, folder: Path, *, files: Sequence[Path] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = f"trekkpaalegg-{uuid.uuid4().hex[:10]}"
        self.secrets = folder / "secrets"
        self.files = [REPOSITORY / "docker-compose.yml", *files]
        self.environment = {
            "COMPOSE_PROJECT_NAME": self.name,
            "SANDBOX_SECRETS": str(self.secrets),
            "SANDBOX_BUILD_NETWORK": "host",
            **{f"SANDBOX_{name}_PORT": str(free_port()) for name in _PORTS},
            **(environment or {}),
        }
        make_secrets(self.secrets)
        self._engine = DockerClient.from_env()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()
        self._engine.close()

    def remove(self) -> None:
        """End and remove all of it, with its data."""
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)

    def build(self) -> None:
        """Build the images. One comes first, so that the others find the layers that they share already built."""
        self.run("build", "outside")
        self.run("build")

    def run(self, *arguments: str, check: bool = True) -> Ended:
        """One command of `docker compose`. `RuntimeError` with what it said when it fails, unless `check` is off."""
        files = [word for file in self.files for word in ("--file", str(file))]
        ended = subprocess.run(
            ["docker", "compose", "--progress=quiet", *files, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        result = Ended(ended.returncode, ended.stdout, ended.stderr)
        if check and result.code:
            raise RuntimeError(f"docker compose {' '.join(arguments)}: exit code {result.code}\n{result.said}")
        return result

    def up(self, *arguments: str, check: bool = True) -> Ended:
        """`up --wait`: all that is named, or everything, started and healthy."""
        return self.run("up", "--wait", "--wait-timeout", str(_WAIT_SECONDS), *arguments, check=check)

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What the engine tells of each container, stopped ones too; those of `docker compose run` are left out."""
        labels = [f"com.docker.compose.project={self.name}", "com.docker.compose.oneoff=False"]
        if service is not None:
            labels.append(f"com.docker.compose.service={service}")
        found = self._engine.api.containers(all=True, filters={"label": labels})
        return [self._engine.api.inspect_container(each["Id"]) for each in found]

    def container(self, service: str) -> dict[str, Any]:
        """What the engine tells of the only container of a service."""
        (found,) = self.containers(service)
        return found

    def log(self, service: str) -> str:
        """All that the only container of a service has written."""
        text: bytes = self._engine.containers.get(self.container(service)["Id"]).logs()
        return text.decode()

    def execute(self, service: str, *command: str) -> Ended:
        """How a command in the only container of a service ended."""
        container = self._engine.containers.get(self.container(service)["Id"])
        code, (output, errors) = container.exec_run(list(command), demux=True)
        return Ended(code, (output or b"").decode(), (errors or b"").decode())

    def states(self) -> dict[str, str]:
        """Each container by its name in the project, such as `producer-1`: its health, or else its status."""
        return {
            each["Name"].removeprefix(f"/{self.name}-"): each["State"].get("Health", each["State"]).get("Status", "")
            for each in self.containers()
        }

    def control(self, command: str, **arguments: Any) -> Any:
        """One command of the outside world's control address."""
        address = f"http://127.0.0.1:{self.environment['SANDBOX_CONTROL_PORT']}/control/{command}"
        answer = httpx.post(address, json=arguments, timeout=30, verify=False)  # noqa: S501 - it never speaks TLS
        answer.raise_for_status()
        return answer.json()

    def ledger(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""
        password = (self.secrets / "postgresql_password").read_text(encoding="utf-8").strip()
        port = int(self.environment["SANDBOX_POSTGRESQL_PORT"])
        with psycopg.connect(
            host="127.0.0.1", port=port, user="payroll", password=password, dbname="payroll", connect_timeout=5
        ) as connection:
            return connection.execute(statement.encode(), values).fetchall()
