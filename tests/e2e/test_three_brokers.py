"""Brokers of a cluster of three are killed, restarted and paused under load: the stream goes on, exactly once."""

from __future__ import annotations

import re
import signal
import uuid
from typing import TYPE_CHECKING

import httpx
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from msgspec.structs import replace

from producer.admin.kafka import KafkaAdmin
from producer.publish.topics import Topics, wanted_topics
from sandbox.control.world import OutsideWorld
from tests.kit.processes import ForkedProducer, LedgerFollower
from tests.kit.servers.kafka_cluster import KafkaCluster, java_hash
from tests.kit.stages.producer_stage import ProducerStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox.servers.postgresql import EmbeddedPostgresql
    from tests.kit.stages.producer_stage import TrafficThread

pytestmark = pytest.mark.kafka

GOES_ON_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 30.0
TRAFFIC_INTERVAL_SECONDS = 0.1
POLL_INTERVAL_SECONDS = "0.3"
PAUSE_SECONDS = 0.2
IN_SYNC_MIN = "min.insync.replicas"
FENCED = 3
STATIC_PRODUCER, STATIC_CONSUMER = "worker-0", "payroll-0"


class Stream:
    """Two producers and a ledger that follows them, on a cluster, with traffic at the source.

    The ledger's consumer and one of the producers are static members of their groups, the other producer is not.
    """

    def __init__(self, cluster: KafkaCluster, stage: ProducerStage, follower: LedgerFollower) -> None:
        self.cluster = cluster
        self.stage = stage
        self.follower = follower
        self.producers = [stage.run(STATIC_PRODUCER), stage.run()]
        self.consumer = follower.run()
        stage.wait_until_owned(*self.producers, deadline_seconds=GOES_ON_SECONDS_MAX)

    def traffic(self) -> TrafficThread:
        """New orders and versions for as long as it is entered."""
        return self.stage.traffic(interval_seconds=TRAFFIC_INTERVAL_SECONDS)

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        self.stage.wait_until(holds, GOES_ON_SECONDS_MAX, what, pause_seconds=PAUSE_SECONDS)

    def holder(self, role: str, of: Callable[[], int | None]) -> int:
        found: list[int] = []

        def is_found() -> bool:
            node = of()
            found.extend([] if node is None else [node])
            return node is not None

        self.wait_until(is_found, f"there is a {role}")
        return found[-1]

    def address(self) -> str:
        """Of the first producer."""

        def ports() -> list[int]:
            entries = self.producers[0].log_entries()
            return [entry["http_port"] for entry in entries if entry.get("event") == "started"]

        self.wait_until(ports, "its addresses are served")
        return f"http://127.0.0.1:{ports()[0]}"

    def wait_until_in_sync(self) -> None:
        topic = self.stage.topics.versjoner
        everyone = set(self.cluster.nodes)
        self.wait_until(
            lambda: all(nodes == everyone for nodes in self.cluster.in_sync(topic).values()), "all are in sync"
        )

    def wait_until_it_goes_on(self) -> None:
        """Until every lane has published what was made after this call."""
        made = [self.stage.outside.skatteetaten.create(employer).trekkid for employer in self.stage.employers]
        first = {(trekkid, 1) for trekkid in made}
        self.wait_until(lambda: first <= self.stage.arrived().keys(), "every lane publishes")

    def rival(self) -> None:
        """Start another process under each of the static names, and wait until one of each two has ended."""
        producer, consumer = self.stage.run(STATIC_PRODUCER), self.follower.run()
        pairs = [(self.producers[0], producer), (self.consumer, consumer)]

        def are_single() -> bool:
            return all(sum(each.is_running() for each in pair) == 1 for pair in pairs)

        self.wait_until(are_single, "one of each name is left")
        for pair in pairs:
            (ended,) = [each for each in pair if not each.is_running()]
            assert ended.wait(STOP_SECONDS_MAX) == FENCED, ended.last_lines()
        self.producers[0], self.consumer = [next(each for each in pair if each.is_running()) for pair in pairs]

    def prove(self) -> None:
        """Everything of the source is in the topics, once and in order; every process runs, and ends when told to."""
        self.stage.wait_until_published(GOES_ON_SECONDS_MAX)
        self.stage.prove()
        for process in (*self.producers, self.consumer):
            assert process.is_running(), process.last_lines()
            process.send_signal(signal.SIGTERM)
        for process in (*self.producers, self.consumer):
            assert process.wait(STOP_SECONDS_MAX) == 0, process.last_lines()


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as running:
        yield running


@pytest.fixture(scope="module")
def place(
    cluster: KafkaCluster, postgresql: EmbeddedPostgresql, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProducerStage, LedgerFollower]]:
    """Topics and a ledger, the same in all tests of this module."""
    prefix, folder = f"test-{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("stream")
    with OutsideWorld() as outside:
        stage = ProducerStage(cluster, outside, prefix, folder)
        stage.settings["TREKKPAALEGG_POLL_INTERVAL_SECONDS"] = POLL_INTERVAL_SECONDS
        stage.employers = outside.generate(6, 30)
        stage.apply_topics()
        url = f"{postgresql.url}?options=-csearch_path%3D{prefix.replace('-', '_')}"
        follower = LedgerFollower(stage.environment(STATIC_CONSUMER), url, folder)
        try:
            yield stage, follower
        finally:
            follower.close()
            stage.close()


