"""The worker that handles each event exactly once, on a topic and a ledger in memory."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import msgspec
import pytest

import schemas
from consumers.apply.worker import LedgerWorker
from consumers.observe.health import ConsumerHealth
from consumers.observe.port import LedgerObserver
from consumers.observe.prometheus import PrometheusLedgerObserver
from tests.kit.event_stream import Roughness, make_stream
from tests.kit.fakes.ledger import FakeDatabase, FakeLedger, LedgerFault
from tests.kit.fakes.subscription import FakeSubscription, FakeTopic
from tests.kit.waiting import until
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import (
    DisplacedError,
    FatalError,
    FencedError,
    ForgottenError,
    KafkaSettingsError,
    RefusedError,
    RetryableError,
    StoppedError,
)
from trekkpaalegg.exactly_once.worker import REJOIN_SECONDS_MIN, ConnectionPolicy, StoreThread, WorkerOptions
from trekkpaalegg.incoming import Advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ROUGH = Roughness(late=0.1, corrected=0.2)
UNTIL_END = WorkerOptions(until_end=True, batch_records_max=7)
STREAM = make_stream(1, 30, roughness=ROUGH)


class Hall:
    """A topic, a ledger, and one worker on both."""

    def __init__(self) -> None:
        self.topic = FakeTopic()
        self.database = FakeDatabase()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.stopping = threading.Event()
        self.decoder = Decoder()
        self.before_read: list[Callable[[FakeSubscription], None]] = []
        self.subscriptions: list[FakeSubscription] = []
        self._threads: list[StoreThread] = []

    def work(self, options: WorkerOptions = UNTIL_END, ledger: FakeLedger | None = None) -> LedgerWorker:
        """Until the end; the worker that did it."""
        worker = self.worker(options, ledger)
        worker.run(self.subscribe)
        return worker

    def worker(self, options: WorkerOptions = UNTIL_END, ledger: FakeLedger | None = None) -> LedgerWorker:
        self._threads.append(StoreThread())
        return LedgerWorker(
            ledger or FakeLedger(self.database), self._threads[-1], self.decoder, self.stopping, self.tell, options
        )

    def subscribe(self, owner: Any) -> FakeSubscription:
        self.subscriptions.append(FakeSubscription(self.topic, owner, self.before_read))
        return self.subscriptions[-1]

    def tell(self, event: str, **details: Any) -> None:
        self.told.append((event, details))

    def events_told(self) -> list[str]:
        return [event for event, _ in self.told]

    def close(self) -> None:
        assert all(thread.close(10) for thread in self._threads)


def tables_of(publications: list[Any]) -> Any:
    """The ledger of a worker that nothing disturbs."""
    hall = Hall()
    hall.topic.write(publications)
    hall.work()
    hall.close()
    return hall.database.tables


# Each event is applied once, whatever happens to the ledger


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


def test_a_second_worker_continues_where_the_first_ended(hall: Hall) -> None:
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


def test_trouble_is_reported_once_and_its_end_too(hall: Hall) -> None:
    hall.topic.write(STREAM[:10])
    hall.database.fail_next(LedgerFault.CUT, LedgerFault.CUT, LedgerFault.CUT)
    hall.work(WorkerOptions(until_end=True))
    told = [event for event in hall.events_told() if event in {"call failed; retrying", "retry succeeded"}]
    assert told == ["call failed; retrying", "retry succeeded"]


def test_a_refusing_ledger_ends_the_worker_with_its_message(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.database.fail_next(LedgerFault.REFUSED)
    with pytest.raises(FatalError, match="disk is full"):
        hall.work()
    assert hall.subscriptions[0].closed
    assert hall.database.tables.offsets == {}


def test_a_worker_whose_offsets_another_moved_continues_where_that_one_ended(hall: Hall) -> None:
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


def test_partitions_are_released_when_the_batch_in_progress_is_written(hall: Hall) -> None:
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


def test_the_request_to_stop_ends_it_after_the_batch_under_way(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.before_read += [lambda _: None, lambda _: hall.stopping.set()]
    hall.work(WorkerOptions(batch_records_max=10))
    assert hall.database.commits == 2, "the one under way, and the one that was read"
    assert hall.subscriptions[0].closed


def test_the_request_to_stop_ends_waiting_for_a_ledger_that_is_gone(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.database.fail_next(*[LedgerFault.CUT] * 1000)
    worker = hall.worker(WorkerOptions())
    running = threading.Thread(target=partial(worker.run, hall.subscribe))
    running.start()
    until(lambda: "call failed; retrying" in hall.events_told())
    began = time.monotonic()
    hall.stopping.set()
    running.join(60)
    assert not running.is_alive()
    assert time.monotonic() - began < 5
    assert hall.database.tables.offsets == {}


def test_a_ledger_that_hangs_is_left_some_time_after_the_request_to_stop(hall: Hall) -> None:
    """An unfinished batch is rolled back when the process ends, or its offsets show that it was committed."""
    hall.topic.write(STREAM)
    answers = threading.Event()

    class Hanging(FakeLedger):
        def transaction(self, advances: Any) -> Any:
            hall.stopping.set()
            answers.wait(60)
            return super().transaction(advances)

    with pytest.raises(StoppedError):
        hall.work(WorkerOptions(stop_seconds_max=0.1), Hanging(hall.database))
    answers.set()
    assert hall.subscriptions[0].closed


def test_progress_is_reported_at_intervals(hall: Hall) -> None:
    hall.topic.write(STREAM)
    hall.work(WorkerOptions(until_end=True, batch_records_max=10, status_seconds=0))
    applied = [details for event, details in hall.told if event == "applied"]
    assert [details["events"] for details in applied] == list(range(10, len(STREAM), 10))
    assert applied[0]["lag"] > applied[-1]["lag"]


# Undecodable and contradicting messages are kept and reported


def test_undecodable_messages_are_kept_and_reported(hall: Hall) -> None:
    hall.topic.write(STREAM[:5])
    hall.topic.write_raw(b"junk")
    hall.topic.write_raw(None, partition=1)
    assert hall.work().tally.undecodable == 2
    kept = FakeLedger(hall.database).undecodable()
    assert [(each.value, each.reason) for each in kept] == [
        (b"junk", "the value is in neither wire format: it begins with 6a75"),
        (None, "the message has no value"),
    ]
    told = [details for event, details in hall.told if event.startswith("undecodable")]
    assert sum(details["count"] for details in told) == 2


def test_more_undecodable_messages_than_allowed_stop_the_worker_and_keep_it_from_starting(hall: Hall) -> None:
    options = WorkerOptions(until_end=True, undecodable_max=1, batch_records_max=1)
    for _ in range(2):
        hall.topic.write_raw(b"junk")
    for _ in range(2):
        with pytest.raises(FatalError, match=r"2 messages could not be decoded.*retry"):
            hall.work(options)
    assert len(hall.subscriptions) == 1, "the second did not join at all"


def test_conflicts_are_kept_and_reported(hall: Hall) -> None:
    hall.topic.write([*STREAM[:1], _other_content(STREAM[0])])
    assert hall.work().conflicts == 1
    assert len(hall.database.tables.conflicts) == 1
    assert any(event.startswith("conflict") for event in hall.events_told())


def _other_content(publication: Any) -> Any:
    other = msgspec.structs.replace(publication.trekkpaalegg, saksnummer="other")
    return msgspec.structs.replace(publication, trekkpaalegg=other)


class SilentRegistry:
    """Raises so many times, then knows no schema."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def fetch_schema(self, schema_id: int) -> str:
        if self.failures:
            self.failures -= 1
            raise RetryableError(f"could not get schema {schema_id}")
        return schemas.load("trekkpaalegg_versjon").canonical_json


