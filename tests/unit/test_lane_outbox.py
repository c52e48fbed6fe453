"""What a lane writes outside of its transactions: each observation for its home, questions for all, and signals."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from producer.domain.observation import Observation, Question, order_key
from producer.domain.trekkpaalegg import Origin
from producer.encode.observation import decode
from producer.lane.outbox import Outbox
from producer.publish.port import ANY_PARTITION, Row
from producer.publish.topics import home_of
from tests.kit.fakes.observations import FakeObservations, WriteFault
from tests.kit.fakes.source import FakeSource
from tests.kit.versions import rejected_version
from trekkpaalegg.errors import RetryableError

ONE = "311111111"
LANES = 4


class Signals:
    """Keeps signals, whose futures tests end."""

    def __init__(self):
        self.begun = []

    def begin(self, trekkpliktig, value, partition=ANY_PARTITION):
        stored = Future()
        self.begun.append((trekkpliktig, value, partition, stored))
        return stored


class Desk:
    """An outbox; `ended` is what its calls have ended with, as far as the lane's queue has been worked off."""

    def __init__(self):
        self.observations, self.source, self.signals = FakeObservations(LANES), FakeSource(), Signals()
        self.queue, self.ended = [], []
        self.outbox = Outbox(self.observations.writer(), self.signals, LANES, self.queue.append)

    def observe(self, element, origin=Origin.POLL):
        return Observation(order_key(element), ONE, origin, element, requests=("r",))

    def work(self):
        while self.queue:
            self.queue.pop(0)()
        return self.ended

    def stored(self):
        """What stands in Kafka, by home and row."""
        return {
            (home, row): observed
            for home in range(LANES)
            for row in Row
            if (observed := [self._decoded(each) for each in self.observations.records(home, row)])
        }

    def _decoded(self, record):
        return decode(record.key, record.value, record.headers, self.source.read_element)


@pytest.fixture
def desk():
    return Desk()


@pytest.mark.parametrize("row", list(Row))
def test_each_observation_is_written_for_the_home_of_its_order_in_their_order(desk, row):
    observed = [desk.observe(desk.source.create(ONE)) for _ in range(20)]
    observed.append(desk.observe(rejected_version(None, trekkid=None)))
    observed.append(Observation(observed[0].key, ONE, Origin.RECONCILE))
    desk.outbox.hand_over(row, observed, desk.ended.append)
    assert desk.work() == [None]
    stored = desk.stored()
    assert len(stored) == LANES
    for (home, written_to), found in stored.items():
        assert written_to is row
        assert found == [each for each in observed if home_of(each.key, LANES) == home]


@pytest.mark.parametrize("fault", [WriteFault.LATE, WriteFault.ANSWER_LATE])
def test_hand_over_ends_when_every_record_is_stored_and_in_the_thread_of_the_lane(desk, fault):
    observed = [desk.observe(desk.source.create(ONE)) for _ in range(3)]
    desk.observations.fail(fault)
    desk.outbox.hand_over(Row.URGENT, observed, desk.ended.append)
    assert desk.work() == []
    desk.observations.catch_up()
    assert desk.ended == []
    assert desk.work() == [None]


@pytest.mark.parametrize("fault", [WriteFault.REFUSED, WriteFault.ANSWER_LOST])
def test_hand_over_of_which_one_record_may_not_be_stored_fails_once_all_have_ended(desk, fault):
    observed = [desk.observe(desk.source.create(ONE)) for _ in range(3)]
    desk.observations.fail(fault)
    desk.observations.fail(WriteFault.LATE)
    desk.outbox.hand_over(Row.BULK, observed, desk.ended.append)
    assert desk.work() == []
    desk.observations.catch_up()
    [error] = desk.work()
    assert isinstance(error, RetryableError)


def test_question_is_put_to_every_home_behind_what_was_handed_over_before(desk):
    observed = [desk.observe(desk.source.create(ONE)) for _ in range(20)]
    desk.outbox.hand_over(Row.BULK, observed, desk.ended.append)
    desk.outbox.ask(Question(ONE, "r"), desk.ended.append)
    assert desk.work() == [None, None]
    stored = desk.stored()
    assert stored.keys() == {(home, Row.BULK) for home in range(LANES)}
    assert all(found[-1] == Question(ONE, "r") for found in stored.values())


def test_question_that_may_not_have_come_to_every_home_fails(desk):
    desk.observations.fail(WriteFault.REFUSED)
    desk.outbox.ask(Question(ONE, "r"), desk.ended.append)
    assert isinstance(desk.work()[0], RetryableError)


def test_signal_goes_to_the_lane_of_its_key_or_to_the_one_that_is_given(desk):
    desk.outbox.signal(ONE, b"answer", desk.ended.append)
    desk.outbox.signal("*", b"show", desk.ended.append, 3)
    assert [each[:3] for each in desk.signals.begun] == [(ONE, b"answer", ANY_PARTITION), ("*", b"show", 3)]
    lost = RetryableError("not stored")
    desk.signals.begun[1][3].set_exception(lost)
    desk.signals.begun[0][3].set_result(None)
    assert desk.work() == [lost, None]