@pytest.fixture
def stream(cluster: KafkaCluster, place: tuple[ProducerStage, LedgerFollower]) -> Iterator[Stream]:
    """Processes of this test alone: one that has been fenced by its own second join must not be so again within 60 s.

    See `MemberHealth.is_fence_self_inflicted`.
    """
    stream = Stream(cluster, *place)
    yield stream
    for process in (*stream.producers, stream.consumer):
        process.kill()


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
    admin.record_identity(topics.positions, admin.inspect(topic_prefix, topic_prefix).present)
    with OutsideWorld() as outside:
        environment = {
            **outside.environment(outside.generate(1, 1)),
            "KAFKA_BROKERS": cluster.bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": topic_prefix,
            "TREKKPAALEGG_APPLICATION_ID": topic_prefix,
        }
        producer = ForkedProducer(("once",), environment, tmp_path / "producer.log")
        try:
            assert producer.wait(GOES_ON_SECONDS_MAX) == 0, producer.last_lines()
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


def test_the_stream_survives_the_kill_of_every_broker_in_turn(stream: Stream) -> None:
    """Until every broker has been killed, and each role with the one that had it; a broker may have several.

    While the first one is down, the topic asks for as many replicas as there are brokers.
    """
    cluster, stage = stream.cluster, stream.stage
    roles: dict[str, Callable[[], int | None]] = {
        "leader of a partition of events": lambda: cluster.leader_of(stage.topics.versjoner, 0),
        "coordinator of a lane's transactions": lambda: cluster.coordinator_of_transactions(f"{stage.prefix}-0"),
        "coordinator of the workers' group": lambda: cluster.coordinator_of_group(stage.prefix),
        "active controller": cluster.active_controller,
    }
    spared = set(cluster.nodes)
    with stream.traffic():
        stream.wait_until_it_goes_on()
        while roles or spared:
            is_first = spared == set(cluster.nodes)
            holders = {role: stream.holder(role, of) for role, of in roles.items()}
            node = next((each for each in (*holders.values(), *spared) if each in spared), None)
            if node is None:
                node = next(iter(holders.values()))
            spared.discard(node)
            roles = {role: of for role, of in roles.items() if holders[role] != node}
            cluster.nodes[node].kill()
            stream.wait_until_it_goes_on()
            if is_first:
                ask_for_as_many_replicas_as_there_are_brokers(stream)
            cluster.start()
            stream.wait_until_in_sync()
    stream.prove()


def ask_for_as_many_replicas_as_there_are_brokers(stream: Stream) -> None:
    """While one is down: the producer says what keeps it, and goes on once fewer are enough."""
    url, topic = stream.address(), stream.stage.topics.versjoner
    words = f"{topic} accepts no writes with 2 replicas in sync, as its min.insync.replicas is 3"
    set_in_sync_min(stream.cluster, topic, 3)
    stream.wait_until(lambda: words in unready(url), "it says what to do")
    assert words in stream.producers[0].log_file.read_text()
    set_in_sync_min(stream.cluster, topic, 2)
    stream.wait_until_it_goes_on()
    stream.wait_until(lambda: not unready(url), "it is ready again")


def test_while_two_of_three_brokers_are_away_the_stream_says_so_loses_nothing_and_goes_on_by_itself(
    stream: Stream,
) -> None:
    """When they are back, a second process comes under each of the static names, and only one of the two may live.

    The first one, which has been without its coordinator, may take a fence for one of its own making, and join again.
    """
    cluster, url = stream.cluster, stream.address()
    words, log_file = "start the brokers that are down", stream.producers[0].log_file
    with stream.traffic():
        stream.wait_until_it_goes_on()
        before = log_file.read_text().count(words)
        for node in (1, 2):
            cluster.nodes[node].kill()
        stream.wait_until(lambda: words in unready(url), "it says what to do")
        assert log_file.read_text().count(words) > before
        cluster.start()
        stream.rival()
        stream.wait_until_in_sync()
        stream.wait_until_it_goes_on()
    stream.prove()


def set_in_sync_min(cluster: KafkaCluster, topic: str, replicas: int) -> None:
    entry = ConfigEntry(IN_SYNC_MIN, str(replicas), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    admin.incremental_alter_configs([resource], request_timeout=GOES_ON_SECONDS_MAX)[resource].result()


def unready(url: str) -> str:
    answer = httpx.get(f"{url}/readyz", timeout=60)
    return "" if answer.is_success else str(answer.json())


def test_the_stream_survives_a_rolling_restart_and_a_suspended_broker(stream: Stream) -> None:
    """The sleeper is put out of the cluster while its connections stay open; it wakes up a stranger."""
    cluster, versjoner = stream.cluster, stream.stage.topics.versjoner
    with stream.traffic():
        for node in cluster.nodes.values():
            node.stop()
            node.start()
            stream.wait_until_in_sync()
        stream.wait_until_it_goes_on()
        sleeper = cluster.leader_of(versjoner, 0)
        assert sleeper is not None
        cluster.nodes[sleeper].pause()
        stream.wait_until(lambda: cluster.leader_of(versjoner, 0) not in {None, sleeper}, "another leads")
        stream.wait_until_it_goes_on()
        cluster.nodes[sleeper].resume()
        stream.wait_until_in_sync()
        stream.wait_until_it_goes_on()
    stream.prove()


def test_after_all_this_the_ledger_is_equal_to_the_source(place: tuple[ProducerStage, LedgerFollower]) -> None:
    _, follower = place
    consumer = follower.begin("run", "--until-end")
    assert consumer.wait(GOES_ON_SECONDS_MAX) == 0, consumer.last_lines()
    code, words = follower.verify()
    assert code == 0, words


@pytest.mark.parametrize(("text", "value"), [("a", 97), ("hello", 99162322), ("polygenelubricants", -(2**31))])
def test_the_hash_is_java_s(text: str, value: int) -> None:
    assert java_hash(text) == value
