"""The commands `up` and `prepare`: embedded servers, and the settings to reach them."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads it from the signature
from typing import TYPE_CHECKING, Annotated, NoReturn, Self

import msgspec
import typer

from sandbox.control.world import OutsideWorld
from sandbox.servers.java import JAVA, FetchError
from sandbox.servers.kafka import KAFKA_VERSION, EmbeddedKafka, fetch_kafka, prepare_kafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.process import ServerStartError
from sandbox.servers.registry import REGISTRY_VERSION, EmbeddedRegistry, fetch_registry, prepare_registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from sandbox.servers.server import EmbeddedServer


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.command(epilog="Example: trekkpaalegg-sandbox up --env-file sandbox.env")(up)
    program.command(epilog="Example: trekkpaalegg-sandbox prepare")(prepare)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports on 127.0.0.1; 0 takes a free one."""

    kafka: int = 0
    registry: int = 0
    postgresql: int = 0
    api: int = 0
    maskinporten: int = 0
    altinn: int = 0
    control: int = 0


class EmbeddedEverything:
    """Kafka, registry, PostgreSQL and the simulated outside world, as a context manager; all end together.

    `data_folder` keeps what the three servers hold; the outside world starts from its seed each time.
    Raises `ServerStartError` or `FetchError` if a server cannot be provided.
    """

    def __init__(self, *, data_folder: Path | None = None, ports: Ports | None = None, seed: int = 0) -> None:
        self._seed = seed
        ports = ports or Ports()
        self.kafka = EmbeddedKafka(_below(data_folder, "kafka"), port=ports.kafka)
        self.registry = EmbeddedRegistry(_below(data_folder, "registry"), port=ports.registry)
        self.postgresql = EmbeddedPostgresql(_below(data_folder, "postgresql"), port=ports.postgresql)
        self.outside = OutsideWorld(
            seed=seed,
            api_port=ports.api,
            maskinporten_port=ports.maskinporten,
            altinn_port=ports.altinn,
            control_port=ports.control,
        )
        self.trekkpliktige: list[str] = []
        self._open = ExitStack()

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        """The three embedded servers."""
        return self.kafka, self.registry, self.postgresql

    def __enter__(self) -> Self:
        try:
            self._open.callback(self.outside.close)
            for server in self.servers:
                self._open.callback(server.close)
            with ThreadPoolExecutor() as starting:
                for started in [starting.submit(server.start) for server in self.servers]:
                    started.result()
            self.outside.start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def load(self, trekkpliktige: int, orders: int, *, examples: bool) -> None:
        """Generate employers and orders of theirs, each in 1 to 4 versions; add the official examples if wished."""
        self.trekkpliktige = self.outside.generate(trekkpliktige, orders, seed=self._seed)
        if examples:
            self.trekkpliktige.append(self.outside.load_examples())

    def environment(self) -> dict[str, str]:
        """The contract's settings for a producer, and two addresses for people: control and ledger."""
        return {
            **self.outside.environment(self.trekkpliktige),
            "KAFKA_BROKERS": self.kafka.bootstrap_servers,
            "KAFKA_SCHEMA_REGISTRY": self.registry.url,
            "SANDBOX_CONTROL_URL": self.outside.control_url,
            "SANDBOX_LEDGER_URL": self.postgresql.url,
        }


def _below(data_folder: Path | None, name: str) -> Path | None:
    return None if data_folder is None else data_folder / name


FAILED = 1
STOPPED_BEFORE_READY = 4

_POLL_INTERVAL_SECONDS = 1.0


def up(  # noqa: PLR0913 - one parameter for each option
    *,
    data_folder: Annotated[Path | None, typer.Option(help="Keep the data here; else they vanish at the end.")] = None,
    trekkpliktige: Annotated[int, typer.Option(min=1, help="Generated employers.")] = 3,
    orders: Annotated[int, typer.Option(min=0, help="Generated orders, spread over the employers.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same world.")] = 0,
    examples: Annotated[bool, typer.Option(help="Load the nineteen official example versions.")] = True,
    kafka_port: Annotated[int, typer.Option(help="Port of Kafka; 0: a free one.")] = 0,
    registry_port: Annotated[int, typer.Option(help="Port of the schema registry; 0: a free one.")] = 0,
    postgresql_port: Annotated[int, typer.Option(help="Port of PostgreSQL; 0: a free one.")] = 0,
    api_port: Annotated[int, typer.Option(help="Port of the simulated Skatteetaten; 0: a free one.")] = 0,
    maskinporten_port: Annotated[int, typer.Option(help="Port of the simulated Maskinporten; 0: a free one.")] = 0,
    altinn_port: Annotated[int, typer.Option(help="Port of the simulated Altinn; 0: a free one.")] = 0,
    control_port: Annotated[int, typer.Option(help="Port of the control address; 0: a free one.")] = 0,
    env_file: Annotated[Path | None, typer.Option(help="Write the settings to this file too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines to export.")] = False,
) -> None:
    """Run everything embedded until Ctrl-C, and print the settings to export: Kafka, registry, PostgreSQL, the API."""
    ports = Ports(
        kafka=kafka_port,
        registry=registry_port,
        postgresql=postgresql_port,
        api=api_port,
        maskinporten=maskinporten_port,
        altinn=altinn_port,
        control=control_port,
    )
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    is_ready = False
    try:
        fetch_kafka()
        fetch_registry()
        with EmbeddedEverything(data_folder=data_folder, ports=ports, seed=seed) as everything:
            everything.load(trekkpliktige, orders, examples=examples)
            environment = everything.environment()
            if env_file is not None:
                _write_env_file(env_file, environment)
            print(_rendered(environment, as_json=as_json), flush=True)
            is_ready = True
            _watch(everything)
    except KeyboardInterrupt:
        raise typer.Exit(0 if is_ready else STOPPED_BEFORE_READY) from None
    except (FetchError, ServerStartError, OSError) as error:
        raise _failed(error) from error


def prepare() -> None:
    """Fetch what `up`, `demo` and the tests need beside Python packages, once; then try Kafka, Java and PostgreSQL."""
    try:
        prepare_kafka()
        prepare_registry()
        java = subprocess.run([JAVA, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
        with EmbeddedPostgresql():
            pass
    except (FetchError, ServerStartError, OSError, subprocess.CalledProcessError) as error:
        raise _failed(error) from error
    print(f"Ready: Kafka {KAFKA_VERSION}, Apicurio Registry {REGISTRY_VERSION}, PostgreSQL, {java}")


def _watch(everything: EmbeddedEverything) -> NoReturn:
    """Return only by an exception: `KeyboardInterrupt`, or `ServerStartError` when a server has ended by itself."""
    while True:
        for server in everything.servers:
            if not server.is_running():
                raise ServerStartError(f"{server.name} has ended by itself. Its last lines:\n{server.last_lines()}")
        time.sleep(_POLL_INTERVAL_SECONDS)


def _rendered(environment: Mapping[str, str], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(environment, indent=2)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    """Readable by the owner alone: it holds a private key."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


def _end(*_: object) -> NoReturn:
    # Only the first signal ends it: a second one must not break the stopping of the servers.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _failed(error: Exception) -> typer.Exit:
    hint = "; choose another port, or 0 for a free one" if getattr(error, "errno", None) == errno.EADDRINUSE else ""
    print(f"trekkpaalegg-sandbox: {error}{hint}", file=sys.stderr)
    return typer.Exit(FAILED)
