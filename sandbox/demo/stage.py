"""The servers, the simulated world and the programs of the demo; all of them end with it."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from producer.publish.topics import PARTITIONS_DEFAULT, Topics
from sandbox.control.world import OutsideWorld
from sandbox.demo.narrator import ClaimError
from sandbox.demo.program import Program
from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.registry import EmbeddedRegistry
from sandbox.servers.server import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.demo.program import Ended

_WIDTH = "80"


class Stage:
    """Kafka, registry, PostgreSQL and the simulated world, as a context manager."""

    def __init__(self, seed: int) -> None:
        self._open = ExitStack()
        self._started = 0
        self.kafka = EmbeddedKafka()
        self.registry = EmbeddedRegistry()
        self.postgresql = EmbeddedPostgresql()
        self.outside = OutsideWorld(seed=seed)
        self.topics = Topics.of("trekkpaalegg")
        self.lanes = PARTITIONS_DEFAULT
        self.trekkpliktige: list[str] = []
        self._receiver_port = free_port()
        self._receiver_secret = secrets.token_hex()
        # Within Kafka's own folder, whose watchdog removes it even if this process dies.
        self._folder = self.kafka.data_folder / "demo"
        self._folder.mkdir()

    def __enter__(self) -> Self:
        self._open.callback(self.outside.close)
        self._open.callback(self.kafka.close)
        self._open.callback(self.registry.close)
        self._open.callback(self.postgresql.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def raise_curtain(self) -> None:
        """Start the servers, side by side. Raises `ServerStartError` or `FetchError` when one cannot be had."""
        with ThreadPoolExecutor() as starting:
            for started in [starting.submit(server.start) for server in (self.kafka, self.registry, self.postgresql)]:
                started.result()
        self.outside.start()

    def serve(self, trekkpliktige: list[str]) -> None:
        """Let the producer serve these employers too: it reads its list again when that changes."""
        self.trekkpliktige += trekkpliktige
        unfinished = self._folder / "trekkpliktige.unfinished"
        unfinished.write_text("".join(f"{each}\n" for each in self.trekkpliktige), encoding="ascii")
        unfinished.rename(self._list)

    def start(self, module: str, *arguments: str, notified: bool = False) -> Program:
        """Start a program of this project with the settings of this stage; `notified`: by Altinn, of changes."""
        self._started += 1
        environment = self._environment()
        if notified:
            environment["TREKKPAALEGG_SOURCE"] = "notification"
            del environment["TREKKPAALEGG_POLL_INTERVAL_SECONDS"]
        program = Program(module, arguments, environment, self._folder / f"{self._started:02}-{module}")
        self._open.callback(program.close)
        return program

    def run(self, module: str, *arguments: str, notified: bool = False) -> Ended:
        """Run a program to its end, as `start` does. Raises `ClaimError` unless it succeeds."""
        ended = self.start(module, *arguments, notified=notified).wait()
        if ended.code != 0:
            last = ended.stderr.splitlines()[-1:] or [""]
            raise ClaimError(f"{module} {' '.join(arguments)} ended with {ended.code}: {last[0]}")
        return ended

    def everything_said(self) -> str:
        """What all programs have said so far, on stdout and stderr."""
        files = [*self._folder.glob("*.out"), *self._folder.glob("*.err")]
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    @property
    def ledger_url(self) -> str:
        """Where the ledger lies."""
        return self.postgresql.url

    def path(self, name: str) -> Path:
        """A file of this name, which goes with the stage."""
        return self._folder / name

    def write(self, name: str, text: str) -> Path:
        """A file of this name with this text, which goes with the stage."""
        path = self.path(name)
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def _list(self) -> Path:
        return self._folder / "trekkpliktige"

    def _environment(self) -> dict[str, str]:
        settings = self.outside.environment(self.trekkpliktige)
        del settings["TREKKPAALEGG_TREKKPLIKTIGE"]
        return {
            **settings,
            "TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(self._list),
            "KAFKA_BROKERS": self.kafka.bootstrap_servers,
            "KAFKA_SCHEMA_REGISTRY": self.registry.url,
            "TREKKPAALEGG_LEDGER": self.ledger_url,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "1",
            "TREKKPAALEGG_MAKS_ANTALL": "100",
            # The name of its pod, say: a process that died and is started again has its lanes back at once.
            "TREKKPAALEGG_INSTANCE_ID": "demo-0",
            "TREKKPAALEGG_HTTP_HOST": "127.0.0.1",
            "TREKKPAALEGG_HTTP_PORT": "0",
            # Of no use while changes are polled.
            "TREKKPAALEGG_WEBHOOK_PORT": str(self._receiver_port),
            "TREKKPAALEGG_WEBHOOK_URL": f"http://127.0.0.1:{self._receiver_port}",
            "TREKKPAALEGG_WEBHOOK_SECRET": self._receiver_secret,
            "COLUMNS": _WIDTH,
        }
