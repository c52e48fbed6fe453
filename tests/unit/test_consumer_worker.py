"""The worker on a topic and a ledger in memory: each event is applied once, whatever the ledger meets."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.fakes.ledger import FakeLedger, LedgerFault
from tests.kit.waiting import until
from tests.unit.consumer_hall import STREAM, Hall, tables_of
from trekkpaalegg.errors import FatalError, StoppedError
from trekkpaalegg.exactly_once.worker import WorkerOptions
from trekkpaalegg.incoming import Advance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.fakes.subscription import FakeSubscription


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.close()


def test_everything_up_to_the_end_is_applied_and_shown_to_the_group(hall: Hall) -> None:
    hall.topic.write(STREAM)
    worker = hall.work()
    tables = hall.database.tables
    assert len(tables.newest) == 30
    assert len(tables.history) == len({(each.trekkpaalegg.trekkid, each.trekkpaalegg.trekkversjon) for each in STREAM})
    assert worker.tally.events == len(STREAM)
    ends = {("test-versjoner", partition): end for partition, end in hall.topic.ends().items()}
    assert tables.offsets == hall.subscriptions[0].shown == ends
    assert hall.subscriptions[0].closed


def test_a_second_worker_goes_on_where_the_first_ended(hall: Hall) -> None:
    hall.topic.write(STREAM[:50])
    hall.work()
    hall.topic.write(STREAM[50:])
    assert hall.work().tally.events == len(STREAM) - 50
    assert hall.database.tables.history == tables_of(STREAM).history


@pytest.mark.parametrize("fault", [LedgerFault.CUT, LedgerFault.ANSWER_LOST])
def test_a_connection_lost_before_or_in_the_commit_loses_and_doubles_nothing(hall: Hall, fault: LedgerFault) -> None:
    hall.topic.write(STREAM)
    hall.database.fail_next(fault, fault)
    hall.work()
    assert hall.database.tables == tables_of(STREAM)
    assert "call failed; retrying" in hall.events_told()


def test_trouble_is_told_once_and_its_end_too(hall: Hall) -> None:
    hall.topic.write(STREAM[:10])
    hall.database.fail_next(LedgerFault.CUT, LedgerFault.CUT, LedgerFault.CUT)
    hall.work(WorkerOptions(until_end=True))
    told = [event for event in hall.events_told() if event in {"call failed; retrying", "retry succeeded"}]
    assert told == ["call failed; retrying", "retry succeeded"]


def test_a_refusing_ledger_ends_the_worker_with_its_words(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.database.fail_next(LedgerFault.REFUSED)
    with pytest.raises(FatalError, match="disk is full"):
        hall.work()
    assert hall.subscriptions[0].closed
    assert hall.database.tables.offsets == {}


def test_one_whose_offsets_were_moved_by_another_reads_on_where_that_one_ended(hall: Hall) -> None:
    """Another consumer applies everything while this one has read, and not yet written, its first batch."""
    hall.topic.write(STREAM)
    other = Hall()
    other.topic, other.database = hall.topic, hall.database
    hall.before_read.append(lambda _: None)
    hall.before_read.append(lambda _: other.work() and None)
    worker = hall.work(WorkerOptions(until_end=True, batch_records_max=len(STREAM) // 2))
    other.close()
    assert hall.database.tables == tables_of(STREAM)
    assert worker.tally.events < len(STREAM)


def test_a_batch_that_another_has_moved_past_is_not_written(hall: Hall) -> None:
    hall.topic.write(STREAM)
    ledger = FakeLedger(hall.database)
    moved = {("test-versjoner", 0): Advance(0, 5)}

    class Overtaking(FakeLedger):
        def transaction(self, advances: Any) -> Any:
            if moved:
                with ledger.transaction(dict([moved.popitem()])):
                    pass
            return super().transaction(advances)

    hall.work(ledger=Overtaking(hall.database))
    assert "overtaken" in hall.events_told()
    places = {incoming.trekkpaalegg.trekkid for incoming in STREAM}
    assert set(hall.database.tables.newest) <= places
    assert hall.database.tables.offsets == {("test-versjoner", p): end for p, end in hall.topic.ends().items()}


def test_partitions_are_given_up_when_the_batch_under_way_is_written(hall: Hall) -> None:
    hall.topic.write(STREAM)
    offsets = []

    def give_up(subscription: FakeSubscription) -> None:
        subscription.give_up([1])
        offsets.append(dict(hall.database.tables.offsets))
        hall.stopping.set()

    hall.before_read += [lambda _: None, give_up]
    hall.work(WorkerOptions(batch_records_max=1000))
    assert offsets == [{("test-versjoner", partition): end for partition, end in hall.topic.ends().items()}]


def test_the_end_is_reached_when_the_others_have_reached_theirs_too(hall: Hall) -> None:
    hall.topic.write(STREAM)
    other, moved = ("test-versjoner", 1), []

    def apply_the_rest(_: FakeSubscription) -> None:
        with FakeLedger(hall.database).transaction({other: Advance(0, hall.topic.ends()[1])}):
            moved.append(other)

    hall.before_read += [lambda subscription: subscription.give_up([1]), *[lambda _: None] * 9, apply_the_rest]
    hall.work(WorkerOptions(until_end=True))
    assert moved == [other]


def test_the_word_to_stop_ends_it_after_the_batch_under_way(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.before_read += [lambda _: None, lambda _: hall.stopping.set()]
    hall.work(WorkerOptions(batch_records_max=10))
    assert hall.database.commits == 2, "the one under way, and the one that was read"
    assert hall.subscriptions[0].closed


def test_the_word_to_stop_ends_waiting_for_a_ledger_that_is_gone(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.database.fail_next(*[LedgerFault.CUT] * 1000)
    worker = hall.worker(WorkerOptions())
    running = threading.Thread(target=partial(worker.run, hall.subscribe))
    running.start()
    until(lambda: "call failed; retrying" in hall.events_told())
    began = time.monotonic()
    hall.stopping.set()
    running.join(10)
    assert not running.is_alive()
    assert time.monotonic() - began < 5
    assert hall.database.tables.offsets == {}


def test_a_ledger_that_hangs_is_left_some_time_after_the_word_to_stop(hall: Hall) -> None:
    """What it was asked to write is rolled back when the process ends, or its offsets tell that it stands."""
    hall.topic.write(STREAM)
    answers = threading.Event()

    class Hanging(FakeLedger):
        def transaction(self, advances: Any) -> Any:
            hall.stopping.set()
            answers.wait(30)
            return super().transaction(advances)

    with pytest.raises(StoppedError):
        hall.work(WorkerOptions(stop_seconds_max=0.1), Hanging(hall.database))
    answers.set()
    assert hall.subscriptions[0].closed


def test_progress_is_told_at_intervals(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.work(WorkerOptions(until_end=True, batch_records_max=10, status_seconds=0))
    applied = [details for event, details in hall.told if event == "applied"]
    assert [details["events"] for details in applied] == list(range(10, len(STREAM), 10))
    assert applied[0]["lag"] > applied[-1]["lag"]
