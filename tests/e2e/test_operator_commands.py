"""Operators' commands on a real cluster: what they show and change, alone and while workers run, die and hand over."""

from __future__ import annotations

import json
import re
import signal
import uuid
from collections import Counter
from contextlib import closing
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from producer.publish.state import read_lane_state
from producer.publish.topics import lane_of
from sandbox.control.world import OutsideWorld
from tests.kit.processes import document
from tests.kit.stages.producer_stage import ProducerStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

SECONDS_MAX = 60.0
STRANGER = "999999999"
SHORT_SESSION = {"session_timeout_ms": "3000", "heartbeat_interval_ms": "500"}
SMALL_OVERLAP = {"TREKKPAALEGG_OVERLAP_SEKVENSNUMMER": "1"}
"""Polling reads the newest version of an employer again, and none before it."""


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    return make_stage(kafka, employers=6, orders=60)


@pytest.fixture(scope="module")
def served(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProducerStage]:
    """A stage with two workers that run. Each test has employers of its own, by their place in the list."""
    folder = tmp_path_factory.mktemp("served")
    with OutsideWorld() as outside, closing(ProducerStage(kafka, outside, f"test-{uuid.uuid4().hex}", folder)) as made:
        made.employers = outside.generate(6, 30)
        made.apply_topics()
        made.settings |= SMALL_OVERLAP
        made.wait_until_owned(made.run(), made.run())
        made.wait_until_published()
        yield made


def run(stage: Any, *arguments: str, code: int = 0) -> str:
    """Run a command to its end; what it printed and logged."""
    process = stage.begin(*arguments)
    ended = process.wait(SECONDS_MAX)
    output: str = process.log_file.read_text()
    assert ended == code, output
    return output


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


def published(stage: Any, trekkid: str) -> list[Any]:
    return [each for each in stage.versjoner() if each.event.trekkid == trekkid]


