"""Kafka, the schema registry and PostgreSQL, started once a test run and shared by all its processes.

pytest-xdist runs tests in several worker processes, which a controller process starts and outlives. The controller
starts a server when the first test requests it, and stops it after the last test::

    servers = SharedServers()                                  # in the controller
    node.workerinput["servers"] = servers.serve()

    servers = SharedServers(owner=workerinput["servers"])      # in a worker
    servers.get(EmbeddedKafka).bootstrap_servers

Without xdist, one process does both.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING, Self, TypeVar

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.registry import EmbeddedRegistry

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_HEAP_MEGABYTES = 1024

Server = TypeVar("Server", EmbeddedKafka, EmbeddedRegistry, EmbeddedPostgresql)


class SharedServers:
    """One server of each class. Every test may use it, none may stop it.

    `owner` is the address of the process that starts and stops them, or None if this process does. If another process
    does, a server here is a reference: it has the address, and is not running as far as this process is concerned.
    """

    def __init__(self, owner: str | None = None) -> None:
        self._owner = owner
        self._listener: Listener | None = None
        self._locks: defaultdict[type, threading.Lock] = defaultdict(threading.Lock)
        self._servers: dict[type, EmbeddedKafka | EmbeddedRegistry | EmbeddedPostgresql] = {}

    def get(self, kind: type[Server]) -> Server:
        """The server of this class, started if it is the first request. Raises `ServerStartError`."""
        with self._locks[kind]:
            if kind not in self._servers:
                self._servers[kind] = self._started(kind) if self._owner is None else referred_to(self._owner, kind)
            server = self._servers[kind]
        assert isinstance(server, kind)
        return server

    def serve(self) -> str:
        """Answer workers from now on; returns the address at which they reach this process."""
        if self._listener is None:
            self._listener = Listener(family="AF_UNIX")
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return str(self._listener.address)

    def close(self) -> None:
        """Stop what was started here."""
        if self._listener is not None:
            self._listener.close()
        if self._owner is None:
            for server in self._servers.values():
                server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _started(kind: type[Server]) -> Server:
        # A run makes some thousand partitions, and nobody deletes them.
        return (kind(heap_megabytes=_HEAP_MEGABYTES) if kind is EmbeddedKafka else kind()).__enter__()

    def _accept(self, listener: Listener) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=self._answer, args=(listener.accept(),), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection:
            try:
                connection.send(self.get(connection.recv()).port)
            except Exception as error:  # noqa: BLE001 - raised in the worker
                connection.send(error)


def referred_to(owner: str, kind: type[Server]) -> Server:
    """A reference to the server of this class that another process starts. Raises what was raised there."""
    with Client(owner) as connection:
        connection.send(kind)
        answer = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return kind(port=answer)
