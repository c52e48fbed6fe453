"""The embedded servers are real ones, keep their data over a restart, and stop when they are told to.

That they never outlive the process they serve: `test_demo.py`, where it is killed, and `test_sandbox_up.py`.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
    ServerConfig,
)

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.process import ServerProcess, ServerStartError
from sandbox.servers.registry import EmbeddedRegistry
from sandbox.servers.server import accepts_connections, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.servers.server import EmbeddedServer


def eventually(condition: Callable[[], bool], *, within_seconds: float = 20) -> bool:
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one whose exit nobody has collected has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def states_of_threads(pid: int) -> set[str]:
    """The letters that Linux gives the states of a process's threads: T for one that was stopped."""
    found = [each.read_text(encoding="ascii") for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {text.rpartition(")")[2].split()[0] for text in found}


def create_topic(kafka: EmbeddedKafka, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(30)


def produce(kafka: EmbeddedKafka, topic: str, values: list[bytes], *, commit: bool) -> None:
    """One transaction with all values."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"{topic}-producer"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    if commit:
        producer.commit_transaction(60)
    else:
        producer.flush(30)
        producer.abort_transaction(60)


def read_committed(kafka: EmbeddedKafka, topic: str, count: int) -> list[bytes]:
    """The first `count` values, or as many as came within 30 seconds."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": f"{topic}-reader",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    values: list[bytes] = []
    consumer.subscribe([topic])
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        record = consumer.poll(0.5)
        if record is not None and record.error() is None:
            values.append(record.value())
    consumer.close()
    return values


@pytest.mark.kafka
def test_kafka_shows_committed_transactions_and_hides_aborted_ones(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    create_topic(kafka, topic_prefix)
    produce(kafka, topic_prefix, [b"rolled back"], commit=False)
    produce(kafka, topic_prefix, [b"one", b"two"], commit=True)
    assert read_committed(kafka, topic_prefix, 2) == [b"one", b"two"]


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker with a setting of its own, in a chosen folder."""
    folder = tmp_path_factory.mktemp("own") / "broker"
    with EmbeddedKafka(folder, properties={"transactional.id.expiration.ms": "4321"}) as kafka:
        yield kafka
    assert (folder / "records").is_dir(), "a chosen folder stays"


@pytest.mark.kafka
def test_kafka_takes_extra_properties_and_can_be_paused(own_kafka: EmbeddedKafka) -> None:
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap_servers})
    broker = ConfigResource(ResourceType.BROKER, "1")
    settings = admin.describe_configs([broker])[broker].result(30)
    assert settings["transactional.id.expiration.ms"].value == "4321"
    own_kafka.pause()
    with pytest.raises(Exception, match=r"_TIMED_OUT|_TRANSPORT"):
        admin.list_topics(timeout=1)
    own_kafka.resume()
    assert admin.list_topics(timeout=30).brokers
    for _ in range(50):
        own_kafka.pause()
        assert states_of_threads(own_kafka.pid) == {"T"}, "nothing runs on after it"
        own_kafka.resume()


@pytest.mark.kafka
def test_kafka_keeps_its_records_and_address_over_a_restart(own_kafka: EmbeddedKafka) -> None:
    address = own_kafka.bootstrap_servers
    create_topic(own_kafka, "kept")
    produce(own_kafka, "kept", [b"first"], commit=True)
    for end, value in ((own_kafka.stop, b"after a stop"), (own_kafka.kill, b"after a kill")):
        end()
        assert not accepts_connections(own_kafka.port)
        own_kafka.start()
        assert own_kafka.bootstrap_servers == address
        produce(own_kafka, "kept", [value], commit=True)
    assert read_committed(own_kafka, "kept", 3) == [b"first", b"after a stop", b"after a kill"]


def test_registry_refuses_an_incompatible_schema_also_after_a_restart() -> None:
    subject = "orders-value"
    with EmbeddedRegistry() as registry:
        with SchemaRegistryClient({"url": registry.url}) as client:
            schema_id = client.register_schema(subject, Schema('"string"', "AVRO"))
            client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
        registry.stop()
        registry.start()
        with SchemaRegistryClient({"url": registry.url}) as client:
            with pytest.raises(SchemaRegistryError) as refused:
                client.register_schema(subject, Schema('"int"', "AVRO"))
            assert refused.value.http_status_code == 409
            assert client.get_schema(schema_id).schema_str == '"string"'


def test_postgresql_keeps_its_rows_over_a_restart_and_takes_its_folder_with_it() -> None:
    with EmbeddedPostgresql() as postgresql:
        with psycopg.connect(postgresql.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        for end in (postgresql.stop, postgresql.kill):
            end()
            postgresql.start()
            with psycopg.connect(postgresql.url) as connection:
                assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        folder = postgresql.data_folder
    assert not folder.exists(), "a temporary folder goes with the server"


def test_a_server_that_fails_to_start_says_why_in_its_own_words(tmp_path: Path) -> None:
    broken: EmbeddedServer = EmbeddedKafka(tmp_path, properties={"log.retention.ms": "soon"})
    with pytest.raises(ServerStartError, match="Invalid value soon"):
        broken.start()
    broken.close()


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[ServerProcess] = []

    def start() -> None:
        started.append(ServerProcess("sleeper", ["sleep", "600"], log_file=tmp_path / "log"))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (server,) = started
    assert not eventually(lambda: not server.is_running(), within_seconds=1)
    server.stop()
    assert is_gone(server.pid)


def test_a_server_deaf_to_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    deaf = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]
    server = ServerProcess("deaf", deaf, log_file=tmp_path / "log")
    server.wait_until(lambda: server.last_lines() == "deaf", deadline_seconds=10)
    server.stop(deadline_seconds=0.3)
    assert is_gone(server.pid)


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    server = ServerProcess("paused", ["sleep", "600"], log_file=tmp_path / "log")
    server.pause()
    began = time.monotonic()
    server.stop(deadline_seconds=20)
    assert is_gone(server.pid)
    assert time.monotonic() - began < 10, "it heard SIGTERM and needed no SIGKILL"


def test_a_free_port_lies_below_those_of_outgoing_connections() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert free_port() < first_outgoing
