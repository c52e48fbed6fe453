"""Ports and a data folder come in; out goes everything a producer and its consumers need, embedded and running."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from sandbox.kafka import EmbeddedKafka
from sandbox.outside import OutsideWorld
from sandbox.postgresql import EmbeddedPostgresql
from sandbox.registry import EmbeddedRegistry

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from sandbox.server import EmbeddedServer


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

    `data_folder` keeps what the three servers hold; the outside world begins anew from its seed each time.
    Raises `ServerStartError` or `FetchError` when a server cannot be had.
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
