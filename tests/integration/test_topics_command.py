"""`topics apply` and `topics adopt` on a real Kafka: what they create, record, leave alone and tell."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from producer.admin.kafka import KafkaAdmin
from producer.bootstrap import find_cluster
from producer.cli.main import run_command
from producer.domain.state import ObservationOffsets, OrderState
from producer.encode.state import STATE_SCHEMAS
from producer.group.membership import KafkaMembership
from producer.publish.state import observation_offsets_record, order_record, read_lane_state
from producer.publish.topics import DAY_MS, Topic, Topics, start_faults
from producer.settings.model import load_settings
from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producer.domain.identity import Identity
    from producer.domain.state import LaneState
    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka
GROUP_SECONDS_MAX = 60.0
CALL_SECONDS_MAX = 60.0


class Cluster:
    """The broker under one prefix, and the commands run against it as one application."""

    def __init__(
        self, kafka: EmbeddedKafka, prefix: str, capsys: pytest.CaptureFixture, patch: pytest.MonkeyPatch
    ) -> None:
        self.prefix = prefix
        self.application_id = f"{prefix}-producer"
        self.names = Topics.of(prefix)
        self.properties = {"bootstrap.servers": kafka.bootstrap_servers}
        self.admin = KafkaAdmin(self.properties)
        self.raw = AdminClient(self.properties)
        self._capsys = capsys
        self._patch = patch
        self.told = ""

    def rename(self, application_id: str) -> None:
        """The commands are run as this application from now on."""
        self._patch.setenv("TREKKPAALEGG_APPLICATION_ID", application_id)
        self.application_id = application_id

    def apply(self, *options: str) -> int:
        return self.run("topics", "apply", *options)

    def adopt(self, *options: str) -> int:
        return self.run("topics", "adopt", *(options or ("--yes",)))

    def run(self, *arguments: str) -> int:
        self._capsys.readouterr()
        code = run_command(arguments)
        captured = self._capsys.readouterr()
        self.printed, self.told = captured.out, captured.err
        return code

    def apply_json(self, *options: str) -> tuple[int, Any]:
        code = self.apply("--json", *options)
        return code, json.loads(self.printed)

    def found(self) -> dict[str, Topic]:
        return self.admin.describe(self.names)

    def faults(self) -> list[str]:
        return start_faults(self.prefix, self.admin.inspect(self.prefix, self.application_id))

    def recorded(self, lane: int = 0) -> Identity | None:
        return self.admin.recorded(self.names.positions, lane)

    def state(self, lane: int) -> LaneState:
        return read_lane_state(self.properties, self.names.positions, lane)

    def publish(self) -> None:
        """Write what stands for an event, and the state of its order."""
        self.produce(self.names.versjoner, b"order", b"event", 0)
        state = order_record(self.names.positions, 0, b"order", OrderState(1))
        self.produce(state.topic, state.key, state.value, 0)

    def produce(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        writer = Producer(self.properties)
        writer.produce(topic, value, key, partition)
        assert writer.flush(CALL_SECONDS_MAX) == 0

    def delete(self, *topics: str) -> None:
        for deleted in self.raw.delete_topics(list(topics)).values():
            deleted.result(CALL_SECONDS_MAX)
        until(lambda: not self.admin.describe(topics))

    def truncate_positions(self, lane: int) -> None:
        """Take away what the lane's partition begins with, which is refused while the topic is compacted."""
        first = TopicPartition(self.names.positions, lane, len(STATE_SCHEMAS) + 1)

        def is_deleted() -> bool:
            try:
                self.raw.delete_records([first])[first].result(CALL_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.POLICY_VIOLATION:
                    return False
                raise
            return True

        self.set_config(self.names.positions, "cleanup.policy", "delete")
        until(is_deleted)
        self.set_config(self.names.positions, "cleanup.policy", "compact")
        until(lambda: self.found()[self.names.positions].config["cleanup.policy"] == "compact")

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.raw.create_partitions([NewPartitions(topic, partitions)])[topic].result(CALL_SECONDS_MAX)

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
    return Cluster(kafka, topic_prefix, capsys, monkeypatch)


def test_a_bare_cluster_gets_the_topics_and_whose_they_are_in_every_partition(cluster: Cluster) -> None:
    assert cluster.apply("--partitions", "3") == 0
    found, names = cluster.found(), cluster.names
    assert {topic.partitions for topic in found.values()} == {3}
    assert {name: topic.config["cleanup.policy"] for name, topic in found.items()} == {
        names.versjoner: "delete",
        names.gjeldende: "compact",
        names.quarantine: "delete",
        names.positions: "compact",
        names.signals: "delete",
        names.observations: "delete",
        names.observations_urgent: "delete",
    }
    assert found[names.versjoner].config["retention.ms"] == "-1"
    assert found[names.quarantine].config["retention.ms"] == str(90 * DAY_MS)
    assert found[names.signals].config["retention.ms"] == str(DAY_MS)
    assert found[names.observations].config["retention.ms"] == "-1"
    recorded = cluster.recorded()
    assert recorded is not None
    assert (recorded.lanes, recorded.application_id) == (3, f"{cluster.prefix}-producer")
    assert [(topic.name, topic.id, topic.partitions) for topic in recorded.topics] == [
        (name, found[name].id, 3) for name in names
    ]
    assert [cluster.recorded(lane) for lane in (1, 2)] == [recorded, recorded]
    assert cluster.faults() == []
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
    [fault] = cluster.faults()
    assert cluster.names.versjoner in fault


@pytest.mark.parametrize("role", ["versjoner", "observations_urgent"])
def test_added_partitions_of_any_topic_keep_the_service_from_starting(cluster: Cluster, role: str) -> None:
    topic = getattr(cluster.names, role)
    cluster.apply("--partitions", "2")
    cluster.add_partitions(topic, 3)
    [fault] = cluster.faults()
    assert fault.startswith(f"{topic}: 3 partitions, but there are 2 lanes; ")
    assert (cluster.apply("--partitions", "2"), fault in cluster.told) == (1, True)
    assert (cluster.adopt(), fault in cluster.told) == (1, True)


def test_a_topic_with_added_partitions_that_holds_no_history_is_made_again_and_adopted(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.publish()
    cluster.add_partitions(cluster.names.observations, 3)
    cluster.delete(cluster.names.observations)
    assert cluster.apply("--partitions", "2") == 1
    assert f"{cluster.names.observations}: made again since it was recorded" in cluster.told
    assert cluster.adopt() == 0
    assert cluster.faults() == []


def test_a_lost_topic_is_created_again_only_with_the_number_of_lanes_there_is(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.delete(cluster.names.signals)
    assert cluster.apply("--partitions", "4") == 1
    assert "the number of lanes is 2 already" in cluster.told
    assert cluster.names.signals not in cluster.found()
    assert cluster.apply("--partitions", "2") == 1
    assert "`trekkpaalegg-producer topics adopt`" in cluster.told
    assert cluster.found()[cluster.names.signals].partitions == 2
    assert (cluster.adopt(), cluster.apply("--partitions", "2")) == (0, 0)


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


# Whose topics these are


def test_every_way_to_start_refuses_a_second_application_on_the_same_prefix(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    before = cluster.recorded()
    cluster.rename("second")
    [fault] = cluster.faults()
    assert f"application id: recorded {cluster.prefix}-producer, now second" in fault
    with pytest.raises(FatalError) as refused:
        find_cluster(load_settings(None, os.environ, needs=frozenset({"kafka"})))
    assert str(refused.value) == fault
    assert (cluster.apply("--partitions", "2"), fault in cluster.told) == (1, True)
    assert (cluster.run("quarantine", "list"), fault in cluster.told) == (1, True)
    assert cluster.run("doctor", "--json") == 1
    assert fault in {finding["todo"] for finding in json.loads(cluster.printed)}
    assert [cluster.recorded(lane) for lane in (0, 1)] == [before, before]


def test_a_renamed_application_adopts_its_topics_and_the_former_one_starts_no_more(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.publish()
    former = cluster.application_id
    cluster.rename("renamed")
    assert cluster.adopt() == 0
    assert f"application id: recorded {former}, now renamed" in cluster.printed
    assert cluster.faults() == []
    assert cluster.recorded(1) == cluster.recorded(0)
    assert [cluster.state(lane).show_since for lane in (0, 1)] == [None, None], "nothing handed over is lost"
    cluster.rename(former)
    [fault] = cluster.faults()
    assert f"application id: recorded renamed, now {former}" in fault


def test_nothing_is_adopted_without_a_yes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.apply("--partitions", "1")
    cluster.rename("renamed")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cluster.adopt("--") == 1
    assert len(cluster.faults()) == 1


def test_what_is_recorded_already_is_not_adopted(cluster: Cluster) -> None:
    cluster.apply("--partitions", "1")
    assert cluster.adopt() == 0
    assert "there is nothing to adopt" in cluster.printed


def test_an_adoption_that_was_cut_off_is_done_again(cluster: Cluster) -> None:
    cluster.apply("--partitions", "3")
    former = cluster.recorded()
    assert former is not None
    cluster.rename("renamed")
    present = cluster.admin.inspect(cluster.prefix, "renamed").present
    cluster.admin.adopt(cluster.prefix, present, {2: former}, now=1)
    assert [cluster.recorded(lane) for lane in range(3)] == [former, former, present]
    assert cluster.adopt() == 0
    assert [cluster.recorded(lane) for lane in range(3)] == [present] * 3


@pytest.fixture
def worker(cluster: Cluster) -> Iterator[KafkaMembership]:
    """A member of the application's group, which has lanes."""
    lanes: set[int] = set()
    cluster.apply("--partitions", "2")
    member = KafkaMembership(lambda: cluster.properties, cluster.application_id, cluster.names.signals, None)
    member.join(lanes.update, lanes.difference_update)
    until(lambda: member.poll(0.1) is not None and lanes, GROUP_SECONDS_MAX)
    yield member
    member.leave()


@pytest.mark.usefixtures("worker")
def test_topics_are_not_adopted_while_a_worker_of_the_former_application_is_live(cluster: Cluster) -> None:
    former = cluster.application_id
    cluster.rename("renamed")
    assert cluster.adopt() == 1
    assert f"1 workers of {former} are running" in cluster.told
    assert len(cluster.faults()) == 1


def test_whoever_had_a_lane_of_either_application_can_commit_nothing_after_an_adoption(cluster: Cluster) -> None:
    cluster.apply("--partitions", "1")
    former = cluster.application_id
    owners = []
    for application_id in (former, "renamed"):
        owners.append(Producer({**cluster.properties, "transactional.id": f"{application_id}-0"}))
        owners[-1].init_transactions(CALL_SECONDS_MAX)
        owners[-1].begin_transaction()
        owners[-1].produce(cluster.names.versjoner, b"event", b"order", 0)
        assert owners[-1].flush(CALL_SECONDS_MAX) == 0
    cluster.rename("renamed")
    assert cluster.adopt() == 0
    for owner in owners:
        with pytest.raises(KafkaException) as fenced:
            owner.commit_transaction(CALL_SECONDS_MAX)
        assert fenced.value.args[0].name() in {"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"}


@pytest.mark.parametrize("role", ["gjeldende", "observations"])
def test_a_topic_that_was_made_again_is_to_be_adopted(cluster: Cluster, role: str) -> None:
    topic = getattr(cluster.names, role)
    cluster.apply("--partitions", "2")
    cluster.publish()
    decided = observation_offsets_record(cluster.names.positions, 1, ObservationOffsets(5, 7), None)
    cluster.produce(cluster.names.positions, decided.key, decided.value, 1)
    cluster.delete(topic)
    assert cluster.apply("--partitions", "2") == 1
    [fault] = cluster.faults()
    assert f"({topic}: made again since it was recorded)" in fault
    assert cluster.adopt() == 0
    assert cluster.faults() == []
    state = cluster.state(1)
    assert (state.observations, state.identity) == (ObservationOffsets(), cluster.recorded())
    assert state.show_since is not None, "what was handed over may be lost, and is handed over again"


def test_topics_on_another_cluster_are_to_be_adopted(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    present = cluster.recorded()
    assert present is not None
    elsewhere = msgspec.structs.replace(
        present,
        cluster_id="another",
        topics=tuple(msgspec.structs.replace(topic, id=f"there {topic.id}") for topic in present.topics),
    )
    cluster.admin.record_identity(cluster.names.positions, elsewhere)
    [fault] = cluster.faults()
    assert f"(cluster id: recorded another, now {present.cluster_id})" in fault
    assert cluster.adopt() == 0
    assert [cluster.recorded(lane) for lane in (0, 1)] == [present, present]


def test_positions_that_were_lost_beside_a_history_are_never_recorded_as_new(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.publish()
    cluster.delete(cluster.names.positions)
    [fault] = cluster.faults()
    assert "`trekkpaalegg-producer topics apply`, then `trekkpaalegg-producer position rebuild`" in fault
    for _ in range(2):
        assert cluster.apply("--partitions", "2") == 1
        assert "the state of lane 0, 1 is lost" in cluster.told
        assert "`trekkpaalegg-producer position rebuild`" in cluster.told
    assert (cluster.adopt(), "position rebuild" in cluster.told) == (1, True)
    assert cluster.recorded() is None


@pytest.mark.parametrize("lane", [0, 1])
def test_a_truncated_state_beside_a_history_is_noticed_in_each_partition(cluster: Cluster, lane: int) -> None:
    cluster.apply("--partitions", "2")
    cluster.publish()
    cluster.produce(cluster.names.positions, b"999999999", None, lane)
    cluster.truncate_positions(lane)
    [fault] = cluster.faults()
    assert f"the state of lane {'0, 1' if lane == 0 else '1'} is lost" in fault
    assert (cluster.apply("--partitions", "2"), fault in cluster.told) == (1, True)
    assert (cluster.adopt(), fault in cluster.told) == (1, True)


def test_a_history_that_was_restored_into_new_topics_is_not_begun_anew(cluster: Cluster) -> None:
    """Whose topics these are was recorded when they were empty."""
    cluster.apply("--partitions", "2")
    cluster.produce(cluster.names.versjoner, b"order", b"event", 1)
    [fault] = cluster.faults()
    assert "the state of lane 1 is lost" in fault
    assert "run `trekkpaalegg-producer position rebuild`" in fault
    assert (cluster.apply("--partitions", "2"), fault in cluster.told) == (1, True)


def test_a_state_that_was_truncated_and_made_again_is_whole(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.publish()
    recorded = cluster.recorded()
    assert recorded is not None
    cluster.truncate_positions(1)
    cluster.admin.record_identity(cluster.names.positions, recorded)
    assert cluster.faults() == []


def test_positions_that_were_lost_before_anything_was_published_are_recorded_as_new(cluster: Cluster) -> None:
    cluster.apply("--partitions", "2")
    cluster.truncate_positions(1)
    assert len(cluster.faults()) == 1
    assert cluster.apply("--partitions", "2") == 0
    assert cluster.recorded(1) == cluster.recorded(0)
    assert cluster.faults() == []


def test_two_prefixes_on_one_cluster_do_not_disturb_each_other(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.apply("--partitions", "2")
    own = cluster.recorded()
    owner = Producer({**cluster.properties, "transactional.id": f"{cluster.application_id}-0"})
    owner.init_transactions(CALL_SECONDS_MAX)
    other = Topics.of(f"{cluster.prefix}-b")
    monkeypatch.setenv("TREKKPAALEGG_TOPIC_PREFIX", f"{cluster.prefix}-b")
    assert cluster.apply("--partitions", "3") == 0
    cluster.delete(other.gjeldende)
    assert (cluster.apply("--partitions", "3"), cluster.adopt()) == (1, 0)
    theirs = cluster.admin.recorded(other.positions, 0)
    assert theirs is not None
    assert (theirs.lanes, theirs.application_id) == (3, f"{cluster.prefix}-b-producer")
    assert (cluster.faults(), cluster.recorded()) == ([], own)
    owner.begin_transaction()
    owner.produce(cluster.names.versjoner, b"event", b"order", 0)
    owner.commit_transaction(CALL_SECONDS_MAX)
