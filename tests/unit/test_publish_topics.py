"""Topics as wanted, how those found differ, when the service must not start on them, and lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from producer.publish.topics import (
    DAY_MS,
    FoundTopics,
    Topic,
    TopicDifference,
    Topics,
    differences,
    durability_warnings,
    home_of,
    lane_fault,
    lane_of,
    lanes_fault,
    murmur2,
    present_identity,
    rebuild_faults,
    start_faults,
    topic_faults,
    wanted_topics,
)
from producer.source.parse.tolerant import hash_raw

if TYPE_CHECKING:
    from producer.domain.identity import Identity

# Topics as wanted, how those found differ, and when the service must not start on them
NAMES = Topics.of("t")
MADE_AGAIN = ("positions", "signals", "observations", "observations_urgent")
"""Topics without a history."""


def cluster(partitions: int = 3, **changed: Any) -> dict[str, Topic]:
    """The topics as found when all is well, but for the changes: a role → fields of its topic, None → no such topic."""
    found = {
        topic.name: msgspec.structs.replace(topic, replication=1, id=f"id of {topic.name}")
        for topic in wanted_topics("t", partitions=partitions)
    }
    for role, fields in changed.items():
        name = getattr(NAMES, role)
        if fields is None:
            del found[name]
        else:
            config = found[name].config | fields.get("config", {})
            found[name] = msgspec.structs.replace(found[name], **{**fields, "config": config})
    return found


def test_names_begin_with_the_prefix() -> None:
    roles = ("versjoner", "gjeldende", "quarantine", "positions", "signals", "observations", "observations-urgent")
    assert tuple(f"t-{role}" for role in roles) == NAMES


def test_the_history_is_kept_forever_by_default() -> None:
    assert wanted_topics("t")[0].config == {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    assert wanted_topics("t", history_retention_ms=DAY_MS)[0].config["retention.ms"] == "86400000"


def test_there_are_no_differences_if_all_is_as_wanted() -> None:
    assert differences(wanted_topics("t", partitions=3), cluster()) == []


def test_every_difference_is_reported_in_the_order_of_the_topics() -> None:
    there = cluster(versjoner=None, gjeldende={"partitions": 4}, quarantine={"config": {"retention.ms": "1"}})
    assert differences(wanted_topics("t", partitions=3, replication=2), there)[:5] == [
        TopicDifference("t-versjoner", "topic", "present", None),
        TopicDifference("t-gjeldende", "partitions", "3", "4"),
        TopicDifference("t-gjeldende", "replication", "2", "1"),
        TopicDifference("t-quarantine", "replication", "2", "1"),
        TopicDifference("t-quarantine", "retention.ms", str(90 * DAY_MS), "1"),
    ]


def test_replication_is_the_brokers_default_unless_given() -> None:
    assert differences(wanted_topics("t", partitions=3), cluster(versjoner={"replication": 5})) == []


RECORDED = present_identity("app", "cluster", "t", cluster())


def found(
    recorded: Identity | None = RECORDED,
    *,
    application_id: str = "app",
    cluster_id: str = "cluster",
    unrecorded: tuple[int, ...] = (),
    has_history: bool = True,
    **changed: Any,
) -> FoundTopics:
    """As `cluster`, with what is recorded and what there is now."""
    topics = cluster(**changed)
    present = present_identity(application_id, cluster_id, "t", topics)
    return FoundTopics(topics, present, recorded, unrecorded, has_history)


def test_the_service_may_start_on_topics_as_wanted_that_are_recorded_as_its_own() -> None:
    assert start_faults("t", found()) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"positions": None, "signals": None, "recorded": None, "has_history": False},
            ["t-positions, t-signals: no such topic; run `trekkpaalegg-producer topics apply`"],
        ),
        ({"versjoner": {"config": {"cleanup.policy": "compact"}}}, ["t-versjoner: cleanup.policy is compact"]),
        ({"positions": {"config": {"cleanup.policy": "delete"}}}, ["t-positions: cleanup.policy is delete"]),
        ({"recorded": None, "has_history": False}, ["t-positions: it is not recorded whose topics these are; run"]),
        ({"unrecorded": (1,), "has_history": False}, ["t-positions: it is not recorded whose topics these are; run"]),
        *(
            ({role: {"partitions": 9}}, [f"{getattr(NAMES, role)}: 9 partitions, but there are 3 lanes; {remedy}"])
            for role, remedy in (
                *((role, "delete the topic, run") for role in MADE_AGAIN),
                *((role, "partitions must not") for role in Topics._fields if role not in MADE_AGAIN),
            )
        ),
    ],
)
def test_the_service_must_not_start_on_other_topics_and_adopting_them_is_no_remedy(
    changed: dict[str, Any], told: list[str]
) -> None:
    faults = start_faults("t", found(**changed))
    assert [fault.startswith(begin) for fault, begin in zip(faults, told, strict=True)] == [True] * len(told)
    assert topic_faults("t", found(**changed)) == faults


@pytest.mark.parametrize(
    ("changed", "lanes"),
    [({"recorded": None}, "0, 1, 2"), ({"unrecorded": (1, 2)}, "1, 2")],
    ids=["empty", "truncated"],
)
def test_a_state_that_is_lost_beside_a_history_is_to_be_made_again_from_it(changed: dict[str, Any], lanes: str) -> None:
    [fault] = start_faults("t", found(**changed))
    assert f"t-positions: the state of lane {lanes} is lost, though t-versjoner holds events" in fault
    assert fault.endswith("run `trekkpaalegg-producer position rebuild`")
    assert topic_faults("t", found(**changed)) == [fault]


def test_a_topic_of_positions_that_is_gone_beside_a_history_is_created_and_the_state_made_again() -> None:
    [fault] = start_faults("t", found(recorded=None, positions=None))
    assert "`trekkpaalegg-producer topics apply`, then `trekkpaalegg-producer position rebuild`" in fault


# When the state cannot be made again from the history


@pytest.mark.parametrize("changed", [{"recorded": None}, {"unrecorded": (1,)}, {"application_id": "renamed"}])
def test_a_state_can_be_made_again_whatever_is_recorded(changed: dict[str, Any]) -> None:
    assert rebuild_faults("t", found(**changed)) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"observations": None}, "t-observations: no such topic; run `trekkpaalegg-producer topics apply`"),
        ({"versjoner": {"config": {"cleanup.policy": "compact"}}}, "t-versjoner: cleanup.policy is compact"),
        ({"gjeldende": {"partitions": 9}}, "t-gjeldende: 9 partitions, but there are 3 lanes; partitions must not"),
        ({"has_history": False}, "t-versjoner holds no event, and t-gjeldende neither: restore them; to begin anew"),
    ],
)
def test_a_state_cannot_be_made_again_from_other_topics(changed: dict[str, Any], told: str) -> None:
    [fault] = rebuild_faults("t", found(**{"recorded": None, **changed}))
    assert fault.startswith(told)


def test_positions_with_other_partitions_are_made_again_with_those_of_the_history() -> None:
    [fault] = rebuild_faults("t", found(recorded=None, positions={"partitions": 1}))
    assert fault == (
        "t-positions: 1 partitions, but there are 3 lanes; delete the topic, run `trekkpaalegg-producer topics apply "
        "--partitions 3`, then `trekkpaalegg-producer position rebuild`"
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"application_id": "renamed"}, "(application id: recorded app, now renamed)"),
        ({"cluster_id": "other", "signals": {"id": "new"}}, "(cluster id: recorded cluster, now other)"),
        *(
            ({role: {"id": "new"}}, f"({getattr(NAMES, role)}: made again since it was recorded)")
            for role in Topics._fields
        ),
        (
            {"application_id": "renamed", "signals": {"id": "new"}},
            "(application id: recorded app, now renamed, t-signals: made again since it was recorded)",
        ),
    ],
)
def test_topics_that_are_recorded_otherwise_are_to_be_adopted(changed: dict[str, Any], told: str) -> None:
    now = found(**changed)
    [fault] = start_faults("t", now)
    assert told in fault
    assert "`trekkpaalegg-producer topics adopt`" in fault
    assert topic_faults("t", now) == []
    assert lane_fault("t", 1, RECORDED, now.present) == fault


def test_each_fault_is_told_once_and_all_of_them_together() -> None:
    changed = {"versjoner": {"config": {"cleanup.policy": "compact"}}, "application_id": "renamed"}
    assert len(start_faults("t", found(**changed))) == 2
    assert len(start_faults("t", found(signals={"partitions": 4, "id": "new"}))) == 1


def test_a_lane_looks_at_its_own_partition() -> None:
    assert lane_fault("t", 1, RECORDED, RECORDED) is None
    lost = lane_fault("t", 1, None, RECORDED) or ""
    assert "the state of lane 1 is lost" in lost


@pytest.mark.parametrize(
    ("changed", "partitions", "fault"),
    [
        ({}, 3, None),
        ({}, 6, None),
        (dict.fromkeys(Topics._fields), 6, None),
        ({"signals": None}, 3, None),
        ({"signals": None}, 6, "the number of lanes is 3 already"),
        ({"positions": None}, 6, "the number of lanes is 3 already"),
        ({"positions": None, "signals": {"partitions": 4}}, 3, "the number of lanes is not one"),
    ],
)
def test_topics_of_another_number_of_lanes_are_never_made(
    changed: dict[str, Any], partitions: int, fault: str | None
) -> None:
    told = lanes_fault("t", partitions, cluster(**changed))
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
    there = {"p-versjoner": Topic("p-versjoner", 6, {"min.insync.replicas": in_sync}, replication)}
    told = durability_warnings(there, brokers)
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


def test_an_order_is_at_home_in_the_partition_of_its_events():
    assert [home_of(key.encode(), 6) for key in ("10001", "#10001")] == [
        (murmur2(key.encode()) & 0x7FFFFFFF) % 6 for key in ("10001", "#10001")
    ]


def test_an_order_without_a_trekkid_is_at_home_in_the_partition_of_its_quarantined_elements():
    raw_hash = hash_raw(b"{}").hex()
    assert home_of(f"#{raw_hash}".encode(), 1000) == home_of(raw_hash.encode(), 1000)
