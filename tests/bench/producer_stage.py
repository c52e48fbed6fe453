"""Producers in processes of their own on a running Kafka and a simulated world, and what they did."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from confluent_kafka import Consumer, TopicPartition

from producer.publish.topics import PARTITIONS_DEFAULT
from tests.kit.processes import ProducerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

WAIT_SECONDS_MAX = 300.0


class Arrivals:
    """When the first event of each order could be read committed, by its trekkid."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.at: dict[str, float] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "bench",
                "isolation.level": "read_committed",
                "enable.auto.commit": "false",
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS_DEFAULT)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.at.setdefault(message.key().decode(), time.monotonic())


def start_producer(opened: ExitStack, environment: dict[str, str]) -> ProducerProcess:
    """The service; it ends with `opened`."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    quiet = {"TREKKPAALEGG_HTTP_PORT": "0", "TREKKPAALEGG_HTTP_HOST": "127.0.0.1"}
    process = ProducerProcess(["run"], {**environment, **quiet}, folder / "log")
    opened.callback(process.stop)
    return process


def lanes_of(process: ProducerProcess) -> int:
    """How many lanes it has."""
    owned: set[int] = set()
    for entry in process.log_entries():
        if entry["event"] == "lane acquired":
            owned.add(entry["lane"])
        elif entry["event"] == "lanes revoked":
            owned -= set(entry["lanes"])
    return len(owned)


def metric(process: ProducerProcess, series: str) -> float:
    """The sum of all series of its metrics that begin so."""
    ports = [entry["http_port"] for entry in process.log_entries() if entry["event"] == "started"]
    text = httpx.get(f"http://127.0.0.1:{ports[-1]}/metrics", timeout=30).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(series))


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in time: {what}")
        time.sleep(0.01)
