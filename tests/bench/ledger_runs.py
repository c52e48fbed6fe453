"""Fill ledgers from the topics of a stage, by the raw loop and by the real consumer, and measure both."""

from __future__ import annotations

import multiprocessing
import threading
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from figures import Figures, measured
from ledger_raw_loop import ledger_raw_loop

from consumers.apply.worker import LedgerWorker
from consumers.bootstrap import subscribe, topic_of
from consumers.ledger.opening import open_ledger
from consumers.settings.model import load_settings
from trekkpaalegg.cli import rare_garbage_collection
from trekkpaalegg.decode import Decoder
from trekkpaalegg.exactly_once.worker import StoreThread, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from consumer_stage import Stage

    from consumers.ledger.port import Ledger, LedgerTransaction
    from trekkpaalegg.incoming import Advance, Partition

_CLOSE_SECONDS_MAX = 10.0
_MEMORY = ("before_bytes", "after_bytes", "peak_bytes")
_ROWS = """
SELECT md5(coalesce(string_agg(row, '' ORDER BY row), '')) FROM (
    SELECT 'versjon ' || h::text AS row FROM trekkpaalegg_versjon h
    UNION ALL SELECT 'newest ' || n::text FROM trekkpaalegg n
    UNION ALL SELECT 'periode ' || p::text FROM trekkstoerrelse_for_periode p
) AS rows
"""


class Run(msgspec.Struct, frozen=True):
    """What one consumer did; `first` and `last` by the clock that all processes share."""

    events: int
    first: float
    last: float
    figures: Figures


def run_raw_loop(stage: Stage, newest_only: bool = False) -> Figures:
    """The measure of all: see `ledger_raw_loop`."""
    ledger = _fresh_ledger(stage)
    topic = stage.topic("gjeldende" if newest_only else "versjoner")

    def work() -> tuple[int, int, float]:
        begun = time.monotonic()
        count = ledger_raw_loop(stage.settings["KAFKA_BROKERS"], topic, ledger, stage.events, newest_only=newest_only)
        return count, stage.events, time.monotonic() - begun

    return _with_rows(measured("raw", work), ledger)


def run_ledger(stage: Stage, newest_only: bool = False) -> Figures:
    """The worker, until the end of the topic."""
    ledger = _fresh_ledger(stage)
    return _with_rows(_complete(stage, [consume(stage.settings, ledger, newest_only)]), ledger)


def run_ledger_twice(stage: Stage) -> Figures:
    """Two workers in processes of their own, who share the partitions of one ledger."""
    ledger = _fresh_ledger(stage)
    # This process is a case's own, and has no threads yet.
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        runs = [each.result() for each in [pool.submit(consume, stage.settings, ledger) for _ in range(2)]]
    return _with_rows(_complete(stage, runs), ledger)


def run_into_sqlite(stage: Stage) -> Figures:
    """The worker, into a file."""
    return _complete(stage, [consume(stage.settings, f"sqlite:///{stage.folder}/ledger-{uuid.uuid4().hex[:12]}.db")])


def consume(environment: dict[str, str], url: str, newest_only: bool = False) -> Run:
    """Apply all that is in the topics to the ledger at `url`."""
    settings = load_settings(None, environment)
    ledger = _TimedLedger(open_ledger(url))
    ledger_thread = StoreThread()
    options = WorkerOptions(until_end=True)
    worker = LedgerWorker(
        ledger, ledger_thread, Decoder(), threading.Event(), lambda *_, **__: None, options, newest_only=newest_only
    )
    topic = topic_of(settings, newest_only=newest_only)

    def work() -> tuple[int, int, float]:
        worker.run(lambda owner: subscribe(settings, topic, ledger, owner))
        return worker.tally.events, worker.tally.events, ledger.last - ledger.first

    with rare_garbage_collection():  # as the command does
        figures = measured("ledger", work)
    ledger_thread.submit(ledger.close)
    ledger_thread.close(_CLOSE_SECONDS_MAX)
    return Run(worker.tally.events, ledger.first, ledger.last, figures)


class _TimedLedger:
    """A ledger, and when its first partitions were claimed and the last batch was committed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.id = ledger.id
        self.first = self.last = 0.0

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        self.first = self.first or time.monotonic()
        return self._ledger.next_offsets(topic, partitions)

    @contextmanager
    def transaction(self, advances: Mapping[Partition, Advance]) -> Iterator[LedgerTransaction]:
        with self._ledger.transaction(advances) as transaction:
            yield transaction
        self.last = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def _complete(stage: Stage, runs: list[Run]) -> Figures:
    """What all consumers of a ledger cost together. One who came too late to get anything to do has no times."""
    events = sum(run.events for run in runs)
    if events != stage.events:
        raise RuntimeError(f"{events} of {stage.events} events applied")
    busy = [run for run in runs if run.events]
    memory = {name: _sum([getattr(run.figures, name) for run in runs]) for name in _MEMORY}
    return msgspec.structs.replace(
        runs[0].figures,
        versions=events,
        orders=stage.events,
        wall_seconds=max(run.last for run in busy) - min(run.first for run in busy),
        cpu_seconds=sum(run.figures.cpu_seconds for run in runs),
        **memory,
    )


def _sum(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(numbers)


def _fresh_ledger(stage: Stage) -> str:
    """URL of an empty ledger with its tables."""
    url = stage.fresh_ledger()
    open_ledger(url).close()
    return url


def _with_rows(figures: Figures, ledger: str) -> Figures:
    """Which rows the ledger has, so that less work does not pass for equal work."""
    with psycopg.connect(ledger) as connection:
        return msgspec.structs.replace(figures, rows_digest=connection.execute(_ROWS).fetchone()[0])
