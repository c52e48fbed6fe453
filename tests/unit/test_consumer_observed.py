"""What a worker tells whoever observes it: its batches, the ledger's trouble, and how far it has come."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, Self

from consumers.apply.worker import LedgerWorker
from consumers.observe.health import ConsumerHealth
from consumers.observe.prometheus import PrometheusLedgerObserver
from tests.kit.event_stream import Roughness, make_stream
from tests.kit.fakes.ledger import FakeDatabase, FakeLedger, LedgerFault
from tests.kit.fakes.subscription import FakeSubscription, FakeTopic
from tests.kit.waiting import until
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.exactly_once.worker import StoreThread, WorkerOptions

STREAM = make_stream(3, 20, roughness=Roughness(late=0.1, corrected=0.2))
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
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self._ledger_thread.close(10)

    def value(self, name: str, **labels: str) -> float | None:
        return self.observer.registry.get_sample_value(f"trekkpaalegg_consumer_{name}", labels)


def test_all_events_are_told_with_what_became_of_them_and_it_has_caught_up() -> None:
    observed = Observed()
    observed.topic.write(STREAM)
    observed.topic.write(STREAM[:3])
    observed.topic.write_raw(b"junk")
    with observed:
        until(lambda: observed.value("caught_up") == 1)
        until(lambda: observed.value("undecodable_messages") == 1)
    told = [observed.value("events_total", outcome=each) for each in ("new", "late", "correction", "conflict", "known")]
    assert sum(each or 0 for each in told) == len(STREAM) + 3
    assert told[3] == 0
    assert all(told[:3])
    assert [observed.value("lag", partition=each) for each in "01"] == [0, 0]
    assert (observed.value("batch_seconds_count") or 0) > 1


def test_a_kafka_that_is_silent_at_the_start_is_waited_for_where_that_is_wanted() -> None:
    with Observed(silent=2) as observed:
        until(lambda: observed.value("caught_up") == 1)
    assert observed.value("failures_total", service="kafka") == 2


def test_a_ledger_that_is_away_shows_though_nothing_comes_and_so_does_a_retry_elsewhere() -> None:
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


def test_trouble_in_a_batch_is_counted_and_its_end_told() -> None:
    observed = Observed()
    observed.topic.write(STREAM)
    observed.database.fail_next(LedgerFault.CUT, LedgerFault.CUT)
    with observed:
        until(lambda: observed.value("caught_up") == 1)
        assert observed.observer.health.missing() == {}
    assert observed.value("failures_total", service="ledger") == 2
