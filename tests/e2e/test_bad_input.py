"""What the source and the cluster may do wrong: each is told clearly, nothing is lost, everything else goes on."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
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
from producer.domain.trekkpaalegg import RejectionReason
from sandbox.skatteetaten.examples import FOREIGN_CLAIMS, HTML_PAGE
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation

SECONDS_MAX = 60.0
LARGE = Random(0).randbytes(60_000).hex()
"""Too large for a topic of 50 000 bytes, compressed too."""
NOT_OURS = "999999999"


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    """Two employers with a few orders, on the broker that all tests share."""
    return make_stage(kafka, employers=2, orders=4)


def alter(stage: Any, topic: str, name: str, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()
    found = KafkaAdmin({"bootstrap.servers": stage.kafka.bootstrap_servers})
    stage.wait_until(lambda: found.describe([topic])[topic].config[name] == value, SECONDS_MAX, "it is in force")


def refused(stage: Any) -> str:
    """What the service says that does not start."""
    process = stage.run()
    assert process.wait(SECONDS_MAX) == 1
    return str(process.log_file.read_text().splitlines()[-1])


def reasons(stage: Any) -> list[str]:
    return sorted(record["reason"] for record in stage.quarantined())


def test_topics_that_are_missing_or_changed_are_named_with_what_to_do(stage: Any) -> None:
    """With other numbers of partitions, orders would be at home in lanes that know nothing of them."""
    stage.settings["TREKKPAALEGG_TOPIC_PREFIX"] = f"{stage.prefix}-none"
    said = refused(stage)
    assert "no such topic" in said
    assert "topics apply" in said
    stage.settings["TREKKPAALEGG_TOPIC_PREFIX"] = stage.prefix
    alter(stage, stage.topics.versjoner, "cleanup.policy", "compact")
    changed = (stage.topics.signals, stage.topics.positions)
    admin = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    for done in admin.create_partitions([NewPartitions(topic, 5) for topic in changed]).values():
        done.result()
    said = refused(stage)
    assert f"{stage.topics.versjoner}: cleanup.policy is compact" in said
    for topic in changed:
        assert f"{topic}: 5 partitions, but there are 3 lanes" in said


ELEMENTS = ["42", "null", '"text"', "[]", "{}", '{"trekkid": "only"}', json.dumps(json.loads(FOREIGN_CLAIMS)[0])]


def test_orders_that_are_rejected_or_named_for_others_hold_back_nothing(stage: Any) -> None:
    """Elements that are no orders, and a version that is too large, are quarantined once each; the others go on.

    An order that moves to another employer of ours, and one named for a stranger, are published whole. A version number
    that jumps by a billion is not believed, and what comes after it in its turn is.
    """
    alter(stage, stage.topics.versjoner, "max.message.bytes", "50000")
    skatteetaten, (employer, other) = stage.outside.skatteetaten, stage.employers
    for text in ELEMENTS:
        skatteetaten.plant(employer, text)
    large = skatteetaten.create(employer, {"saksnummer": LARGE})
    stranger = {**json.loads(skatteetaten.create(employer).body), "trekkid": "stranger", "trekkpliktig": NOT_OURS}
    stranger |= {"trekkversjon": 1, "sekvensnummer": skatteetaten.next_sekvensnummer()}
    skatteetaten.put(stranger, listed_for=employer)
    moved = skatteetaten.create(employer)
    skatteetaten.move(moved.trekkid, other)
    order = skatteetaten.create(employer)
    stage.once()
    rejected = reasons(stage)
    assert len(rejected) == len(ELEMENTS) + 1
    assert rejected.count(RejectionReason.TOO_LARGE.value) == 1
    versjoner = [each.identity for each in stage.versjoner()]
    assert len(versjoner) == len(set(versjoner))
    wanted = skatteetaten.identities() - {(large.trekkid, 1)}
    assert {("stranger", 1), (moved.trekkid, 1), (moved.trekkid, 2), (order.trekkid, 1)} <= wanted == set(versjoner)

    jump = {**json.loads(order.body), "trekkversjon": 1_000_000_001, "sekvensnummer": skatteetaten.next_sekvensnummer()}
    planted = skatteetaten.plant(employer, json.dumps(jump))
    stage.once()
    stage.once()
    assert reasons(stage) == sorted([*rejected, RejectionReason.VERSION_JUMP.value])
    skatteetaten.uproot(planted)
    changed = skatteetaten.change(order.trekkid)
    stage.once()
    versjoner = [each.identity for each in stage.versjoner()]
    assert len(versjoner) == len(set(versjoner))
    assert set(versjoner) == wanted | {(order.trekkid, changed.trekkversjon)}


def test_limit_lowered_while_the_service_runs_stops_nothing(stage: Any) -> None:
    skatteetaten = stage.outside.skatteetaten
    worker = stage.run()
    stage.wait_until_published()
    alter(stage, stage.topics.versjoner, "max.message.bytes", "50000")
    large = skatteetaten.create(stage.employers[0], {"saksnummer": LARGE})
    after = skatteetaten.create(stage.employers[0])
    stage.wait_until(
        lambda: (after.trekkid, 1) in {each.identity for each in stage.versjoner()}, SECONDS_MAX, "the rest goes on"
    )
    stage.wait_until(lambda: reasons(stage), SECONDS_MAX, "the large one is quarantined")
    assert reasons(stage) == [RejectionReason.TOO_LARGE.value]
    assert (large.trekkid, 1) not in {each.identity for each in stage.versjoner()}
    assert worker.is_running()


def test_a_position_ahead_of_the_source_is_lowered_and_later_versions_are_published(stage: Any) -> None:
    """The source has lost its newest orders, as one restored from a backup has."""
    skatteetaten = stage.outside.skatteetaten
    employer = stage.employers[0]
    ahead = [skatteetaten.create(employer) for _ in range(3)]
    far = {**json.loads(ahead[-1].body), "trekkid": "far", "sekvensnummer": 5_000_000}
    skatteetaten.put(far)
    stage.once()
    skatteetaten.remove("far")
    low = {**json.loads(ahead[-1].body), "trekkid": "low", "sekvensnummer": 4_000}
    skatteetaten.put(low)
    worker = stage.run()
    stage.wait_until(
        lambda: ("low", 1) in {each.identity for each in stage.versjoner()}, SECONDS_MAX, "the order below comes"
    )
    assert worker.has_logged("the position was ahead of the source: lowered")


FAULTS = [
    Fault(FaultKind.BODY, Operation.LIST, body='{"trekkpaalegg": []}', times=None),
    Fault(FaultKind.BODY, Operation.LIST, body=HTML_PAGE, content_type="text/html", times=None),
    Fault(FaultKind.BODY, Operation.LIST, body=FOREIGN_CLAIMS, times=None),
    Fault(FaultKind.TRUNCATED, Operation.LIST, times=None),
    Fault(FaultKind.FILLER, Operation.LIST, size_bytes=200_000_000, times=None),
]
"""No array, HTML with status 200, another API's objects, an answer cut off, one of 200 MB."""


def test_answers_that_are_no_page_are_failures_and_nothing_is_lost(kafka: Any, make_stage: Any) -> None:
    """Never "nothing new": the round fails while they last, the one employer without is read, and all comes then."""
    stage = make_stage(kafka, employers=len(FAULTS) + 1, orders=12)
    *troubled, well = stage.employers
    for employer, fault in zip(troubled, FAULTS, strict=True):
        stage.outside.skatteetaten.add_fault(msgspec.structs.replace(fault, trekkpliktig=employer))
    process = stage.begin("once")
    assert process.wait(SECONDS_MAX) == 1, process.last_lines()
    assert f"{len(FAULTS)} of {len(stage.employers)} trekkpliktige were not read to their end" in process.last_lines()
    stage.prove([well])
    assert {each.event.trekkpliktig for each in stage.versjoner()} == {well}
    stage.outside.skatteetaten.clear_faults()
    stage.once()
    stage.prove()
    assert stage.quarantined() == []
