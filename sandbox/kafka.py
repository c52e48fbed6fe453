"""A real Apache Kafka broker, embedded: a data folder and extra properties come in, a bootstrap address goes out."""

from __future__ import annotations

import logging
import os
import subprocess
from typing import TYPE_CHECKING, ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sandbox.java import JAVA, fetch_jars
from sandbox.process import ServerProcess, ServerStartError
from sandbox.server import LOOPBACK, EmbeddedServer, accepts_connections, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
CACHE_NAME = f"kafka-{KAFKA_VERSION}"

_CLUSTER_ID = "dHJla2twYWFsZWdnLXNhbg"
_START_DEADLINE_SECONDS = 60

_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class EmbeddedKafka(EmbeddedServer):
    """One broker, its own controller, of the version in `KAFKA_VERSION`.

    `properties` are added to the broker's settings and win over the ones set here. `port` 0 takes a free one.
    """

    name: ClassVar[str] = "kafka"

    def __init__(
        self, data_folder: Path | None = None, *, properties: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        super().__init__(data_folder)
        self._properties = dict(properties or {})
        self.port = port or free_port()
        self._controller_port = free_port()

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    def _ports(self) -> tuple[int, ...]:
        return self.port, self._controller_port

    def _launch(self) -> ServerProcess:
        class_path = os.pathsep.join(str(jar) for jar in fetch_jars(CACHE_NAME, COORDINATES))
        settings_file = self.data_folder / "server.properties"
        lines = [f"{name}={value}\n" for name, value in self._settings().items()]
        settings_file.write_text("".join(lines), encoding="utf-8")
        if not (self.data_folder / "records" / "meta.properties").exists():
            self._format(class_path, settings_file)
        process = ServerProcess(
            self.name,
            [
                *(JAVA, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
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
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_folder / "records"),
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
            "log.cleaner.dedupe.buffer.size": "16777216",
            "auto.create.topics.enable": "false",
            **self._properties,
        }

    def _format(self, class_path: str, settings_file: Path) -> None:
        formatted = subprocess.run(
            [
                *(JAVA, "-XX:TieredStopAtLevel=1", "-cp", class_path, "kafka.tools.StorageTool", "format"),
                *("--cluster-id", _CLUSTER_ID, "--config", str(settings_file)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode != 0:
            raise ServerStartError(f"kafka storage was not formatted:\n{formatted.stdout}{formatted.stderr}")

    def _answers(self) -> bool:
        if not accepts_connections(self.port):
            return False
        try:
            admin = AdminClient({"bootstrap.servers": self.bootstrap_servers}, logger=_SILENT)
            return len(admin.list_topics(timeout=5).brokers) == 1
        except KafkaException:
            return False
