"""The embedded cluster is a real one: what was written survives any node, and nothing of it outlives its process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec.structs import replace

from producer.admin.kafka import KafkaAdmin
from producer.publish.topics import Topics, wanted_topics
from sandbox.control.world import OutsideWorld
from sandbox.demo.proof import read_committed
from tests.kit.processes import ProducerProcess
from tests.kit.servers.kafka_cluster import KafkaCluster, java_hash
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka

CALL_SECONDS = 60.0
EVENTUALLY_SECONDS = 60.0
IN_SYNC_MIN = "min.insync.replicas"

PARENT = """
import time
from tests.kit.servers.kafka_cluster import KafkaCluster
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


def test_a_producer_says_at_its_start_which_topics_are_less_safe_than_the_cluster_allows(
    cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """And what to do about it: too few replicas, one of them enough for a write, or all of them needed for one."""
    topics, admin = Topics.of(topic_prefix), KafkaAdmin({"bootstrap.servers": cluster.bootstrap_servers})
    others = {
        topics.versjoner: (1, "1"),
        topics.gjeldende: (3, "1"),
        topics.positions: (3, "3"),
    }
    for wanted in wanted_topics(topic_prefix, partitions=1):
        replication, in_sync = others.get(wanted.name, (wanted.replication, "2"))
        admin.create([replace(wanted, replication=replication, config=wanted.config | {IN_SYNC_MIN: in_sync})])
    admin.record_lane_count(topics.positions, 1)
    with OutsideWorld() as outside:
        environment = {
            **outside.environment(outside.generate(1, 1)),
            "KAFKA_BROKERS": cluster.bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": topic_prefix,
            "TREKKPAALEGG_APPLICATION_ID": topic_prefix,
        }
        producer = ProducerProcess(("once",), environment, tmp_path / "producer.log")
        try:
            assert producer.wait(EVENTUALLY_SECONDS) == 0, producer.last_lines()
        finally:
            producer.kill()
    words = "the topics are less safe than they can be"
    (told,) = [each["reason"] for each in producer.log_entries() if each["event"] == words]
    for topic, fault, todo in (
        (topics.versjoner, "fewer than 3 replicas on 3 brokers", "create with --replication 3"),
        (topics.gjeldende, "min.insync.replicas is 1", "set it to 2"),
        (topics.positions, "min.insync.replicas is as large as the replication", "set it to one less"),
    ):
        assert re.search(f"{topic}: {fault}, so that [^;]+; {todo}", told), told
    assert topics.signals not in told


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
