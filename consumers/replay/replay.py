"""Rebuilding a ledger from the topic: filling a fresh one, comparing it with the live one, and swapping it in.

The greatest danger of a replay is a topic that has lost messages: the ledger would lack their orders, and nothing would
be withheld for them any more. So losses are detected before anything is read.

The live consumer keeps running, and reads its offsets again after the swap. Until then the ledger may lack the last
events of the former one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from consumers.apply.decide import Rewriting
from consumers.apply.worker import BATCH_RECORDS_MAX, UNDECODABLE_MAX_DEFAULT, LedgerWorker
from consumers.ledger import tables
from consumers.ledger.address import PostgresqlAddress, address_of
from consumers.ledger.opening import Inspection
from consumers.replay.postgresql import open_postgresql_target
from consumers.replay.sqlite import open_sqlite_target
from consumers.replay.target import Differences
from consumers.replay.topic import Extent, TopicExtents, WholeTopic
from trekkpaalegg.errors import FatalError, RetryableError, StoppedError
from trekkpaalegg.exactly_once.worker import StoreThread, WorkerOptions
from trekkpaalegg.incoming import Advance, Coordinates, Partition
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from consumers.replay.target import ReplayTarget
    from trekkpaalegg.decode import Decoder

    class ReplayWatch(Protocol):
        """Receives the progress of a replay."""

        def begin(self, *, continued: bool) -> None:
            """The replay begins; `continued`: it continues an interrupted one."""

        def expect(self, offsets: int) -> None:
            """This number of further offsets will be read."""

        def advance(self, offsets: int) -> None:
            """This number of further offsets was applied to the fresh ledger."""

        def report(self, event: str, **details: object) -> None:
            """An event that an operator may want to know."""


def missing_of(extent: Extent, next_offsets: Mapping[int, int]) -> dict[int, int]:
    """By partition, the topic's first offset, if it is beyond the offset at which reading was to begin."""
    return {partition: begin for partition, begin in extent.begins.items() if next_offsets.get(partition, 0) < begin}


def losses_of(
    read_topic: str,
    extents: Mapping[str, Extent],
    next_offsets: Mapping[int, int],
    live: Mapping[Partition, int],
    *,
    copied: bool,
) -> list[str]:
    """Every loss, as a line of text.

    `extents`: those of the topics that the ledger may have been filled from, read after its offsets (`live`).
    `next_offsets`: where reading of `read_topic` begins. With `copied` the content of the live ledger is kept, whatever
    the topic has lost since.
    """
    found = [
        f"{read_topic}/{partition} begins at offset {begin}, and is to be read from {next_offsets.get(partition, 0)}:"
        " messages were deleted"
        for partition, begin in sorted(missing_of(extents[read_topic], next_offsets).items())
    ]
    others = sorted({topic for topic, _ in live} - extents.keys())
    if others and len(others) == len({topic for topic, _ in live}):
        found.append(f"the live ledger was filled from {', '.join(others)}, and not from {read_topic}")
    for (topic, partition), offset in sorted(live.items()):
        if copied or topic not in extents:
            continue
        end = extents[topic].ends.get(partition, 0)
        if offset > end:
            found.append(
                f"the live ledger has come to offset {offset} of {topic}/{partition}, which ends at {end}: the topic"
                " was created again, or has lost its last messages"
            )
    return found


def open_replay_target(
    url: str, plan: str, begins: Mapping[Partition, int] | None = None, *, copy: bool = False
) -> ReplayTarget:
    """Create a fresh ledger beside the one at this URL, or continue that of an interrupted replay with the same plan.

    `plan` identifies what is replayed (topic, start time): only a replay with an equal plan is continued, and the
    remains of others are dropped. With `copy` the ledger starts as a copy of the live tables, offsets included, in one
    snapshot. `begins` are the first offsets of a fresh ledger; the offsets of a copy are moved back to them, never
    forward, so that nothing is skipped. A continued replay continues from its own offsets.
    Raises what `open_ledger` raises, and `FatalError` while another replay of the ledger is running.
    """
    address = address_of(url)
    if isinstance(address, PostgresqlAddress):
        return open_postgresql_target(address, plan, begins or {}, copy=copy)
    return open_sqlite_target(address, plan, begins or {}, copy=copy)


