"""The embedded cluster is a real one: what was written survives any node, and nothing of it outlives its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sandbox.kafka_cluster import KafkaCluster, java_hash
from sandbox.proof.topics import read_committed
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

CALL_SECONDS = 60.0
EVENTUALLY_SECONDS = 60.0

PARENT = """
import time
from sandbox.kafka_cluster import KafkaCluster
with KafkaCluster() as cluster:
    for node in cluster.nodes.values():
        print(node.pid, node.data_folder, flush=True)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as running:
        yield running


def write(cluster: KafkaCluster, topic: str, value: bytes) -> None:
    """One transaction."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(CALL_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, value)
    producer.commit_transaction(CALL_SECONDS)


def test_it_holds_and_takes_records_while_each_of_its_nodes_is_killed_in_turn(
    cluster: KafkaCluster, topic_prefix: str
) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    admin.create_topics([NewTopic(topic_prefix, num_partitions=1)])[topic_prefix].result(CALL_SECONDS)
    until(lambda: cluster.in_sync(topic_prefix) == {0: {1, 2, 3}}, EVENTUALLY_SECONDS)
    written = []
    for node in cluster.nodes:
        leader, controller = cluster.leader_of(topic_prefix, 0), cluster.active_controller()
        cluster.nodes[node].kill()
        until(lambda node=node: cluster.leader_of(topic_prefix, 0) not in {None, node}, EVENTUALLY_SECONDS)
        until(lambda node=node: cluster.active_controller() not in {None, node}, EVENTUALLY_SECONDS)
        assert node == leader or cluster.leader_of(topic_prefix, 0) == leader
        assert node == controller or cluster.active_controller() == controller
        written.append(str(node).encode())
        write(cluster, topic_prefix, written[-1])
        assert cluster.coordinator_of_transactions(topic_prefix) not in {None, node}
        cluster.start()
        until(lambda: cluster.in_sync(topic_prefix) == {0: {1, 2, 3}}, EVENTUALLY_SECONDS)
    assert [message.value() for message in read_committed(cluster.bootstrap_servers, topic_prefix)] == written


def test_no_node_outlives_a_process_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines = []
    assert parent.stdout is not None
    for line in parent.stdout:
        if line == "ready\n":
            break
        lines.append(line.split())
    assert len(lines) == 3
    parent.send_signal(signal.SIGKILL)
    parent.wait(CALL_SECONDS)
    parent.stdout.close()
    for pid, folder in lines:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or is_ended(pid), EVENTUALLY_SECONDS)
        until(lambda folder=folder: not Path(folder).exists(), EVENTUALLY_SECONDS)


def is_ended(pid: str) -> bool:
    """Whether it has ended and nobody has taken its exit code yet."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("text", "value"), [("a", 97), ("hello", 99162322), ("polygenelubricants", -(2**31))])
def test_the_hash_is_java_s(text: str, value: int) -> None:
    assert java_hash(text) == value
