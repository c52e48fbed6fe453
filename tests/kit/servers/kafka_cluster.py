"""A real Kafka cluster, with nodes to start, stop, kill and pause one by one."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sandbox.servers.kafka import EmbeddedKafka, QuorumNode
from sandbox.servers.server import Server, free_port
from trekkpaalegg.kafka.clients import create_admin_client

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from confluent_kafka.admin import AdminClient

NODES = 3
_HEAP_MEGABYTES = 320
_CALL_SECONDS_MAX = 30.0
_TRANSACTION_STATE = "__transaction_state"


class KafkaCluster(Server):
    """Every node is broker and controller; all topics have a replica on each, and a write needs all but one of them.

    `folders` are the data folders by node, temporary ones where there is none; `own_properties` those of single nodes.
    """

    def __init__(
        self,
        nodes: int = NODES,
        *,
        folders: Mapping[int, Path] | None = None,
        properties: Mapping[str, str] | None = None,
        own_properties: Mapping[int, Mapping[str, str]] | None = None,
        ports: Mapping[int, int] | None = None,
    ) -> None:
        numbers = range(1, nodes + 1)
        controller_ports = dict(zip(numbers, _free_ports(nodes), strict=True))
        self.nodes = {
            node: EmbeddedKafka(
                (folders or {}).get(node),
                properties={**_replicated(nodes), **(properties or {}), **(own_properties or {}).get(node, {})},
                port=(ports or {}).get(node, 0),
                place=QuorumNode(node, controller_ports),
                heap_megabytes=_HEAP_MEGABYTES,
            )
            for node in numbers
        }

    @property
    def bootstrap_servers(self) -> str:
        """Addresses for clients, of every node, also of those that do not run."""
        return ",".join(node.bootstrap_servers for node in self.nodes.values())

    def start(self, nodes: Iterable[int] | None = None) -> None:
        """Start these nodes, all by default, side by side; returns when each answers. Raises `ServerStartError`."""
        with ThreadPoolExecutor() as starting:
            begun = [starting.submit(self.nodes[node].start) for node in (self.nodes if nodes is None else nodes)]
            for each in begun:
                each.result()

    def close(self) -> None:
        """End every node, and remove temporary data folders.

        Killed where the folder vanishes anyway: a node that is stopped cleanly after most others waits for them.
        """
        for node in self.nodes.values():
            if node.temporary_folder is not None and node.is_running():
                node.kill()
        with ThreadPoolExecutor() as closing:
            for each in [closing.submit(node.close) for node in self.nodes.values()]:
                each.result()

    def leader_of(self, topic: str, partition: int) -> int | None:
        """The node that leads the partition now; None while no node does."""
        found = self._admin().list_topics(topic, timeout=_CALL_SECONDS_MAX).topics[topic].partitions.get(partition)
        return found.leader if found is not None and found.leader in self.nodes else None

    def in_sync(self, topic: str) -> dict[int, set[int]]:
        """The nodes that are in sync with the leader, by partition."""
        partitions = self._admin().list_topics(topic, timeout=_CALL_SECONDS_MAX).topics[topic].partitions
        return {number: set(partition.isrs) for number, partition in partitions.items()}

    def coordinator_of_group(self, group_id: str) -> int:
        """The node that coordinates the consumer group now."""
        admin = self._admin()  # kept until it has answered: a client that is gone never does
        described = admin.describe_consumer_groups([group_id], request_timeout=_CALL_SECONDS_MAX)
        return int(described[group_id].result(_CALL_SECONDS_MAX).coordinator.id)

    def coordinator_of_transactions(self, transactional_id: str) -> int | None:
        """The node that coordinates the transactions of this id now."""
        partitions = self._admin().list_topics(_TRANSACTION_STATE, timeout=_CALL_SECONDS_MAX)
        count = len(partitions.topics[_TRANSACTION_STATE].partitions)
        return self.leader_of(_TRANSACTION_STATE, abs(java_hash(transactional_id)) % count)

    def active_controller(self) -> int | None:
        """The node that leads the controllers, by the newest election that a node has on its disk; None before it."""
        elections = []
        for node in self.nodes.values():
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                text = (node.records_folder / "__cluster_metadata-0" / "quorum-state").read_text(encoding="utf-8")
                election = json.loads(text)
                elections.append((int(election["leaderEpoch"]), int(election["leaderId"])))
        leader = max(elections, default=(0, 0))[1]
        return leader if leader in self.nodes else None

    def _admin(self) -> AdminClient:
        return create_admin_client({"bootstrap.servers": self.bootstrap_servers})


def java_hash(text: str) -> int:
    """What `String.hashCode` of Java gives for ASCII: coordinators are found by it."""
    value = 0
    for letter in text.encode("ascii"):
        value = (31 * value + letter) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def _replicated(nodes: int) -> dict[str, str]:
    replicas, in_sync = str(nodes), str(max(nodes - 1, 1))
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "controlled.shutdown.enable": "true",  # what a node leads goes to the others
    }


def _free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)