T = TypeVar("T")

_CLOSE_SECONDS_MAX = 1.0
_STOP_SECONDS_MAX = 7.0
"""How long a call to the database may take after a request to stop: platforms kill a process after ten seconds."""

_WAIT_SECONDS = 0.2
_GONE = (
    "the connection was lost, and the ledger that the replay had filled is gone: either the swap was completed, or"
    " another replay has replaced it. `trekkpaalegg-consumer verify` shows whether the ledger is correct"
)


class FreshLedger:
    """The target of one replay, with the thread in which all calls to ledgers are made. Close it.

    Raises what `open_replay_target` raises. Setting `stopping` ends retries, and soon every wait.
    """

    def __init__(
        self,
        url: str,
        plan: str,
        begins: Mapping[Partition, int],
        stopping: threading.Event,
        report: Callable[..., None],
        *,
        copy: bool,
    ) -> None:
        self._url = url
        self._plan = plan
        self._stopping = stopping
        self._retry = Retry(stopping=stopping, report=report)
        self.thread = StoreThread()
        self._target: ReplayTarget | None = None
        try:
            self._target = target = self._result(lambda: open_replay_target(url, plan, begins, copy=copy))
        except BaseException:
            self.close()
            raise
        self.continued = target.continued
        """Whether an earlier replay with the same plan began it."""

    def call(self, call: Callable[[], T]) -> T:
        """The result of the call, retried while it fails temporarily. Raises `StoppedError`."""
        self.raise_if_stopped()
        return self._result(lambda: self._retry(call))

    def with_target(self, call: Callable[[ReplayTarget], T]) -> T:
        """As `call`; each retry opens the target again, because its lock ends with its connection.

        Raises `FatalError` if the fresh ledger no longer exists.
        """

        def attempt() -> T:
            if self._target is None:
                self._target = self._reopen()
            try:
                return call(self._target)
            except RetryableError:
                self._close_target()
                raise

        return self.call(attempt)

    def raise_if_stopped(self) -> None:
        """Raise `StoppedError` if `stopping` is set."""
        if self._stopping.is_set():
            raise StoppedError

    def close(self) -> None:
        """Close the connections; a replay can be continued from what was committed."""
        self.thread.submit(self._close_target)
        self.thread.close(_CLOSE_SECONDS_MAX)

    def _reopen(self) -> ReplayTarget:
        target = open_replay_target(self._url, self._plan)
        if not target.continued:
            target.drop()
            target.close()
            raise FatalError(_GONE)
        return target

    def _close_target(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _result(self, call: Callable[[], T]) -> T:
        """Make the call in the thread. Raises `StoppedError` if it takes too long after `stopping` was set."""
        future = self.thread.submit(call)
        stopped_at: float | None = None
        while not future.done():
            if self._stopping.is_set():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at > _STOP_SECONDS_MAX:
                    raise StoppedError
            try:
                future.exception(_WAIT_SECONDS)
            except TimeoutError:
                continue
        return future.result()


DIFFERENCES_SHOWN_MAX = 20


class ReplayOptions(msgspec.Struct, frozen=True):
    """The start time (None: the beginning), and the topic: with `newest_only` the current state from `…-gjeldende`.

    With a start time the replay begins with a copy of the live ledger, in which events published since then replace
    rows that differ; rows without such an event are kept. `accept_loss`: swap even if messages were deleted from the
    topic. `batch_records_max`: messages in one SQL transaction.
    """

    start: datetime | None = None
    newest_only: bool = False
    undecodable_max: int = UNDECODABLE_MAX_DEFAULT
    swap: bool = True
    accept_loss: bool = False
    batch_records_max: int = BATCH_RECORDS_MAX


class ReplayOutcome(msgspec.Struct, frozen=True):
    """The result of a replay.

    `live_ahead` and `live_behind`: offsets between the live and the fresh ledger at the time of the comparison, which
    cause differences too. Both are None if the live ledger is filled from another topic.
    """

    events: int
    undecodable: int
    continued: bool
    losses: list[str]
    live_ahead: int | None
    live_behind: int | None
    differences: Differences
    swapped: bool


class Stream(msgspec.Struct, frozen=True):
    """The Kafka properties, and the names of both event topics."""

    properties: dict[str, str]
    versjoner: str
    gjeldende: str


class _LiveState(msgspec.Struct, frozen=True):
    """Offsets and conflicts of the live ledger, in one snapshot."""

    offsets: dict[Partition, int]
    conflicts: frozenset[Coordinates]


class Replay:
    """One replay. Setting `stopping` ends it soon, before or after the swap."""

    def __init__(
        self, stream: Stream, decoder: Decoder, options: ReplayOptions, stopping: threading.Event, watch: ReplayWatch
    ) -> None:
        self._stream = stream
        self._decoder = decoder
        self._options = options
        self._stopping = stopping
        self._watch = watch
        self._topic = stream.gjeldende if options.newest_only else stream.versjoner
        self._extents = TopicExtents(stream.properties, stopping)
        self._events = self._undecodable = 0

    def run(self, url: str) -> ReplayOutcome:
        """Rebuild the ledger at this URL, compare, and swap. A ledger that does not exist is created.

        Raises as `open_replay_target`, `Worker.run` and `TopicExtents`; `FatalError` when the topic lacks what the
        ledger needs; and `StoppedError` when `stopping` was set before the swap: started again with the same options
        it then continues where it was.
        """
        try:
            begins = self._begins()
            plan = self._plan(self._extents.extent_of(self._topic).cluster)
            copy = self._options.start is not None
            fresh = FreshLedger(url, plan, begins, self._stopping, self._watch.report, copy=copy)
            try:
                self._watch.begin(continued=fresh.continued)
                return self._fill_and_swap(fresh, url)
            finally:
                fresh.close()
        except RetryableError as error:
            if self._stopping.is_set():
                raise StoppedError from error
            raise

    def _fill_and_swap(self, fresh: FreshLedger, url: str) -> ReplayOutcome:
        """Steps: 1. refuse to lose orders; 2. fill; 3. compare; 4. swap.

        Filling and comparing may take long, so events that arrived meanwhile are applied after each of them.
        """
        options = self._options
        live = fresh.call(lambda: _live_state(url))
        losses = self._find_losses(fresh, live)
        rewriting = None if options.start is None else Rewriting(live.offsets, live.conflicts)
        self._fill(fresh, rewriting)
        self._fill(fresh, rewriting)
        self._watch.report("comparing")
        ahead, behind = self._compare_offsets(fresh, fresh.call(lambda: _live_state(url)).offsets)
        differences = fresh.with_target(
            lambda target: target.differences(DIFFERENCES_SHOWN_MAX, newest_only=options.newest_only)
        )
        if options.swap:
            self._watch.report("swapping")
            self._fill(fresh, rewriting)
            fresh.with_target(lambda target: target.swap())
        else:
            fresh.with_target(lambda target: target.drop())
        return ReplayOutcome(
            self._events, self._undecodable, fresh.continued, losses, ahead, behind, differences, swapped=options.swap
        )

    def _plan(self, cluster: str) -> str:
        """The identity of this replay: only a replay with an equal plan is continued."""
        begins = "the beginning" if self._options.start is None else self._options.start.astimezone(UTC).isoformat()
        return f"{self._topic} of Kafka {cluster} from {begins}"

    def _begins(self) -> dict[Partition, int]:
        """The first offsets of a fresh ledger; for one of the current state, where its consumer will continue.

        The ends of `…-versjoner` are read before `…-gjeldende`: events between the two are applied twice, not skipped.
        """
        start, versjoner = self._options.start, self._stream.versjoner
        if start is not None:
            found = self._extents.offsets_at(self._topic, int(start.timestamp() * 1000))
            return {Partition(self._topic, partition): offset for partition, offset in found.items()}
        if self._options.newest_only:
            ends = self._extents.extent_of(versjoner).ends
            return {Partition(versjoner, partition): end for partition, end in ends.items()}
        return {}

    def _find_losses(self, fresh: FreshLedger, live: _LiveState) -> list[str]:
        """Report losses, and move the offsets to the topic's beginning. Raises `FatalError` if losses are not accepted.

        A fresh ledger that this replay created is then dropped; one that it continues is kept.
        """
        wanted = {self._topic}
        if self._options.newest_only:
            wanted.add(self._stream.versjoner)
        wanted |= {topic for topic, _ in live.offsets} & {self._stream.versjoner, self._stream.gjeldende}
        extents = {topic: self._extents.extent_of(topic) for topic in wanted}
        extent = extents[self._topic]
        reached = self._next_offsets(fresh, extent)
        losses = losses_of(self._topic, extents, reached, live.offsets, copied=self._options.start is not None)
        if losses and not self._options.accept_loss:
            if not fresh.continued:
                fresh.with_target(lambda target: target.drop())
            more = f" (and {len(losses) - 1} more)" if len(losses) > 1 else ""
            raise FatalError(
                f"orders would be lost: {losses[0]}{more}. Give `--from` a time since which the topic is whole, which"
                " keeps what the live ledger has from before; or `--newest-only`, if …-gjeldende is whole; or"
                " `--accept-loss`"
            )
        for loss in losses:
            self._watch.report("loss accepted", loss=loss)
        missing = missing_of(extent, reached)
        if missing:
            moves = {
                Partition(self._topic, partition): Advance(reached[partition], to) for partition, to in missing.items()
            }
            fresh.with_target(lambda target: _move(target, moves))
        return losses

    def _next_offsets(self, fresh: FreshLedger, extent: Extent) -> dict[int, int]:
        return fresh.with_target(lambda target: target.ledger.next_offsets(self._topic, extent.ends.keys()))

    def _fill(self, fresh: FreshLedger, rewriting: Rewriting | None) -> None:
        """Apply everything that is committed now. Raises `StoppedError`, and what `Worker.run` raises."""
        options = self._options
        extent = self._extents.extent_of(self._topic)
        reached = self._next_offsets(fresh, extent)
        ahead = sum(max(end - reached[partition], 0) for partition, end in extent.ends.items())
        if not ahead:
            return
        self._watch.expect(ahead)
        worker_options = WorkerOptions(
            until_end=True,
            undecodable_max=options.undecodable_max,
            batch_records_max=options.batch_records_max,
        )
        ledger = fresh.with_target(lambda target: target.ledger)
        worker = LedgerWorker(
            ledger,
            fresh.thread,
            self._decoder,
            self._stopping,
            self._watch.report,
            worker_options,
            newest_only=options.newest_only,
            rewriting=rewriting,
        )
        worker.run(lambda owner: WholeTopic(self._stream.properties, self._topic, owner, self._watch.advance))
        self._events += worker.tally.events
        self._undecodable += worker.tally.undecodable
        fresh.raise_if_stopped()

    def _compare_offsets(self, fresh: FreshLedger, live: Mapping[Partition, int]) -> tuple[int | None, int | None]:
        """How many offsets the live ledger is ahead, and behind."""
        if {topic for topic, _ in live} - {self._topic}:
            return None, None
        reached = self._next_offsets(fresh, self._extents.extent_of(self._topic))
        gaps = [live.get(Partition(self._topic, partition), 0) - offset for partition, offset in reached.items()]
        return sum(max(gap, 0) for gap in gaps), sum(max(-gap, 0) for gap in gaps)


def _live_state(url: str) -> _LiveState:
    with Inspection(url) as inspection:
        conflicts = [
            Coordinates(topic, partition, offset)
            for rows in inspection.rows(tables.trekkpaalegg_conflict)
            for topic, partition, offset, *_ in rows
        ]
        return _LiveState(inspection.offsets, frozenset(conflicts))


def _move(target: ReplayTarget, moves: Mapping[Partition, Advance]) -> None:
    with target.ledger.transaction(moves):
        pass
