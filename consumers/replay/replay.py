"""Replay: a ledger rebuilt from the topic beside the live one, compared with it, and swapped in.

A topic that has lost messages gives a ledger without their orders, and nobody would be withheld for them any more: the
most dangerous thing that a replay can do. So it is found before anything is read.

The live consumer goes on meanwhile, and reads its offsets anew after the swap. For the moment until it does, the ledger
may lack the last events that it had.
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
        """Who is told how far a replay has come."""

        def begin(self, *, continued: bool) -> None:
            """It begins; whether an interrupted replay is taken up."""

        def expect(self, offsets: int) -> None:
            """So many more offsets are to be read."""

        def advance(self, offsets: int) -> None:
            """So many more are in the fresh ledger."""

        def tell(self, event: str, **details: object) -> None:
            """Something that people may want to know."""


def missing_of(extent: Extent, next_offsets: Mapping[int, int]) -> dict[int, int]:
    """By partition, the first offset that is still there, where reading was to begin before it."""
    return {partition: begin for partition, begin in extent.begins.items() if next_offsets.get(partition, 0) < begin}


def losses_of(
    read_topic: str,
    extents: Mapping[str, Extent],
    next_offsets: Mapping[int, int],
    live: Mapping[Partition, int],
    *,
    copied: bool,
) -> list[str]:
    """Every loss, a line each.

    `extents` are those of the topics that the ledger can have been filled from, taken after `live`, its offsets.
    `next_offsets` say where `read_topic` is going to be read. With `copied` what the live ledger has is kept, whatever
    has become of the topic since.
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
                " was made anew, or has lost its last messages"
            )
    return found


def open_replay_target(
    url: str, plan: str, begins: Mapping[Partition, int] | None = None, *, copy: bool = False
) -> ReplayTarget:
    """Make a fresh ledger beside the one at this URL, or take up that of an interrupted replay with the same plan.

    `plan` says what is replayed and how (topic, from when), so that only its like is continued; what another plan left
    is dropped. `copy` begins with a copy of the live tables, offsets included, as they stand at one moment.
    `begins` are the offsets that a fresh ledger begins with; those of a copy they move back, never forward, so that
    what the live one has not read is read. A replay that is continued goes on where it was.
    Raises as `open_ledger`, and `FatalError` while another replay of the same ledger is running.
    """
    address = address_of(url)
    if isinstance(address, PostgresqlAddress):
        return open_postgresql_target(address, plan, begins or {}, copy=copy)
    return open_sqlite_target(address, plan, begins or {}, copy=copy)


T = TypeVar("T")

_CLOSE_SECONDS_MAX = 1.0
_STOP_SECONDS_MAX = 7.0
"""How long a call to the database may take after the word to stop: within the ten seconds that platforms wait."""

_WAIT_SECONDS = 0.2
_GONE = (
    "the connection was lost, and what the replay had filled is not there any more: it was being swapped in and stands,"
    " or another replay has taken its place. `trekkpaalegg-consumer verify` tells whether the ledger is right"
)


