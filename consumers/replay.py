"""A ledger's URL in, the same ledger rebuilt from the topic beside itself, compared and swapped in, out.

The live consumer goes on meanwhile, and reads its offsets anew after the swap.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from consumers.exit_codes import StoppedError
from consumers.ledger.port import Advance
from consumers.ledger.staging.opening import open_replay_target
from consumers.ledger.staging.port import Differences
from consumers.ledger_thread import LedgerThread
from consumers.patience import Patience
from consumers.whole_topic import WholeTopic, ends_of, offsets_at
from consumers.worker import UNDECODABLE_MAX_DEFAULT, Worker, WorkerOptions

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from consumers.decode import Decoder
    from consumers.ledger.port import Ledger
    from consumers.ledger.staging.port import ReplayTarget

    class ReplayWatch(Protocol):
        """Who is told how far a replay has come."""

        def expect(self, offsets: int, *, continued: bool) -> None:
            """So many offsets are to be read; whether an interrupted replay is taken up."""

        def advance(self, offsets: int) -> None:
            """So many more are in the fresh ledger."""

        def tell(self, event: str, **details: object) -> None:
            """Something that people may want to know."""


T = TypeVar("T")

DIFFERENCES_SHOWN_MAX = 20
_CLOSE_SECONDS_MAX = 5.0


class ReplayOptions(msgspec.Struct, frozen=True):
    """From when (None: the beginning), and what: with `newest_only` the current state from `…-gjeldende`.

    From a time on it begins with a copy of the live ledger, in which the topic's word replaces what stands otherwise.
    """

    start: datetime | None = None
    newest_only: bool = False
    undecodable_max: int = UNDECODABLE_MAX_DEFAULT
    swap: bool = True


class Outcome(msgspec.Struct, frozen=True):
    """What a replay did."""

    events: int
    undecodable: int
    continued: bool
    differences: Differences
    swapped: bool


class Stream(msgspec.Struct, frozen=True):
    """Where events are read: Kafka by these properties, and the names of both topics."""

    properties: dict[str, str]
    versjoner: str
    gjeldende: str


class Replay:
    """One replay. Everything that touches the fresh ledger runs in one thread of its own."""

    def __init__(
        self, stream: Stream, decoder: Decoder, options: ReplayOptions, stopping: threading.Event, watch: ReplayWatch
    ) -> None:
        self._stream = stream
        self._decoder = decoder
        self._options = options
        self._stopping = stopping
        self._watch = watch
        self._topic = stream.gjeldende if options.newest_only else stream.versjoner
        self._thread = LedgerThread()

    def run(self, url: str) -> Outcome:
        """Rebuild the ledger at this URL, compare, swap.

        Raises as `open_replay_target`, `Worker.run` and `ends_of`, and `StoppedError` when `stopping` was set before
        the swap: started again with the same options it then goes on where it was.
        """
        begins = "the beginning" if self._options.start is None else self._options.start.astimezone(UTC).isoformat()
        plan = f"{self._topic} from {begins}"
        try:
            target = self._in_thread(lambda: open_replay_target(url, plan, copy=self._options.start is not None))
            try:
                return self._fill_and_swap(target)
            finally:
                self._thread.submit(target.close)
        finally:
            self._thread.close(_CLOSE_SECONDS_MAX)

    def _fill_and_swap(self, target: ReplayTarget) -> Outcome:
        options = self._options
        if not target.continued:
            self._place(target.ledger)
        self._watch.expect(self._count_ahead(target.ledger), continued=target.continued)
        worker_options = WorkerOptions(
            newest_only=options.newest_only,
            until_end=True,
            undecodable_max=options.undecodable_max,
            rewriting=options.start is not None,
        )
        worker = Worker(target.ledger, self._thread, self._decoder, self._stopping, self._watch.tell, worker_options)
        worker.run(lambda owner: WholeTopic(self._stream.properties, self._topic, owner, self._watch.advance))
        if self._stopping.is_set():
            raise StoppedError
        differences = self._in_thread(
            lambda: target.differences(DIFFERENCES_SHOWN_MAX, newest_only=options.newest_only)
        )
        if options.swap:
            self._in_thread(lambda: Patience(self._stopping, self._watch.tell).call(target.swap))
        else:
            self._in_thread(target.drop)
        tally = worker.tally
        return Outcome(tally.events, tally.undecodable, target.continued, differences, options.swap)

    def _count_ahead(self, fresh: Ledger) -> int:
        ends = ends_of(self._stream.properties, self._topic)
        reached = self._in_thread(lambda: fresh.next_offsets(self._topic, ends.keys()))
        return sum(max(end - reached[partition], 0) for partition, end in ends.items())

    def _place(self, fresh: Ledger) -> None:
        """Say where the fresh ledger begins, and, built from the current state, where its live consumer goes on.

        The ends of `…-versjoner` are taken before `…-gjeldende` is read: what comes meanwhile is read twice, not never.
        """
        start, stream = self._options.start, self._stream
        if start is not None:
            self._move(fresh, self._topic, offsets_at(stream.properties, self._topic, int(start.timestamp() * 1000)))
        elif self._options.newest_only:
            self._move(fresh, stream.versjoner, ends_of(stream.properties, stream.versjoner))

    def _move(self, fresh: Ledger, topic: str, offsets: Mapping[int, int]) -> None:
        def move() -> None:
            before = fresh.next_offsets(topic, offsets.keys())
            # Of a copy never forward: what the live ledger has not read yet is to be read.
            wanted = {partition: min(offset, before[partition] or offset) for partition, offset in offsets.items()}
            advances = {(topic, partition): Advance(before[partition], offset) for partition, offset in wanted.items()}
            with fresh.transaction(advances):
                pass

        self._in_thread(move)

    def _in_thread(self, call: Callable[[], T]) -> T:
        return self._thread.submit(call).result()
