"""`topics apply` on a real Kafka: what it creates, records, leaves alone and tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from producer.admin.kafka import KafkaAdmin
from producer.cli.main import run_command
from producer.publish.topics import DAY_MS, Topic, Topics, start_faults

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


class Cluster:
    """The broker under one prefix, and the command run against it."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, capsys: pytest.CaptureFixture) -> None:
        self.prefix = prefix
        self.names = Topics.of(prefix)
        self.admin = KafkaAdmin({"bootstrap.servers": kafka.bootstrap_servers})
        self.raw = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        self._capsys = capsys
        self.told = ""

    def apply(self, *options: str) -> int:
        self._capsys.readouterr()
        code = run_command(["topics", "apply", *options])
        captured = self._capsys.readouterr()
        self.printed, self.told = captured.out, captured.err
        return code

    def apply_json(self, *options: str) -> tuple[int, Any]:
        code = self.apply("--json", *options)
        return code, json.loads(self.printed)

    def found(self) -> dict[str, Topic]:
        return self.admin.describe(self.names)

    def set_config(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.raw.incremental_alter_configs([resource])[resource].result()


@pytest.fixture
def cluster(
    kafka: EmbeddedKafka,
    topic_prefix: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cluster:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BROKERS", kafka.bootstrap_servers)
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", topic_prefix)
    return Cluster(kafka, topic_prefix, capsys)


def test_a_bare_cluster_gets_five_topics_and_the_number_of_lanes(cluster: Cluster) -> None:
    assert cluster.apply("--partitions", "3") == 0
    found, names = cluster.found(), cluster.names
    assert {topic.partitions for topic in found.values()} == {3}
    assert {name: topic.config["cleanup.policy"] for name, topic in found.items()} == {
        names.versjoner: "delete",
        names.gjeldende: "compact",
        names.quarantine: "delete",
        names.positions: "compact",
        names.signals: "delete",
    }
    assert found[names.versjoner].config["retention.ms"] == "-1"
    assert found[names.quarantine].config["retention.ms"] == str(90 * DAY_MS)
    assert found[names.signals].config["retention.ms"] == str(DAY_MS)
    assert cluster.admin.lane_count(names.positions) == 3
    assert start_faults(cluster.prefix, found, 3) == []
    assert "personal data" in cluster.told
    assert "forever" in cluster.told


def test_a_second_run_changes_nothing_and_ends_well(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    before = cluster.found()
    code, told = cluster.apply_json("--partitions", "2")
    assert code == 0
    assert {topic["state"] for topic in told["topics"]} == {"as wanted"}
    assert told["lanes"] == 2
    assert cluster.found() == before


def test_a_dry_run_tells_and_creates_nothing(cluster: Cluster) -> None:
    code, told = cluster.apply_json("--dry-run")
    assert code == 0
    assert [(topic["name"], topic["state"]) for topic in told["topics"]] == [
        (name, "missing") for name in cluster.names
    ]
    assert cluster.found() == {}


def test_the_history_is_kept_as_long_as_asked_for(cluster: Cluster) -> None:
    assert cluster.apply("--partitions", "1", "--history-retention", "400d") == 0
    assert cluster.found()[cluster.names.versjoner].config["retention.ms"] == str(400 * DAY_MS)
    assert "for 400 days" in cluster.told


def test_topics_with_other_settings_are_reported_and_left(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.set_config(cluster.names.versjoner, "cleanup.policy", "compact")
    cluster.set_config(cluster.names.quarantine, "retention.ms", "1000")
    code, told = cluster.apply_json("--partitions", "2")
    assert code == 1
    differing = {topic["name"]: topic["differences"] for topic in told["topics"] if topic["differences"]}
    assert differing == {
        cluster.names.versjoner: [{"what": "cleanup.policy", "wanted": "delete", "found": "compact"}],
        cluster.names.quarantine: [{"what": "retention.ms", "wanted": str(90 * DAY_MS), "found": "1000"}],
    }
    assert "cleanup.policy" in cluster.told.splitlines()[-1]
    assert cluster.found()[cluster.names.quarantine].config["retention.ms"] == "1000"
    assert cluster.names.versjoner in start_faults(cluster.prefix, cluster.found(), 2)[0]


def test_added_partitions_are_told_and_keep_the_service_from_starting(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.raw.create_partitions([NewPartitions(cluster.names.signals, 3)])[cluster.names.signals].result()
    assert cluster.apply("--partitions", "2") == 1
    assert "the number of lanes is not one" in cluster.told
    faults = start_faults(cluster.prefix, cluster.found(), cluster.admin.lane_count(cluster.names.positions))
    assert [cluster.names.signals in fault for fault in faults] == [True]


def test_a_lost_topic_is_created_again_only_with_the_number_of_lanes_there_is(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.raw.delete_topics([cluster.names.signals])[cluster.names.signals].result()
    assert cluster.apply("--partitions", "4") == 1
    assert "the number of lanes is 2 already" in cluster.told
    assert cluster.names.signals not in cluster.found()
    assert cluster.apply("--partitions", "2") == 0
    assert cluster.found()[cluster.names.signals].partitions == 2


def test_a_cluster_that_takes_no_such_replication_is_told(cluster: Cluster) -> None:
    assert cluster.apply("--replication", "3") == 1
    assert "INVALID_REPLICATION_FACTOR" in cluster.told


def test_a_missing_kafka_is_reported_with_its_remedy(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    assert cluster.apply() == 1
    assert "no Kafka broker answered" in cluster.told
    assert "KAFKA_BROKERS" in cluster.told


def test_a_property_that_librdkafka_does_not_know_is_a_fault_of_the_settings(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text("linger.mz=5\n")
    monkeypatch.setenv("KAFKA_PROPERTIES_FILE", str(path))
    assert cluster.apply() == 2
    assert "linger.mz" in cluster.told


def test_nobody_is_in_the_group_of_an_application_that_never_ran(cluster: Cluster) -> None:
    assert cluster.admin.group_members(cluster.prefix) == 0
