"""A real Apache Kafka broker as a child process, with any properties, to start, stop, kill and pause."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.cimpl import NewTopic

from sandbox.servers.java import JavaServer, cache_folder, fetch_jars
from sandbox.servers.process import ServerProcess, ServerStartError
from sandbox.servers.server import LOOPBACK, accepts_connections, free_port
from trekkpaalegg.kafka.clients import create_admin_client, create_consumer, create_producer

if TYPE_CHECKING:
    from collections.abc import Mapping

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
CACHE_NAME = f"kafka-{KAFKA_VERSION}"

_CLUSTER_ID = "dHJla2twYWFsZWdnLXNhbg"
_CHECKPOINT = "bootstrap.checkpoint"
_START_DEADLINE_SECONDS = 180
_HEAP_MEGABYTES = 512
_USE_SECONDS_MAX = 60

SMALL_NODE = {
    "num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A broker that was killed is let in again only when its old session has ended; the default is 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Its partitions lose their leader before it has ended, and Kafka 4.3.1 then leaves out the markers of transactions
    # that are committed just now: their records hang, and share the fate of the producer's next transaction.
    "controlled.shutdown.enable": "false",
    # Its controller writes a record of nothing twice a second by default, for which idle nodes wake up.
    "metadata.max.idle.interval.ms": "5000",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "auto.create.topics.enable": "false",
}
"""Settings of a broker that is alone or one of few, and must be ready again soon after a kill."""


class QuorumNode(msgspec.Struct, frozen=True):
    """A node's place among the controllers that vote: its own number, and the controller port of each, by number."""

    node: int
    controller_ports: dict[int, int]


class EmbeddedKafka(JavaServer):
    """One node, broker and controller in one, of the version in `KAFKA_VERSION`; the only one unless it has a `place`.

    `properties` are added to the broker's settings and win over the ones set here. `port` 0 takes a free one. A node
    with a `place` is ready only when most of the others run too. `cluster_id` is 16 bytes in Base64.
    """

    name: ClassVar[str] = "kafka"
    cache_name: ClassVar[str] = CACHE_NAME

    def __init__(
        self,
        data_folder: Path | None = None,
        *,
        properties: Mapping[str, str] | None = None,
        port: int = 0,
        place: QuorumNode | None = None,
        heap_megabytes: int = _HEAP_MEGABYTES,
        cluster_id: str = _CLUSTER_ID,
    ) -> None:
        super().__init__(data_folder)
        self._cluster_id = cluster_id
        self._properties = dict(properties or {})
        self.port = port or free_port()
        self._place = place or QuorumNode(1, {1: free_port()})
        self._heap_megabytes = heap_megabytes

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def node(self) -> int:
        """Its number in the cluster."""
        return self._place.node

    @property
    def records_folder(self) -> Path:
        """Where the records are: below the data folder, unless the properties have `log.dirs` elsewhere."""
        return Path(self._settings()["log.dirs"])

    def _ports(self) -> tuple[int, ...]:
        return self.port, self._place.controller_ports[self.node]

    def _launch(self) -> ServerProcess:
        class_path = os.pathsep.join(str(jar) for jar in fetch_kafka())
        settings_file = self.data_folder / "server.properties"
        lines = [f"{name}={value}\n" for name, value in self._settings().items()]
        settings_file.write_text("".join(lines), encoding="utf-8")
        if not (self.records_folder / "meta.properties").exists():
            self._format(class_path, settings_file)
        process = ServerProcess(
            self.name,
            [
                *(*self._jvm(), f"-Xmx{self._heap_megabytes}m"),
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
                *("-cp", class_path, "kafka.Kafka", str(settings_file)),
            ],
            log_file=self.log_file,
            working_folder=self.data_folder,
            temporary_folder=self.temporary_folder,
        )
        process.wait_until(self._answers, deadline_seconds=_START_DEADLINE_SECONDS)
        return process

    def _settings(self) -> dict[str, str]:
        controllers = self._place.controller_ports
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in controllers.items()),
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{controllers[self.node]}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_folder / "records"),
            **SMALL_NODE,
            **self._properties,
        }

    def _format(self, class_path: str, settings_file: Path) -> None:
        """Make the data folder what Kafka starts from.

        Kafka's own tool does so the first time. It takes half as long as the broker's whole start, and of the two files
        that it writes, only `meta.properties` differs between nodes: the other one is kept for the next time.
        """
        kept = cache_folder() / f"{CACHE_NAME}.checkpoint"
        if kept.exists():
            self.records_folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, self.records_folder / _CHECKPOINT)
            self._write_meta_properties()
            return
        formatted = subprocess.run(
            [
                *(*self._jvm(), "-cp", class_path, "kafka.tools.StorageTool", "format"),
                *("--cluster-id", self._cluster_id, "--config", str(settings_file)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode != 0:
            raise ServerStartError(f"kafka storage was not formatted:\n{formatted.stdout}{formatted.stderr}")
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            shutil.copyfile(self.records_folder / _CHECKPOINT, Path(folder) / kept.name).rename(kept)

    def _write_meta_properties(self) -> None:
        # Kafka's names of folders are the Base64 of 16 bytes; one that began with a dash would read as an option.
        directory = secrets.token_urlsafe(16)
        while directory.startswith("-"):
            directory = secrets.token_urlsafe(16)
        text = f"version=1\ncluster.id={self._cluster_id}\nnode.id={self.node}\ndirectory.id={directory}\n"
        (self.records_folder / "meta.properties").write_text(text, encoding="ascii")

    def _answers(self) -> bool:
        return accepts_connections(self.port) and is_in_cluster(self.node, self.bootstrap_servers)


def fetch_kafka() -> list[Path]:
    """The jars of Kafka, from the cache or fetched into it. Raises `FetchError`."""
    return fetch_jars(CACHE_NAME, COORDINATES)


def prepare_kafka() -> None:
    """Fetch Kafka, and have it run once so that later starts take less time. Does nothing the second time.

    Raises `FetchError`, and `ServerStartError` when it does not run.
    """
    fetch_kafka()
    EmbeddedKafka.keep_classes(_use)


def _use(kafka: EmbeddedKafka) -> None:
    """Commit a transaction and read it in a group, so that the broker loads what these need."""
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    admin = create_admin_client(properties)
    admin.create_topics([NewTopic("first", 1, 1)])["first"].result(_USE_SECONDS_MAX)
    producer = create_producer({**properties, "transactional.id": "first"})
    producer.init_transactions(_USE_SECONDS_MAX)
    producer.begin_transaction()
    producer.produce("first", b"value", b"key")
    producer.commit_transaction(_USE_SECONDS_MAX)
    consumer = create_consumer({**properties, "group.id": "first", "auto.offset.reset": "earliest"})
    consumer.subscribe(["first"])
    consumer.consume(1, _USE_SECONDS_MAX)
    consumer.close()


def is_in_cluster(node: int, bootstrap_servers: str) -> bool:
    """Whether a broker answers there and reports this node."""
    try:
        admin = create_admin_client({"bootstrap.servers": bootstrap_servers})
        return node in admin.list_topics(timeout=5).brokers
    except KafkaException:
        return False
