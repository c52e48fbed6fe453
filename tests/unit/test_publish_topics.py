"""Topics as wanted, how those found differ, when the service must not start on them, and lanes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from producer.publish.topics import (
    DAY_MS,
    Topic,
    TopicDifference,
    Topics,
    differences,
    durability_warnings,
    lane_of,
    lanes_fault,
    murmur2,
    start_faults,
    wanted_topics,
)

# Topics as wanted, how those found differ, and when the service must not start on them
NAMES = Topics.of("t")


def cluster(partitions: int = 3, **changed: Any) -> dict[str, Topic]:
    """The topics as found when all is well, but for the changes: a role → fields of its topic, None → no such topic."""
    found = {
        topic.name: msgspec.structs.replace(topic, replication=1) for topic in wanted_topics("t", partitions=partitions)
    }
    for role, fields in changed.items():
        name = f"t-{role}"
        if fields is None:
            del found[name]
        else:
            config = found[name].config | fields.get("config", {})
            found[name] = msgspec.structs.replace(found[name], **{**fields, "config": config})
    return found


def test_names_begin_with_the_prefix() -> None:
    assert NAMES == ("t-versjoner", "t-gjeldende", "t-quarantine", "t-positions", "t-signals")


def test_the_history_is_kept_forever_by_default() -> None:
    assert wanted_topics("t")[0].config == {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    assert wanted_topics("t", history_retention_ms=DAY_MS)[0].config["retention.ms"] == "86400000"


def test_there_are_no_differences_if_all_is_as_wanted() -> None:
    assert differences(wanted_topics("t", partitions=3), cluster()) == []


def test_every_difference_is_reported_in_the_order_of_the_topics() -> None:
    found = cluster(versjoner=None, gjeldende={"partitions": 4}, quarantine={"config": {"retention.ms": "1"}})
    assert differences(wanted_topics("t", partitions=3, replication=2), found)[:5] == [
        TopicDifference("t-versjoner", "topic", "present", None),
        TopicDifference("t-gjeldende", "partitions", "3", "4"),
        TopicDifference("t-gjeldende", "replication", "2", "1"),
        TopicDifference("t-quarantine", "replication", "2", "1"),
        TopicDifference("t-quarantine", "retention.ms", str(90 * DAY_MS), "1"),
    ]


def test_replication_is_the_brokers_default_unless_given() -> None:
    assert differences(wanted_topics("t", partitions=3), cluster(versjoner={"replication": 5})) == []


def test_the_service_may_start_on_topics_as_wanted() -> None:
    assert start_faults("t", cluster(), 3) == []


@pytest.mark.parametrize(
    ("changed", "lanes", "told"),
    [
        ({"positions": None, "signals": None}, None, ["t-positions, t-signals: no such topic; run"]),
        ({"versjoner": {"config": {"cleanup.policy": "compact"}}}, 3, ["t-versjoner: cleanup.policy is compact"]),
        ({"positions": {"config": {"cleanup.policy": "delete"}}}, 3, ["t-positions: cleanup.policy is delete"]),
        ({}, None, ["t-positions: no number of lanes recorded; run"]),
        ({}, 4, ["t-positions: 3 partitions, but the state was made for 4 lanes", "t-signals: 3 partitions"]),
        ({"signals": {"partitions": 9}}, 3, ["t-signals: 9 partitions"]),
    ],
)
def test_the_service_must_not_start_otherwise(changed: dict[str, Any], lanes: int | None, told: list[str]) -> None:
    faults = start_faults("t", cluster(**changed), lanes)
    assert [fault.startswith(begin) for fault, begin in zip(faults, told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize(
    ("changed", "partitions", "lanes", "fault"),
    [
        ({}, 3, 3, None),
        ({}, 6, 3, None),
        ({"signals": None}, 3, 3, None),
        ({"signals": None}, 6, 3, "the number of lanes is 3 already"),
        ({"positions": None}, 6, None, "the number of lanes is 3 already"),
        ({"positions": None, "signals": None}, 6, None, None),
        ({"signals": {"partitions": 4}}, 3, None, "the number of lanes is not one"),
        ({}, 3, 5, "the number of lanes is not one"),
    ],
)
def test_topics_of_another_number_of_lanes_are_never_made(
    changed: dict[str, Any], partitions: int, lanes: int | None, fault: str | None
) -> None:
    told = lanes_fault("t", partitions, cluster(**changed), lanes)
    assert (told is None) == (fault is None)
    assert (told or "").startswith(fault or "")


@pytest.mark.parametrize(
    ("replication", "in_sync", "brokers", "words"),
    [
        (1, "1", 1, []),
        (3, "2", 3, []),
        (2, "1", 2, ["min.insync.replicas is 1"]),
        (1, "1", 3, ["fewer than 3 replicas on 3 brokers"]),
        (3, "1", 5, ["min.insync.replicas is 1"]),
        (3, "3", 3, ["as large as the replication"]),
    ],
)
def test_what_one_broker_would_take_with_it_is_reported(
    replication: int, in_sync: str, brokers: int, words: list[str]
) -> None:
    found = {"p-versjoner": Topic("p-versjoner", 6, {"min.insync.replicas": in_sync}, replication)}
    told = durability_warnings(found, brokers)
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))


# The lane of a trekkpliktig is the partition that Kafka's own clients choose


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_the_vectors_of_kafkas_own_tests(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_every_lane_gets_its_share():
    lanes = [lane_of(str(number), 6) for number in range(100_000_000, 100_006_000)]
    assert all(800 < lanes.count(lane) < 1200 for lane in range(6))