class Alone:
    """No worker runs. One employer for each story: forgotten, rejected, changed, and one with a version seen late."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.skatteetaten = stage.outside.skatteetaten
        self.forgotten_of, rejected_of, changed_of, self.late_of, *_ = stage.employers
        self.forgotten = self.skatteetaten.create(self.forgotten_of)
        self.skatteetaten.change(self.forgotten.trekkid)
        self.rejected = self.skatteetaten.create(rejected_of)
        broken = {"trekkid": self.rejected.trekkid, "trekkversjon": 1, "sekvensnummer": 5}
        self.skatteetaten.replace_raw(self.rejected.trekkid, 1, json.dumps(broken))
        self.changed = self.skatteetaten.create(changed_of)
        self.late = self.skatteetaten.create(self.late_of, visible=False)
        for _ in range(3):
            self.skatteetaten.create(self.late_of)

    def quarantined(self, trekkid: str) -> list[Any]:
        return [
            each for each in document(run(self.stage, "quarantine", "list", "--json")) if each["trekkid"] == trekkid
        ]

    def refuse_the_rejected(self) -> None:
        """A version that could not be understood is listed and shown; the same bytes are refused again."""
        (listed,) = self.quarantined(self.rejected.trekkid)
        assert (listed["trekkversjon"], listed["reason"]) == (1, "missing_field")
        assert f'"trekkid": "{self.rejected.trekkid}"' in run(self.stage, "quarantine", "show", listed["id"])
        assert "still cannot be understood" in run(self.stage, "quarantine", "release", listed["id"], code=1)
        assert "no record" in run(self.stage, "quarantine", "show", f"{listed['id'].split('/')[0]}/999", code=1)
        run(self.stage, "quarantine", "show", "three", code=2)
        assert published(self.stage, self.rejected.trekkid) == []

    def correct_the_changed(self) -> str:
        """Changed content was held back once, and is published when it is released as a correction; the id."""
        (listed,) = self.quarantined(self.changed.trekkid)
        assert listed["reason"] == "changed_content"
        assert "--correction" in run(self.stage, "quarantine", "release", listed["id"], code=1)
        run(self.stage, "quarantine", "release", listed["id"], "--correction")
        first, corrected = published(self.stage, self.changed.trekkid)
        assert corrected.identity == first.identity == (self.changed.trekkid, 1)
        assert (corrected.correction, corrected.origin) == (1, "release")
        assert corrected.ce_id == f"{self.changed.trekkid}/1/1"
        assert corrected.event.saksnummer == "CHANGED/1"
        return str(listed["id"])

    def find_the_late(self) -> None:
        """A version below the position that became visible late: only a full comparison finds it."""
        assert published(self.stage, self.late.trekkid) == []
        differences = document(run(self.stage, "reconcile", "--json"))["differences"]
        assert [each["trekkid"] for each in differences if each["difference"] == "published"] == [self.late.trekkid]
        assert [each.origin for each in published(self.stage, self.late.trekkid)] == ["reconcile"]
        assert "0 versions published" in run(self.stage, "backfill", "--trekkpliktig", self.late_of)
        run(self.stage, "backfill", "--trekkpliktig", "999999999", code=2)


def test_commands_do_their_work_themselves_while_no_worker_runs(kafka: Any, make_stage: Any) -> None:
    """Neither setting a position lower nor forgetting it publishes anything twice."""
    stage = make_stage(kafka, employers=6, orders=0)
    stage.settings |= SMALL_OVERLAP
    alone = Alone(stage)
    employer, skatteetaten = alone.forgotten_of, alone.skatteetaten
    run(stage, "suspend", "--trekkpliktig", "all")
    assert run(stage, "once", code=1).count("suspended by an operator") == len(stage.employers)
    assert stage.versjoner() == []
    run(stage, "resume", "--trekkpliktig", "all")
    stage.once()
    (shown,) = [row for row in document(run(stage, "position", "show", "--json")) if row["trekkpliktig"] == employer]
    assert (shown["orders"], shown["versions_missing"]) == (1, 0)
    assert shown["position"] > 0
    alone.refuse_the_rejected()
    run(stage, "position", "set", employer, "0", "--yes")
    skatteetaten.rewrite(alone.changed.trekkid, 1, {"saksnummer": "CHANGED/1"})
    skatteetaten.reveal(alone.late.trekkid, 1)
    stage.once()
    stage.once()
    released = alone.correct_the_changed()
    alone.find_the_late()
    identities = [each.identity for each in stage.versjoner() if each.correction is None]
    assert len(identities) == len(set(identities))
    assert set(identities) == skatteetaten.identities() - {(alone.rejected.trekkid, 1)}
    assert "not confirmed" in run(stage, "position", "forget", employer, code=1)
    assert "with 1 orders" in run(stage, "position", "forget", employer, "--yes")
    assert position(stage, employer).position == 0
    stage.once()
    assert position(stage, employer).position > 0
    versions = [each.identity[1] for each in published(stage, alone.forgotten.trekkid)]
    assert versions == [1, 2]
    assert len(published(stage, alone.changed.trekkid)) == 2
    assert "same content" in run(stage, "quarantine", "release", released, "--correction", code=1)


def test_once_refuses_while_a_worker_runs(stage: Any) -> None:
    """It shares the lanes, waits for one session, in case the worker was killed, and gives up."""
    stage.set_kafka_properties(**SHORT_SESSION)
    worker = stage.run()
    stage.wait_until_published()
    process = stage.begin("once")
    assert process.wait(SECONDS_MAX) == 1
    assert re.search("another worker|are running", process.log_file.read_text())
    assert worker.is_running()
    stage.prove()


def test_signals_that_are_none_stop_nothing_and_one_for_another_lane_arrives(served: Any) -> None:
    """Whatever anyone writes to the topic: the lanes go on, and what can be understood is done by the right one."""
    employer, other = served.employers[:2]
    wrong = (lane_of(employer, served.lanes) + 1) % served.lanes
    request = {"v": 1, "kind": "suspend", "id": "by hand", "asked_at": 0}
    bad = [b"\xff\x00", b"[]", b'{"v":1}', b"x" * 10_000]
    newer = b'{"v":2,"kind":"wakeup"}'
    send(
        served,
        *[(employer.encode(), value, lane) for value in (*bad, newer) for lane in range(served.lanes)],
        *[(key, None, lane) for key in (None, b"", b"\xff", b"12345678901") for lane in range(served.lanes)],
        (employer.encode(), json.dumps(request).encode(), wrong),
    )
    served.wait_until(lambda: position(served, employer).suspended_at is not None, 30, "the request has arrived")
    served.outside.skatteetaten.create(other)
    served.wait_until_published()
    workers = served.running()
    assert len(workers) == 2
    events = Counter(entry["event"] for each in workers for entry in each.log_entries())
    assert events["a signal is skipped"] == 8 * served.lanes
    assert events["a signal waits for a newer program"] == served.lanes
    assert not any("12345678901" in each.log_file.read_text() for each in workers)
    served.prove()
    run(served, "resume", "--trekkpliktig", employer)


def test_backfill_and_reconcile_are_done_by_the_workers_that_run(served: Any) -> None:
    """What polling could not see is found, published once, and told to the command, with its differences.

    One version stands in no list of ours any more, as its order went to a stranger.
    """
    skatteetaten, employer = served.outside.skatteetaten, served.employers[2]
    late = [skatteetaten.create(employer, visible=False) for _ in range(2)]
    left, *_ = [skatteetaten.create(employer) for _ in range(3)]
    served.wait_until_published()
    skatteetaten.reveal(late[0].trekkid, 1)
    assert "1 versions published" in run(served, "backfill", "--trekkpliktig", employer)
    skatteetaten.reveal(late[1].trekkid, 1)
    with skatteetaten.lock:
        skatteetaten.change(left.trekkid)
        skatteetaten.move(left.trekkid, STRANGER)
    told = document(run(served, "reconcile", "--json"))
    assert (told["trekkpliktige"], told["read_to_end"], told["published"]) == (6, 6, 2)
    found = [(late[1].trekkid, 1), (left.trekkid, 2)]
    assert sorted(told["differences"], key=itemgetter("trekkversjon")) == [
        {"trekkpliktig": employer, "trekkid": trekkid, "trekkversjon": trekkversjon, "difference": "published"}
        for trekkid, trekkversjon in found
    ]
    skatteetaten.move(left.trekkid, employer)
    served.wait_until_published()
    origins = {each.identity: each.origin for each in served.prove()}
    assert [origins[each] for each in [(late[0].trekkid, 1), *found]] == ["backfill", "reconcile", "gapfill"]


def test_quarantined_record_is_released_by_the_worker_that_runs(served: Any) -> None:
    """A correction is published while the service goes on; one that is not wanted is refused, with the reason told."""
    skatteetaten = served.outside.skatteetaten
    order = skatteetaten.create(served.employers[3])
    served.wait_until_published()
    skatteetaten.rewrite(order.trekkid, 1, {"saksnummer": "CHANGED/1"})
    served.wait_until(served.quarantined, 30, "it is quarantined")
    (listed,) = document(run(served, "quarantine", "list", "--json"))
    assert "--correction" in run(served, "quarantine", "release", listed["id"], code=1)
    told = run(served, "quarantine", "release", listed["id"], "--correction")
    assert f"released; published: {order.trekkid}/1" in told
    assert "same content" in run(served, "quarantine", "release", listed["id"], "--correction", code=1)
    (corrected,) = [each for each in served.versjoner() if each.origin == "release"]
    assert (corrected.identity, corrected.correction) == ((order.trekkid, 1), 1)
    assert corrected.event.saksnummer == "CHANGED/1"
    assert len(served.running()) == 2


def test_position_is_set_and_forgotten_while_a_worker_runs(served: Any) -> None:
    """The list is read anew each time, and nothing of it is published twice."""
    employer = served.employers[0]
    served.outside.skatteetaten.create(employer)
    served.wait_until_published()
    before = len(served.versjoner())
    run(served, "position", "set", employer, "0", "--yes")
    known = int(re.findall(r"with (\d+) orders", run(served, "position", "forget", employer, "--yes"))[0])
    assert known > 0
    served.wait_until(lambda: position(served, employer).position > 0, 20, "it was read again")
    assert "0 versions published" in run(served, "backfill", "--trekkpliktig", employer)
    assert len(served.versjoner()) == before


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


def test_a_command_acquires_the_lanes_itself_when_the_last_worker_ends(stage: Any) -> None:
    stage.set_kafka_properties(**SHORT_SESSION)
    stage.outside.skatteetaten.behaviour.latency_seconds = 0.05
    worker = stage.run()
    stage.wait_until_owned(worker)
    asking = stage.begin("backfill")
    stage.wait_until(lambda: worker.has_logged("operator request recorded"), 60, "operator request recorded")
    worker.kill()
    assert asking.wait(SECONDS_MAX) == 0, asking.last_lines()
    stage.prove()


def test_a_suspension_survives_restarts_and_rebalances_until_it_is_resumed(stage: Any) -> None:
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
