"""Operator requests while workers run, die and hand over: done once, told to the one who asked, and never lost."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest
from confluent_kafka import Producer

from producer.publish.state import read_lane_state
from producer.publish.topics import lane_of

pytestmark = pytest.mark.kafka

SECONDS_MAX = 60.0
SHORT_SESSION = {"session_timeout_ms": "3000", "heartbeat_interval_ms": "500"}


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    return make_stage(kafka, employers=6, orders=60)


def run(stage: Any, *arguments: str, code: int = 0) -> str:
    process = stage.begin(*arguments)
    ended = process.wait(SECONDS_MAX)
    output: str = process.log_file.read_text()
    assert ended == code, output
    return output


def document(output: str) -> Any:
    start = min(found.start() for found in re.finditer(r"^(\[|\{$)", output, re.MULTILINE))
    return json.JSONDecoder().raw_decode(output[start:])[0]


def position(stage: Any, employer: str) -> Any:
    lane = lane_of(employer, stage.lanes)
    properties = {"bootstrap.servers": stage.kafka.bootstrap_servers}
    return read_lane_state(properties, stage.topics.positions, lane).of(employer).position


def send(stage: Any, *records: tuple[bytes | None, bytes | None, int]) -> None:
    """Records as anyone may write them: key, value and partition."""
    producer = Producer({"bootstrap.servers": stage.kafka.bootstrap_servers})
    for key, value, partition in records:
        producer.produce(stage.topics.signals, value, key, partition)
    assert producer.flush(30) == 0


def test_backfill_and_reconcile_are_done_by_the_workers_that_run(stage: Any) -> None:
    """What polling could not see is found, published once, and told to the command, with its differences."""
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    stage.settings |= {"TREKKPAALEGG_OVERLAP_SEKVENSNUMMER": "0", "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "2"}
    late = [skatteetaten.create(employer, visible=False) for _ in range(2)]
    skatteetaten.create(employer)
    workers = stage.run(), stage.run()
    stage.wait_until_owned(*workers)
    stage.wait_until_published()
    skatteetaten.reveal(late[0].trekkid, 1)
    assert "1 versions published" in run(stage, "backfill", "--trekkpliktig", employer)
    skatteetaten.reveal(late[1].trekkid, 1)
    told = document(run(stage, "reconcile", "--json"))
    assert (told["trekkpliktige"], told["read_to_end"], told["published"]) == (6, 6, 1)
    expected = {"trekkpliktig": employer, "trekkid": late[1].trekkid, "trekkversjon": 1, "difference": "published"}
    assert told["differences"] == [expected]
    origins = {each.identity[0]: each.origin for each in stage.prove()}
    assert [origins[each.trekkid] for each in late] == ["backfill", "reconcile"]


def test_request_outlives_the_worker_that_took_it_up_and_the_one_after(stage: Any) -> None:
    """Killed again and again in the midst of it, the back-fill comes to its end and is told with all that it did."""
    stage.set_kafka_properties(**SHORT_SESSION)
    stage.settings["TREKKPAALEGG_MAKS_ANTALL"] = "3"
    stage.outside.skatteetaten.behaviour.latency_seconds = 0.05
    worker = stage.run()
    stage.wait_until_owned(worker)
    asking = stage.begin("backfill")
    for _ in range(3):
        stage.wait_until(
            lambda at=worker: at.has_logged("operator request recorded") or not asking.is_running(), 60, "a request"
        )
        worker.kill()
        worker = stage.run()
        stage.wait_until_owned(worker)
    assert asking.wait(SECONDS_MAX) == 0, asking.last_lines()
    assert "6 of 6 trekkpliktige read to their end" in asking.log_file.read_text()
    assert [position(stage, each).requests for each in stage.employers] == [()] * 6
    stage.wait_until_published()
    stage.prove()


def test_command_takes_the_lanes_itself_when_the_last_worker_goes(stage: Any) -> None:
    stage.set_kafka_properties(**SHORT_SESSION)
    stage.outside.skatteetaten.behaviour.latency_seconds = 0.05
    worker = stage.run()
    stage.wait_until_owned(worker)
    asking = stage.begin("backfill")
    stage.wait_until(lambda: worker.has_logged("operator request recorded"), 60, "operator request recorded")
    worker.kill()
    assert asking.wait(SECONDS_MAX) == 0, asking.last_lines()
    stage.prove()


def test_suspension_stands_through_restarts_and_hand_overs_until_it_is_resumed(stage: Any) -> None:
    skatteetaten, employer = stage.outside.skatteetaten, stage.employers[0]
    others = stage.employers[1:]
    stage.set_kafka_properties(**SHORT_SESSION)
    first = stage.run()
    stage.wait_until_published()
    run(stage, "suspend", "--trekkpliktig", employer)
    order = skatteetaten.create(employer)
    second = stage.run()
    stage.wait_until_owned(first, second)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    stage.wait_until_owned(second)
    for each in others:
        skatteetaten.create(each)
    stage.wait_until_published(employers=others)
    assert not stage.is_published([employer])
    (shown,) = document(run(stage, "position", "show", "--trekkpliktig", employer, "--json"))
    assert shown["suspended_at"] is not None
    assert "resume it first" in run(stage, "backfill", "--trekkpliktig", employer, code=1)
    second.kill()
    assert "1 trekkpliktige resumed" in run(stage, "resume", "--trekkpliktig", employer)
    stage.run()
    stage.wait_until_published(60)
    assert order.trekkid in {each.identity[0] for each in stage.prove()}


def test_suspended_employers_make_once_fail_and_are_not_read(stage: Any) -> None:
    run(stage, "suspend", "--trekkpliktig", "all")
    output = run(stage, "once", code=1)
    assert output.count("suspended by an operator") == 6
    assert stage.versjoner() == []
    run(stage, "resume", "--trekkpliktig", "all")
    stage.once()
    stage.prove()


def test_position_is_set_and_forgotten_while_a_worker_runs(stage: Any) -> None:
    employer = stage.employers[0]
    stage.run()
    stage.wait_until_published()
    before = len(stage.versjoner())
    run(stage, "position", "set", employer, "0", "--yes")
    known = int(re.findall(r"with (\d+) orders", run(stage, "position", "forget", employer, "--yes"))[0])
    assert known > 0
    stage.wait_until(lambda: position(stage, employer).position > 0, 20, "it was read anew")
    stage.wait_until(lambda: len(stage.versjoner()) > before, 20, "all is published anew")


def test_quarantined_record_is_released_by_the_worker_that_runs(stage: Any) -> None:
    """A correction is published while the service goes on; one that is not wanted is refused, with the reason told."""
    skatteetaten = stage.outside.skatteetaten
    stage.settings["TREKKPAALEGG_POLL_INTERVAL_SECONDS"] = "1"
    order = skatteetaten.create(stage.employers[0])
    worker = stage.run()
    stage.wait_until_published()
    skatteetaten.rewrite(order.trekkid, 1, {"saksnummer": "CHANGED/1"})
    stage.wait_until(lambda: document(run(stage, "quarantine", "list", "--json")), 30, "it is quarantined")
    (listed,) = document(run(stage, "quarantine", "list", "--json"))
    assert "--correction" in run(stage, "quarantine", "release", listed["id"], code=1)
    told = run(stage, "quarantine", "release", listed["id"], "--correction")
    assert f"released; published: {order.trekkid}/1" in told
    assert "same content" in run(stage, "quarantine", "release", listed["id"], "--correction", code=1)
    (corrected,) = [each for each in stage.versjoner() if each.origin == "release"]
    assert (corrected.identity, corrected.correction) == ((order.trekkid, 1), 1)
    assert corrected.event.saksnummer == "CHANGED/1"
    assert worker.is_running()


def test_signals_that_are_none_stop_nothing_and_one_for_another_lane_arrives(stage: Any) -> None:
    """Whatever anyone writes to the topic: the lanes go on, and what can be understood is done by the right one."""
    employer = stage.employers[0]
    wrong = (lane_of(employer, stage.lanes) + 1) % stage.lanes
    request = {"v": 1, "kind": "suspend", "id": "by hand", "asked_at": 0}
    bad = [b"\xff\x00", b"[]", b'{"v":1}', b'{"v":2,"kind":"wakeup"}', b"x" * 10_000]
    worker = stage.run()
    stage.wait_until_published()
    send(
        stage,
        *[(employer.encode(), value, lane) for value in bad for lane in range(stage.lanes)],
        *[(key, None, lane) for key in (None, b"", b"\xff", b"12345678901") for lane in range(stage.lanes)],
        (employer.encode(), json.dumps(request).encode(), wrong),
    )
    stage.wait_until(lambda: position(stage, employer).suspended_at is not None, 30, "the request has arrived")
    stage.outside.skatteetaten.create(stage.employers[1])
    stage.wait_until_published(employers=stage.employers[1:])
    assert worker.is_running()
    passed_over = [entry for entry in worker.log_entries() if entry["event"] == "a signal is skipped"]
    assert len(passed_over) == 9 * stage.lanes
    assert "12345678901" not in worker.log_file.read_text()
    stage.prove()
