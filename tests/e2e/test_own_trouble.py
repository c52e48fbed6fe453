"""What is odd about one order or version troubles no other: it is reported once, and mended when it can be."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from producer.domain.content import CONTENT_HASH_VERSION
from producer.domain.state import Missing, OrderState
from producer.publish.state import read_lane_state
from producer.publish.topics import home_of
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation

pytestmark = pytest.mark.kafka

SECONDS_MAX = 60.0
SECOND_METHOD = 2
LATER = (sys.executable, str(Path(__file__).with_name("second_method.py")))
"""The program that makes hashes by a second method."""

ABOUT_ONE_VERSION = (400, 403, 405, 406, 409, 410, 414, 422, 451)


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    """Two employers with a few orders, on the broker that all tests share."""
    return make_stage(kafka, employers=2, orders=4)


def order_of(stage: Any, trekkid: str) -> OrderState:
    """The state of an order at its home."""
    properties = {"bootstrap.servers": stage.kafka.bootstrap_servers}
    lane = home_of(trekkid.encode(), stage.lanes)
    return read_lane_state(properties, stage.topics.positions, lane).orders.order(trekkid.encode())


def reasons(stage: Any) -> list[tuple[str, int, str]]:
    return sorted((each["trekkid"], each["trekkversjon"], each["reason"]) for each in stage.quarantined())


def run_well(stage: Any, *arguments: str, **options: Any) -> Any:
    process = stage.begin(*arguments, **options)
    assert process.wait(2 * SECONDS_MAX) == 0, process.last_lines()
    return process


def identities(stage: Any) -> list[tuple[str, int]]:
    return [each.identity for each in stage.versjoner()]


def test_a_source_that_was_restored_is_reported_once_and_only_other_content_is_quarantined(stage: Any) -> None:
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    orders = [skatteetaten.create(employer).trekkid for _ in range(2)]
    versions = {trekkid: [skatteetaten.book.stored(trekkid, 1).body] for trekkid in orders}
    stage.once()
    for _ in range(2):
        for trekkid in orders:
            versions[trekkid].append(skatteetaten.change(trekkid).body)
        stage.once()
    published = identities(stage)
    same, other = orders
    for trekkid in orders:
        skatteetaten.remove(trekkid)
        for number, body in enumerate(versions[trekkid][:2], start=1):
            changed = {"saksnummer": "another"} if (trekkid, number) == (other, 2) else {}
            skatteetaten.put({**json.loads(body), **changed})
    said = "the source shows lower versions than it did: it may have been restored"
    counts = [run_well(stage, "once").log_file.read_text().count(said) for _ in range(3)]
    assert counts == [1, 0, 0]
    assert reasons(stage) == [(other, 2, "changed_content")]
    assert identities(stage) == published
    assert [order_of(stage, trekkid).trekkversjon for trekkid in (same, other)] == [3, 3]


def test_a_version_that_is_refused_by_number_is_missing_and_its_employer_goes_on(stage: Any) -> None:
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    refused = {}
    for status in ABOUT_ONE_VERSION:
        trekkid = skatteetaten.create(employer).trekkid
        refused[status] = trekkid
        for _ in range(2):
            skatteetaten.change(trekkid)
        fault = Fault(FaultKind.STATUS, operation=Operation.VERSION, times=None, status=status)
        fault.trekkid, fault.trekkversjon = trekkid, 1
        skatteetaten.add_fault(fault)
    stage.once()
    after = skatteetaten.create(employer)
    stage.once()
    published = identities(stage)
    assert (after.trekkid, 1) in published
    for status, trekkid in refused.items():
        assert [each for each in published if each[0] == trekkid] == [(trekkid, 2), (trekkid, 3)]
        order = order_of(stage, trekkid)
        assert (order.trekkversjon, order.missing) == (3, (Missing(1, 1, f"HTTP {status}"),))
    skatteetaten.clear_faults()
    run_well(stage, "reconcile")
    late = [each.identity for each in stage.versjoner() if each.late]
    assert sorted(late) == sorted((trekkid, 1) for trekkid in refused.values())
    assert not any(order_of(stage, trekkid).is_open for trekkid in refused.values())
    stage.prove()


def test_a_change_of_the_hashes_method_hides_no_change_and_reports_none_that_is_not(stage: Any) -> None:
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    one, two = (skatteetaten.create(employer).trekkid for _ in range(2))
    stage.once()
    assert order_of(stage, one).content_hash_version == CONTENT_HASH_VERSION == 1
    published = identities(stage)

    for command in ("once", "reconcile", "backfill"):
        run_well(stage, command, program=LATER)
    assert (reasons(stage), identities(stage)) == ([], published)
    skatteetaten.change(two)
    run_well(stage, "once", program=LATER)
    assert order_of(stage, two).content_hash_version == SECOND_METHOD
    for trekkid, number in ((one, 1), (two, 2)):
        skatteetaten.rewrite(trekkid, number, {"saksnummer": "another"})
    for _ in range(2):
        run_well(stage, "once", program=LATER)
    changed = sorted([(one, 1, "changed_content"), (two, 2, "changed_content")])
    assert reasons(stage) == changed

    for command in ("once", "reconcile"):
        run_well(stage, command)
    assert reasons(stage) == changed, "an older program does not judge hashes that it cannot make"
    assert sorted(identities(stage)) == sorted([*published, (two, 2)])


def test_programs_with_two_methods_work_side_by_side_and_report_nothing(stage: Any) -> None:
    workers = [stage.run("one"), stage.begin("run", instance_id="two", program=LATER)]
    stage.wait_until_owned(*workers)
    with stage.traffic(interval_seconds=0.1):
        stage.wait_until(lambda: len(stage.arrived()) > 60, SECONDS_MAX, "both have published")
        workers[0].send_signal(signal.SIGTERM)
        assert workers[0].wait(SECONDS_MAX) == 0
        stage.wait_until_owned(workers[1])
        again = stage.run("one")
        stage.wait_until_owned(again, workers[1])
        before = len(stage.arrived())
        stage.wait_until(lambda: len(stage.arrived()) > before + 30, SECONDS_MAX, "lanes have moved to and fro")
    stage.wait_until_published(SECONDS_MAX)
    assert reasons(stage) == []
    assert len(identities(stage)) == len(set(identities(stage)))
    stage.prove()