def test_a_silent_registry_is_waited_for_and_nothing_counts_as_undecodable(hall: Hall) -> None:
    hall.decoder = Decoder(SilentRegistry(failures=3))
    hall.topic.write(STREAM[:1])
    (message,) = [each for kept in hall.topic.messages.values() for each in kept if each is not None]
    confluent = b"\x00\x00\x00\x00\x07" + message.value()[10:]
    hall.topic = FakeTopic()
    hall.topic.write_raw(confluent)
    worker = hall.work()
    assert (worker.tally.events, worker.tally.undecodable) == (1, 0)
    assert hall.events_told().count("call failed; retrying") == 1


# When a consumer that Kafka refused, fenced or forgot tries again, and when it ends


class Door:
    """A policy with a clock that is moved by hand, and what it reported."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.policy = ConnectionPolicy(self.tell, LedgerObserver(), lambda: self.now)

    def tell(self, event: str, **details: Any) -> None:
        self.told.append(f"{event}: {details['reason']}" if details else event)


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_displaced_member_joins_again_at_most_once_a_minute(door: Door) -> None:
    door.policy.failed(DisplacedError("first"))
    door.now += REJOIN_SECONDS_MIN
    door.policy.failed(DisplacedError("second"))
    door.now += REJOIN_SECONDS_MIN - 1
    with pytest.raises(FencedError, match="third") as raised:
        door.policy.failed(DisplacedError("third"))
    assert ending_of(raised.value)[0] is ExitCode.FENCED
    assert [each.rpartition(": ")[2] for each in door.told] == ["first", "second"]


def test_a_refused_member_retries_every_temporary_error_until_admitted(door: Door) -> None:
    for error in (
        RefusedError("password"),
        RefusedError("password"),
        RetryableError("away"),
        KafkaSettingsError(["key"]),
    ):
        door.policy.failed(error)
    assert [each.rpartition(": ")[2] for each in door.told] == ["password", "away", "key"]
    door.policy.connected()
    for error in (RetryableError("away"), KafkaSettingsError(["key"])):
        with pytest.raises(type(error)):
            door.policy.failed(error)


def test_a_fatal_error_ends_it_also_after_a_refusal(door: Door) -> None:
    with pytest.raises(FatalError):
        door.policy.failed(FatalError("no such topic"))


def test_a_client_that_has_forgotten_its_brokers_is_replaced_at_once_and_as_often_as_it_happens(door: Door) -> None:
    for _ in range(3):
        door.policy.failed(ForgottenError("all forgotten"))
    assert door.told == ["all forgotten"] * 3


# What a worker reports to its observer: batches, trouble with the ledger, and progress
SMALL_STREAM = make_stream(3, 20, roughness=Roughness(late=0.1, corrected=0.2))
OPTIONS = WorkerOptions(batch_records_max=7, ask_seconds=0, waits_at_start=True)


class Observed:
    """A worker on a topic in memory, in a thread of its own, and its metrics."""

    def __init__(self, ledger: FakeLedger | None = None, silent: int = 0) -> None:
        self.topic, self.database = FakeTopic(), FakeDatabase()
        self.observer = PrometheusLedgerObserver(ConsumerHealth())
        self.stopping = threading.Event()
        self._silent = silent
        self._ledger_thread = StoreThread()
        self.worker = LedgerWorker(
            ledger or FakeLedger(self.database),
            self._ledger_thread,
            Decoder(),
            self.stopping,
            lambda *_, **__: None,
            OPTIONS,
            self.observer,
        )
        self._thread = threading.Thread(target=partial(self.worker.run, self._subscribe))

    def _subscribe(self, owner: Any) -> FakeSubscription:
        if self._silent:
            self._silent -= 1
            raise RetryableError("Kafka does not answer")
        return FakeSubscription(self.topic, owner, [])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self._ledger_thread.close(10)

    def value(self, name: str, **labels: str) -> float | None:
        return self.observer.registry.get_sample_value(f"trekkpaalegg_consumer_{name}", labels)


def test_all_events_are_reported_with_what_became_of_them_and_it_has_caught_up() -> None:
    observed = Observed()
    observed.topic.write(SMALL_STREAM)
    observed.topic.write(SMALL_STREAM[:3])
    observed.topic.write_raw(b"junk")
    with observed:
        until(lambda: observed.value("caught_up") == 1)
        until(lambda: observed.value("undecodable_messages") == 1)
    told = [observed.value("events_total", outcome=each) for each in ("new", "late", "correction", "conflict", "known")]
    assert sum(each or 0 for each in told) == len(SMALL_STREAM) + 3
    assert told[3] == 0
    assert all(told[:3])
    assert [observed.value("lag", partition=each) for each in "01"] == [0, 0]
    assert (observed.value("batch_seconds_count") or 0) > 1


def test_a_silent_kafka_is_waited_for_at_the_start_if_requested() -> None:
    with Observed(silent=2) as observed:
        until(lambda: observed.value("caught_up") == 1)
    assert observed.value("failures_total", service="kafka") == 2


def test_an_idle_worker_notices_a_ledger_that_is_away_and_a_retry_by_another() -> None:
    class Counted(FakeLedger):
        """Fails, then says that so many lie there."""

        answers: tuple[str | int, ...] = (4, 4, "away", "away", 0)

        def count_undecodable(self) -> int:
            first, *rest = self.answers
            self.answers = tuple(rest) or self.answers
            if isinstance(first, str):
                raise RetryableError(first)
            return first

    with Observed(Counted()) as observed:
        until(lambda: observed.value("failures_total", service="ledger") == 2)
        until(lambda: observed.value("undecodable_messages") == 0)
        until(lambda: observed.observer.health.missing() == {})


def test_trouble_in_a_batch_is_counted_and_its_end_reported() -> None:
    observed = Observed()
    observed.topic.write(SMALL_STREAM)
    observed.database.fail_next(LedgerFault.CUT, LedgerFault.CUT)
    with observed:
        until(lambda: observed.value("caught_up") == 1)
        assert observed.observer.health.missing() == {}
    assert observed.value("failures_total", service="ledger") == 2
