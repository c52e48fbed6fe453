"""The commands `up` and `prepare`: options come in, running servers and the settings to reach them come out."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads it from the signature
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sandbox.everything import EmbeddedEverything, Ports
from sandbox.java import JAVA, FetchError, fetch_jars
from sandbox.kafka import CACHE_NAME, COORDINATES, KAFKA_VERSION
from sandbox.postgresql import EmbeddedPostgresql
from sandbox.process import ServerStartError
from sandbox.registry import REGISTRY_VERSION, fetch_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILED = 1
STOPPED_BEFORE_READY = 4

_LOOK_INTERVAL_SECONDS = 1.0


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
        _fetch()
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
    """Fetch what `up`, `demo` and the tests need beside Python packages, once; then try Java and PostgreSQL."""
    try:
        _fetch()
        java = subprocess.run([JAVA, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
        with EmbeddedPostgresql():
            pass
    except (FetchError, ServerStartError, OSError, subprocess.CalledProcessError) as error:
        raise _failed(error) from error
    print(f"Ready: Kafka {KAFKA_VERSION}, Apicurio Registry {REGISTRY_VERSION}, PostgreSQL, {java}")


def _fetch() -> None:
    fetch_jars(CACHE_NAME, COORDINATES)
    fetch_registry()


def _watch(everything: EmbeddedEverything) -> NoReturn:
    """Return only by an exception: `KeyboardInterrupt`, or `ServerStartError` when a server has ended by itself."""
    while True:
        for server in everything.servers:
            if not server.is_running():
                raise ServerStartError(f"{server.name} has ended by itself. Its last lines:\n{server.last_lines()}")
        time.sleep(_LOOK_INTERVAL_SECONDS)


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
