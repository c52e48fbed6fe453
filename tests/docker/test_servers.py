"""Servers in containers start, stop, die and freeze as embedded ones do; what goes wrong is told with what to do."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from sandbox.servers.process import ServerStartError
from sandbox.servers.server import accepts_connections
from tests.kit.containers.engine import EngineError
from tests.kit.containers.kafka import ContainerKafka
from tests.kit.containers.postgresql import ContainerPostgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.containers.registry import ContainerRegistry


ENDS = ["stop", "kill"]


def told_by(server: ContainerKafka | ContainerPostgresql | ContainerRegistry, *command: str) -> str:
    """What a command in the container writes."""
    container = server._container  # noqa: SLF001 - the tests alone look inside
    assert container is not None
    code, output = container.exec(list(command))
    assert code == 0, output
    return output.decode().strip()


def has_read_only_root(server: ContainerKafka | ContainerPostgresql | ContainerRegistry) -> bool:
    container = server._container  # noqa: SLF001 - as above
    assert container is not None
    return bool(container.get_wrapped_container().attrs["HostConfig"]["ReadonlyRootfs"])


def settings_of(kafka: ContainerKafka) -> dict[str, str]:
    broker = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    return {name: entry.value for name, entry in admin.describe_configs([broker])[broker].result(30).items()}


@pytest.mark.parametrize("end", ENDS)
def test_kafka_keeps_its_topics_and_address_over_a_restart(kafka: ContainerKafka, end: str) -> None:
    address = kafka.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(end, 1, 1)])[end].result(30)
    getattr(kafka, end)()
    assert not kafka.is_running()
    assert not accepts_connections(kafka.port)
    kafka.start()
    assert kafka.bootstrap_servers == address
    assert end in AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).topics


def test_kafka_can_be_suspended_and_resumed(kafka: ContainerKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    assert admin.list_topics(timeout=30).brokers
    kafka.pause()
    with pytest.raises(KafkaException, match=r"_TIMED_OUT|_TRANSPORT"):
        admin.list_topics(timeout=1)
    kafka.resume()
    assert admin.list_topics(timeout=30).brokers


@pytest.mark.parametrize("end", ENDS)
def test_postgresql_keeps_its_rows_and_address_over_a_restart(postgresql: ContainerPostgresql, end: str) -> None:
    with psycopg.connect(postgresql.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (through text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [end])
    getattr(postgresql, end)()
    assert not accepts_connections(postgresql.port)
    postgresql.start()
    with psycopg.connect(postgresql.url) as connection:
        assert (end,) in connection.execute("SELECT through FROM kept").fetchall()


def test_postgresql_asks_for_its_password_and_says_only_to_this_machine(postgresql: ContainerPostgresql) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgresql.url, password="guessed", connect_timeout=10)
    container = postgresql._container  # noqa: SLF001 - as above
    assert container is not None
    container.reload()
    published = container.get_wrapped_container().ports["5432/tcp"]
    assert {each["HostIp"] for each in published} == {"127.0.0.1"}


def test_kafka_runs_unprivileged_on_a_read_only_root_with_its_data_in_the_volume(kafka: ContainerKafka) -> None:
    settings = settings_of(kafka)
    assert settings["log.cleaner.backoff.ms"] == "4321"
    assert settings["log.dirs"] == "/var/lib/kafka/data"
    assert told_by(kafka, "id", "-u") == "1000"
    assert "meta.properties" in told_by(kafka, "ls", "/var/lib/kafka/data")
    assert has_read_only_root(kafka)


def test_registry_runs_unprivileged_on_a_read_only_root(registry: ContainerRegistry) -> None:
    assert told_by(registry, "id", "-u") != "0"
    assert has_read_only_root(registry)


def test_postgresql_runs_on_a_read_only_root_with_its_password_in_a_file(postgresql: ContainerPostgresql) -> None:
    assert told_by(postgresql, "cat", "/var/lib/postgresql/18/docker/PG_VERSION") == "18"
    assert told_by(postgresql, "stat", "-c", "%U", "/proc/1") == "postgres"
    assert "accepting connections" in told_by(postgresql, "pg_isready", "--username", "ledger")
    assert has_read_only_root(postgresql)


def test_a_broker_that_cannot_start_is_told_with_its_last_lines() -> None:
    broken = ContainerKafka(properties={"log.retention.ms": "soon"})
    with pytest.raises(ServerStartError, match=r"(?s)it ended\. Its last lines:.*log\.retention\.ms"):
        broken.start()
    assert not broken.is_running()
    broken.close()


def test_an_unavailable_image_is_reported_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_KAFKA_IMAGE", "stand-in/nowhere:1")
    with pytest.raises(EngineError, match=r"stand-in/nowhere:1 is missing .* name another by SANDBOX_KAFKA_IMAGE"):
        ContainerKafka().start()


class EngineThatGoes:
    """A socket that passes everything on to the engine, until it is gone."""

    def __init__(self, path: str, engine: str) -> None:
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._engine)
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def go(self) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineThatGoes]:
    real = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not real.startswith("unix://"):
        pytest.skip("the engine is not reached by a socket of this machine")
    path = str(tmp_path / "engine.sock")
    going = EngineThatGoes(path, real.removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    yield going
    going.go()


# Docker's library leaves its socket to the garbage collector when nobody listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_docker_engine_that_disappears_is_reported_by_every_call(
    postgresql: ContainerPostgresql, engine: EngineThatGoes
) -> None:
    """The container lives on: the watchdog of this process, which knows the real engine, takes it away at the end."""
    assert postgresql.is_running()
    own = ContainerPostgresql()
    own.start()
    engine.go()
    asked: list[Callable[[], object]] = [own.kill, own.stop, own.pause, own.is_running, own.start, own.close]
    for ask in asked:
        with pytest.raises(EngineError, match=r"the Docker engine does not answer \(unix:.*engine\.sock\) when postgr"):
            ask()
    with pytest.raises(EngineError, match="the Docker engine does not answer"):
        ContainerPostgresql().start()
