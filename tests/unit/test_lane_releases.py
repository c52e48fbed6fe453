"""A lane in memory: a release is published together with its result, or fails with a reason."""

from __future__ import annotations

import threading

import msgspec
import pytest

from producer.domain.requests import OperatorRequest
from producer.encode.signal import encode_request
from producer.errors import RejectedTrekkpaaleggError, SuspendedError
from tests.kit.fakes.publisher import Fault
from tests.kit.stages.lane_stage import LaneStage, event
from trekkpaalegg.errors import FatalError

ONE = "311111111"


@pytest.fixture
def stage():
    with LaneStage([ONE]) as made:
        yield made


def says(stage, element):
    """The quarantine holds one record, 3/17, and this is what it says; it is returned in a list, to be changed."""
    said = [element]

    def understand(trekkpliktig, record):
        assert (trekkpliktig, record) == (ONE, "3/17")
        if isinstance(said[0], BaseException):
            raise said[0]
        return said[0]

    stage.understand = understand
    return said


def changed(version):
    return msgspec.structs.replace(version, saksnummer="CHANGED/1")


def request(stage, name="request", **more):
    result = stage.request(ONE, "release", name, record="3/17", **more)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    return result


def test_correction_is_published_once_and_named_in_the_answer(stage):
    order = stage.source.create(ONE)
    says(stage, changed(order))
    stage.start()
    refused = request(stage, "without")
    assert (refused.outcome, "--correction" in refused.detail) == ("failed", True)
    done = request(stage, "with", correction=True)
    assert (done.outcome, done.request.published, done.detail) == ("done", 1, f"{order.trekkid}/1")
    again = request(stage, "again", correction=True)
    assert (again.outcome, "same content" in again.detail) == ("failed", True)
    corrected = event(changed(order), "release", correction=1)
    assert stage.versjoner() == [event(order), corrected]
    assert stage.gjeldende()[-1] == corrected


def test_versions_before_it_are_fetched_by_number_and_published_in_their_turn(stage):
    order = stage.source.create(ONE)
    said = says(stage, order)
    stage.start()
    second, third = stage.source.change(order.trekkid), stage.source.change(order.trekkid)
    said[0] = third
    assert request(stage).detail == f"{order.trekkid}/2, {order.trekkid}/3"
    assert [each.trekkversjon for each in stage.versjoner()] == [1, second.trekkversjon, third.trekkversjon]
    stage.read()
    assert len(stage.versjoner()) == 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RejectedTrekkpaaleggError("it still cannot be understood (missing_field)", "skyldner"), "still cannot"),
        (FatalError("there is no record 3/17"), "there is no record"),
        (KeyError("311111111"), "it broke: KeyError"),
    ],
)
def test_a_release_that_cannot_be_read_fails_with_a_reason_and_stops_nobody(stage, error, told):
    says(stage, error)
    stage.start()
    result = request(stage)
    assert (result.outcome, told in result.detail) == ("failed", True)
    made = stage.source.create(ONE)
    stage.read()
    assert stage.versjoner() == [event(made)]


def test_refusal_of_an_earlier_version_is_the_reason_of_the_failure(stage):
    order = stage.source.create(ONE)
    said = says(stage, order)
    stage.start()
    stage.source.change(order.trekkid)
    said[0] = stage.source.change(order.trekkid)
    stage.source.fail(SuspendedError("403"), times=None, operation="version")
    assert (request(stage).outcome, stage.results()["request"].detail) == ("failed", "403")
    assert len(stage.versjoner()) == 1


def test_nothing_is_released_where_nothing_can_be_read(stage):
    stage.start()
    assert request(stage).outcome == "failed"


def test_release_whose_transaction_was_aborted_is_tried_again(stage):
    order = stage.source.create(ONE)
    says(stage, changed(order))
    stage.start()
    stage.kafka.fail(Fault.ABORTED)
    assert request(stage, correction=True).outcome == "done"
    assert len(stage.versjoner()) == 2


def test_signal_is_open_until_the_result_is_committed_and_goes_to_the_next_owner(stage):
    order = stage.source.create(ONE)
    gate, reached = threading.Event(), threading.Event()

    def understand(_trekkpliktig, _record):
        reached.set()
        assert gate.wait(10)
        return changed(order)

    stage.understand = understand
    stage.start()
    request = encode_request(OperatorRequest("w", "release", 1, record="3/17", correction=True))
    offset = stage.signal(ONE, request)
    assert reached.wait(10)
    stage.read()
    assert (stage.kafka.signal_offset(0) or 0) <= offset, "a later signal does not complete it"
    stage.stop()
    gate.set()
    assert stage.results() == {}
    stage.start()
    stage.lane.signal(ONE, offset, request)
    stage.wait_until(lambda: "w" in stage.results())
    assert (stage.results()["w"].outcome, len(stage.versjoner())) == ("done", 2)