class FreshLedger:
    """The target of one replay, and the one thread in which everything touches a ledger. Close it.

    Raises as `open_replay_target` when made. `stopping` ends retries, and soon every wait.
    """

    def __init__(
        self,
        url: str,
        plan: str,
        begins: Mapping[Partition, int],
        stopping: threading.Event,
        tell: Callable[..., None],
        *,
        copy: bool,
    ) -> None:
        self._url = url
        self._plan = plan
        self._stopping = stopping
        self._retry = Retry(stopping=stopping, report=tell)
        self.thread = StoreThread()
        self._target: ReplayTarget | None = None
        try:
            self._target = target = self._result(lambda: open_replay_target(url, plan, begins, copy=copy))
        except BaseException:
            self.close()
            raise
        self.continued = target.continued
        """Whether an earlier replay of the same plan had begun it."""

    def call(self, call: Callable[[], T]) -> T:
        """The result of the call, retried while it fails temporarily. Raises `StoppedError`."""
        self.see_whether_stopped()
        return self._result(lambda: self._retry(call))

    def with_target(self, call: Callable[[ReplayTarget], T]) -> T:
        """As `call`, each time with a target opened anew: the lock that it holds goes with its connection.

        Raises `FatalError` when what was filled is no longer there.
        """

        def attempt() -> T:
            if self._target is None:
                self._target = self._opened_again()
            try:
                return call(self._target)
            except RetryableError:
                self._leave()
                raise

        return self.call(attempt)

    def see_whether_stopped(self) -> None:
        """Raises `StoppedError` once the word to stop has come."""
        if self._stopping.is_set():
            raise StoppedError

    def close(self) -> None:
        """Close the connections; what was committed can be continued."""
        self.thread.submit(self._leave)
        self.thread.close(_CLOSE_SECONDS_MAX)

    def _opened_again(self) -> ReplayTarget:
        target = open_replay_target(self._url, self._plan)
        if not target.continued:
            target.drop()
            target.close()
            raise FatalError(_GONE)
        return target

    def _leave(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _result(self, call: Callable[[], T]) -> T:
        """In the thread. Raises `StoppedError` when it takes too long after the word to stop."""
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
    """From when (None: the beginning), and what: with `newest_only` the current state from `…-gjeldende`.

    From a time on it begins with a copy of the live ledger, in which what was published since then replaces what stands
    otherwise; rows that no such event speaks of stay. `accept_loss`: swap in also what lacks deleted messages.
    `batch_records_max`: messages in one SQL transaction.
    """

    start: datetime | None = None
    newest_only: bool = False
    undecodable_max: int = UNDECODABLE_MAX_DEFAULT
    swap: bool = True
    accept_loss: bool = False
    batch_records_max: int = BATCH_RECORDS_MAX


class Outcome(msgspec.Struct, frozen=True):
    """What a replay did.

    `live_ahead` and `live_behind` are in offsets, as of the comparison: what came meanwhile are differences too. Both
    are None where the live ledger is filled from another topic.
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
    """Where events are read: Kafka by these properties, and the names of both topics."""

    properties: dict[str, str]
    versjoner: str
    gjeldende: str


class _Live(msgspec.Struct, frozen=True):
    """The live ledger as of one moment."""

    offsets: dict[Partition, int]
    conflicts: frozenset[Coordinates]


class Replay:
    """One replay. `stopping` set, it ends soon, before the swap or after it."""

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

    def run(self, url: str) -> Outcome:
        """Rebuild the ledger at this URL, compare, swap. A ledger that is not there yet is made.

        Raises as `open_replay_target`, `Worker.run` and `TopicExtents`; `FatalError` when the topic lacks what the
        ledger needs; and `StoppedError` when `stopping` was set before the swap: started again with the same options
        it then goes on where it was.
        """
        try:
            begins = self._begins()
            plan = self._plan(self._extents.extent_of(self._topic).cluster)
            copy = self._options.start is not None
            fresh = FreshLedger(url, plan, begins, self._stopping, self._watch.tell, copy=copy)
            try:
                self._watch.begin(continued=fresh.continued)
                return self._fill_and_swap(fresh, url)
            finally:
                fresh.close()
        except RetryableError as error:
            if self._stopping.is_set():
                raise StoppedError from error
            raise

    def _fill_and_swap(self, fresh: FreshLedger, url: str) -> Outcome:
        """Steps: 1. refuse to lose orders; 2. fill; 3. compare; 4. swap.

        What has come meanwhile is filled in once more before the comparison, and after it, as both may take long.
        """
        options = self._options
        live = fresh.call(lambda: _look_at(url))
        losses = self._find_losses(fresh, live)
        rewriting = None if options.start is None else Rewriting(live.offsets, live.conflicts)
        self._fill(fresh, rewriting)
        self._fill(fresh, rewriting)
        self._watch.tell("comparing")
        ahead, behind = self._compare_offsets(fresh, fresh.call(lambda: _look_at(url)).offsets)
        differences = fresh.with_target(
            lambda target: target.differences(DIFFERENCES_SHOWN_MAX, newest_only=options.newest_only)
        )
        if options.swap:
            self._watch.tell("swapping")
            self._fill(fresh, rewriting)
            fresh.with_target(lambda target: target.swap())
        else:
            fresh.with_target(lambda target: target.drop())
        return Outcome(
            self._events, self._undecodable, fresh.continued, losses, ahead, behind, differences, swapped=options.swap
        )

    def _plan(self, cluster: str) -> str:
        """What is replayed and how: only the like of it is continued."""
        begins = "the beginning" if self._options.start is None else self._options.start.astimezone(UTC).isoformat()
        return f"{self._topic} of Kafka {cluster} from {begins}"

    def _begins(self) -> dict[Partition, int]:
        """Where a fresh ledger begins, and, built from the current state, where its live consumer goes on.

        The ends of `…-versjoner` are taken before `…-gjeldende` is read: what comes meanwhile is read twice, not never.
        """
        start, versjoner = self._options.start, self._stream.versjoner
        if start is not None:
            found = self._extents.offsets_at(self._topic, int(start.timestamp() * 1000))
            return {Partition(self._topic, partition): offset for partition, offset in found.items()}
        if self._options.newest_only:
            ends = self._extents.extent_of(versjoner).ends
            return {Partition(versjoner, partition): end for partition, end in ends.items()}
        return {}

    def _find_losses(self, fresh: FreshLedger, live: _Live) -> list[str]:
        """What would be lost, told; and reading is placed where the topic begins. Raises `FatalError` unless accepted.

        A fresh ledger that was not begun earlier is then dropped; one that was is left, to be continued.
        """
        wanted = {self._topic}
        if self._options.newest_only:
            wanted.add(self._stream.versjoner)
        wanted |= {topic for topic, _ in live.offsets} & {self._stream.versjoner, self._stream.gjeldende}
        extents = {topic: self._extents.extent_of(topic) for topic in wanted}
        extent = extents[self._topic]
        reached = self._reached(fresh, extent)
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
            self._watch.tell("a loss is accepted", loss=loss)
        missing = missing_of(extent, reached)
        if missing:
            moves = {
                Partition(self._topic, partition): Advance(reached[partition], to) for partition, to in missing.items()
            }
            fresh.with_target(lambda target: _move(target, moves))
        return losses

    def _reached(self, fresh: FreshLedger, extent: Extent) -> dict[int, int]:
        return fresh.with_target(lambda target: target.ledger.next_offsets(self._topic, extent.ends.keys()))

    def _fill(self, fresh: FreshLedger, rewriting: Rewriting | None) -> None:
        """Apply all that is committed now. Raises `StoppedError`, and as `Worker.run`."""
        options = self._options
        extent = self._extents.extent_of(self._topic)
        reached = self._reached(fresh, extent)
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
            self._watch.tell,
            worker_options,
            newest_only=options.newest_only,
            rewriting=rewriting,
        )
        worker.run(lambda owner: WholeTopic(self._stream.properties, self._topic, owner, self._watch.advance))
        self._events += worker.tally.events
        self._undecodable += worker.tally.undecodable
        fresh.see_whether_stopped()

    def _compare_offsets(self, fresh: FreshLedger, live: Mapping[Partition, int]) -> tuple[int | None, int | None]:
        """How many offsets the live ledger is ahead and behind."""
        if {topic for topic, _ in live} - {self._topic}:
            return None, None
        reached = self._reached(fresh, self._extents.extent_of(self._topic))
        gaps = [live.get(Partition(self._topic, partition), 0) - offset for partition, offset in reached.items()]
        return sum(max(gap, 0) for gap in gaps), sum(max(-gap, 0) for gap in gaps)


def _look_at(url: str) -> _Live:
    with Inspection(url) as inspection:
        conflicts = [
            Coordinates(topic, partition, offset)
            for rows in inspection.rows(tables.trekkpaalegg_conflict)
            for topic, partition, offset, *_ in rows
        ]
        return _Live(inspection.offsets, frozenset(conflicts))


def _move(target: ReplayTarget, moves: Mapping[Partition, Advance]) -> None:
    with target.ledger.transaction(moves):
        pass
