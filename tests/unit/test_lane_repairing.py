"""A lane compares what it has published with the history while it continues, and publishes again what was lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from producer.detect.repair import Lost
from producer.domain.requests import REPAIR, OperatorRequest
from producer.domain.state import LOST, Missing
from producer.encode.signal import EVERYBODY, encode_request
from producer.encode.state import decode_results
from producer.publish.port import Loss, Record
from producer.publish.state import RESULTS
from tests.kit.fakes.publisher import Fault
from tests.kit.stages.lane_stage import LaneStage, event
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.domain.requests import RequestResult
    from producer.domain.state import OrderBook

ONE = "311111111"
NOTHING = Loss({}, {})


@pytest.fixture
def stage() -> Iterator[LaneStage]:
    with LaneStage([ONE]) as made:
        yield made


class Losses:
    """Finds one loss after another, at last nothing; knows which orders were compared."""

    def __init__(self, *losses: Loss | Exception) -> None:
        self.compared: list[OrderBook] = []
        self.opened = threading.Event()
        self.opened.set()
        self._losses = list(losses)

    def __call__(self, lane: int, orders: OrderBook) -> Loss:
        assert lane == 0
        self.compared.append(orders)
        assert self.opened.wait(60)
        found = self._losses.pop(0) if self._losses else NOTHING
        if isinstance(found, Exception):
            raise found
        return found


def results(stage: LaneStage) -> list[RequestResult]:
    written = stage.kafka.committed(stage.kafka.topics.positions)
    values = [each.value for each in written if each.key == EVERYBODY.encode() + RESULTS and each.value is not None]
    return [result for value in values for result in decode_results(value)]


def ask(stage: LaneStage, name: str = "r") -> None:
    stage.signal(EVERYBODY, encode_request(OperatorRequest(name, REPAIR, 1)))


def repair(stage: LaneStage, name: str = "r") -> RequestResult:
    before = len(results(stage))
    ask(stage, name)
    stage.wait_until(lambda: len(results(stage)) > before)
    return results(stage)[-1]


def test_what_was_lost_is_published_again_when_all_lists_are_shown(stage: LaneStage) -> None:
    version = stage.source.create(ONE)
    later = stage.source.change(version.trekkid)
    stage.find_lost = Losses(Loss({version.trekkid.encode(): Lost((Missing(1, 2, LOST),))}, {}))
    stage.start()
    result = repair(stage)
    assert (result.outcome, result.vanished, result.request.orders_read) == ("done", 2, 1)
    again = [event(version, "repair"), event(later, "repair")]
    stage.wait_until(lambda: stage.versjoner()[2:] == again)
    assert stage.versjoner()[2:] == again
    assert len(stage.gjeldende()) == 2, "it has them, and never an older one after a newer"
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)


def test_a_copy_goes_to_gjeldende_unless_a_newer_version_was_published_meanwhile(stage: LaneStage) -> None:
    first, second = (stage.source.create(ONE) for _ in range(2))
    stage.start()
    keys = [each.trekkid.encode() for each in (first, second)]
    copies = {key: Record(stage.kafka.topics.gjeldende, key, b"copy", {}, 0) for key in keys}
    stage.find_lost = losses = Losses(Loss(dict.fromkeys(keys, Lost(behind=1)), copies))
    losses.opened.clear()
    stage.start()
    ask(stage)
    stage.source.change(second.trekkid)
    stage.read(ONE)
    losses.opened.set()
    stage.wait_until(lambda: bool(results(stage)))
    written = stage.kafka.committed(stage.kafka.topics.gjeldende)
    assert [each.key for each in written if each.value == b"copy"] == [first.trekkid.encode()]
    assert results(stage)[0].request.published == 2


def test_what_is_published_while_the_history_is_read_is_not_compared(stage: LaneStage) -> None:
    version = stage.source.create(ONE)
    stage.find_lost = losses = Losses()
    losses.opened.clear()
    stage.start()
    ask(stage)
    stage.wait_until(lambda: bool(losses.compared))
    stage.source.change(version.trekkid)
    stage.read(ONE)
    losses.opened.set()
    stage.wait_until(lambda: bool(results(stage)))
    assert losses.compared[0].order(version.trekkid.encode()).trekkversjon == 1
    assert len(stage.versjoner()) == 2


def test_it_is_compared_again_until_all_copies_are_made_and_one_request_after_another(stage: LaneStage) -> None:
    stage.find_lost = losses = Losses(Loss({}, {}, is_all=False), NOTHING)
    stage.start()
    losses.opened.clear()
    ask(stage, "a")
    ask(stage, "b")
    ask(stage, "a")
    losses.opened.set()
    stage.wait_until(lambda: len(results(stage)) == 2)
    assert [each.request.id for each in results(stage)] == ["a", "b"]
    assert len(losses.compared) == 3
    ask(stage, "a")
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    assert len(losses.compared) == 3, "it is completed"


@pytest.mark.parametrize(
    ("error", "detail"), [(RetryableError("no answer"), "no answer"), (KeyError("311111111"), "it broke: KeyError")]
)
def test_a_comparison_that_fails_says_why_and_the_lane_continues(
    stage: LaneStage, error: Exception, detail: str
) -> None:
    stage.find_lost = Losses(error)
    stage.start()
    assert (repair(stage, "a").outcome, results(stage)[0].detail) == ("failed", detail)
    assert repair(stage, "b").outcome == "done"


def test_nothing_is_compared_by_a_lane_that_cannot(stage: LaneStage) -> None:
    stage.start()
    assert repair(stage).detail == "nothing can be compared here"


def test_a_transaction_that_is_aborted_is_repeated_and_the_signal_stays_open_until_the_result(stage: LaneStage) -> None:
    version = stage.source.create(ONE)
    stage.find_lost = losses = Losses(Loss({version.trekkid.encode(): Lost((Missing(1, 1, LOST),))}, {}))
    stage.start()
    before = stage.signals
    losses.opened.clear()
    ask(stage)
    stage.wait_until(lambda: bool(losses.compared))
    assert stage.kafka.signal_offset(0) in {None, before}
    stage.kafka.fail(Fault.ABORTED)
    losses.opened.set()
    stage.wait_until(lambda: stage.versjoner()[1:] == [event(version, "repair")])
    assert [each.outcome for each in results(stage)] == ["done"]


def test_corrections_that_are_lost_are_named(stage: LaneStage) -> None:
    version = stage.source.create(ONE)
    stage.find_lost = Losses(Loss({version.trekkid.encode(): Lost(corrections=((1, 0),))}, {}))
    stage.start()
    assert repair(stage).detail == f"{version.trekkid}/1"
