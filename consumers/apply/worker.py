"""The worker: batches of one topic become a ledger that has applied each of them once.

While one batch is being written, the next one is read and decoded; at most one is under way. All that touches the
ledger runs in the ledger's own thread.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import msgspec

from consumers.apply.apply import Rewriting, apply
from consumers.apply.retry import ConnectionPolicy, ServiceRetry
from consumers.observe.port import NullObserver, Observer, Other, applied_of
from trekkpaalegg.errors import (
    FatalError,
    ForgottenError,
    KafkaSettingsError,
    OvertakenError,
    RetryableError,
    StoppedError,
)
from trekkpaalegg.incoming import Advance, Incoming, Partition, UndecodableMessage, incoming_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from consumers.ledger.port import Changes, Ledger
    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.kafka.subscription import BatchSource, Owner


UNDECODABLE_MAX_DEFAULT = 100
BATCH_RECORDS_MAX = 5_000


class WorkerOptions(msgspec.Struct, frozen=True):
    """How to work. A batch is given to the ledger when it has so many records or is so old.

    `newest_only`: only the newest version of each order is kept. `until_end`: end when all is applied that was
    committed at the start. `undecodable_max`: with more undecodable messages than that in the ledger, refuse to go on.
    `waits_at_start`: a Kafka that does not answer at the start is waited for too. `rewriting`: as for
    `consumers.apply.apply.decide`.
    """

    newest_only: bool = False
    until_end: bool = False
    undecodable_max: int = UNDECODABLE_MAX_DEFAULT
    batch_records_max: int = BATCH_RECORDS_MAX
    batch_seconds_max: float = 0.1
    status_seconds: float = 10.0
    ask_seconds: float = 10.0
    """How often a ledger with nothing to write is asked how it is."""

    waits_at_start: bool = False
    refused_pause_seconds: float = 5.0
    stop_seconds_max: float = 8.0
    """How long a batch under way may take after the word to stop: within the ten seconds that platforms wait."""
    rewriting: Rewriting | None = None


T = TypeVar("T")


class LedgerThread:
    """A thread that ends with the process, also in the middle of a call that hangs: the database then rolls back."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Let it be called after all that were submitted before."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._calls.put(run)
        return future

    def close(self, seconds_max: float) -> bool:
        """Whether all calls came to an end in that time."""
        self._calls.put(None)
        self._thread.join(seconds_max)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (run := self._calls.get()) is not None:
            run()


_HAND_OVER_SECONDS_MAX = 5.0
_WAIT_SECONDS = 0.2


class Tally(msgspec.Struct):
    """What was written to the ledger by this process."""

    events: int = 0
    undecodable: int = 0
    conflicts: int = 0


class Decoded(msgspec.Struct):
    """A batch as it goes to the ledger."""

    incoming: list[Incoming]
    undecodable: list[UndecodableMessage]
    advances: dict[Partition, Advance]
    written_at: float | None
    """See `Batch`."""


class Worker:
    """Applies one topic to one ledger, until `stopping` is set, the end is reached or an error ends it.

    `tell(event, **details)` is called with what people may want to know, from both threads.
    """

    def __init__(
        self,
        ledger: Ledger,
        ledger_thread: LedgerThread,
        decoder: Decoder,
        stopping: threading.Event,
        tell: Callable[..., None],
        options: WorkerOptions,
        observer: Observer | None = None,
    ) -> None:
        self._ledger = ledger
        self._ledger_thread = ledger_thread
        self._decode = decoder.decode_trekkpaalegg_versjon
        self._stopping = stopping
        self._stopped_at: float | None = None
        self._options = options
        self._under_way: tuple[Future[Changes], Decoded] | None = None
        self._told = (time.monotonic(), 0)
        self._asked: tuple[float, Future[int] | None] = (time.monotonic(), None)
        self._observer = observer = observer or NullObserver()
        self._call = ServiceRetry(stopping, tell, observer).call
        self._connection_policy = ConnectionPolicy(tell, observer)
        self.tell = tell
        self.tally = Tally()

    def run(self, subscribe: Callable[[Owner], BatchSource]) -> None:
        """Work on what `subscribe` gives, asked anew as long as Kafka refuses us, unless there is an end to reach.

        Raises `FatalError` for what needs a person, `RetryableError` when Kafka does not answer at the start, and
        `StoppedError` when the ledger does not answer in time after the word to stop.
        """
        self._observer.beat()
        try:
            self._check_undecodable(self._in_ledger(self._ledger.count_undecodable))
            while not self._is_worked_out(subscribe):
                self._stopping.wait(self._options.refused_pause_seconds)
                self._observer.beat()
        except RetryableError:
            # In trouble when the word to stop came: nothing of the batch stands, or the offsets tell that it does.
            if not self._stopping.is_set():
                raise

    def _is_worked_out(self, subscribe: Callable[[Owner], BatchSource]) -> bool:
        """Work until there is no more to do; False when it is to be tried again, as Kafka refuses us."""
        waits = self._options.waits_at_start
        try:
            with closing(
                self._call(Other.KAFKA, lambda: subscribe(self)) if waits else subscribe(self)
            ) as subscription:
                self._work(subscription)
        except (RetryableError, KafkaSettingsError) as error:
            if self._options.until_end and not isinstance(error, ForgottenError):
                raise
            self._connection_policy.failed(error)
            return self._stopping.is_set()
        return True

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """See `Owner`."""
        found = self._in_ledger(lambda: self._ledger.next_offsets(topic, partitions))
        self._connection_policy.connected()
        self._observer.ledger_stands(found)
        self.tell(
            "partitions assigned", topic=topic, partitions=sorted(found), next_offsets=dict(sorted(found.items()))
        )
        return found

    def hand_over(self, topic: str, partitions: Collection[int]) -> None:
        """See `Owner`. A batch that takes longer is none the worse: the next owner moves the offsets, or it does."""
        self.tell("partitions given up", topic=topic, partitions=sorted(partitions))
        if self._under_way is not None:
            deadline = time.monotonic() + _HAND_OVER_SECONDS_MAX
            while not self._under_way[0].done() and time.monotonic() < deadline:
                self._wait(self._under_way[0])

    def is_stopping(self) -> bool:
        """See `Owner`."""
        return self._stopping.is_set()

    def _work(self, subscription: BatchSource) -> None:
        ends = subscription.ends() if self._options.until_end else None
        while not self._stopping.is_set():
            decoded = self._decoded(subscription)
            if not self._settle(subscription):
                subscription.place_anew()
            elif decoded.advances:
                self._under_way = (self._ledger_thread.submit(partial(self._write, decoded)), decoded)
            elif ends is not None and self._has_reached(subscription.topic, ends):
                return
            self._observer.looked(subscription.look())
            self._ask_how_it_is()
            self._tell_status(subscription)
        self._settle(subscription)

    def _decoded(self, subscription: BatchSource) -> Decoded:
        batch = subscription.read(self._options.batch_records_max, self._options.batch_seconds_max)
        decoded = Decoded([], [], batch.advances, batch.written_at)
        topic, decode = subscription.topic, self._decode
        for message in batch.messages:
            try:
                found = incoming_of(message, topic, decode)
            except RetryableError:
                found = self._call(Other.REGISTRY, partial(incoming_of, message, topic, decode))
            if isinstance(found, Incoming):
                decoded.incoming.append(found)
            else:
                decoded.undecodable.append(found)
        return decoded

    def _settle(self, subscription: BatchSource) -> bool:
        """Wait for the batch under way. Whether the ledger is now where the reading believes it to be."""
        if self._under_way is None:
            return True
        (future, decoded), self._under_way = self._under_way, None
        try:
            changes = self._result(future)
        except OvertakenError as error:
            self.tell("overtaken", topic=subscription.topic, reason=str(error))
            self._observer.overtaken()
            return False
        events, undecodable = len(decoded.incoming), len(decoded.undecodable)
        self.tally.events += events
        self._observer.ledger_stands({partition: each.after for (_, partition), each in decoded.advances.items()})
        self._observer.applied(applied_of(events, undecodable, changes, decoded.written_at))
        subscription.show_progress(decoded.advances)
        self._tell_faults(decoded, changes)
        return True

    def _write(self, decoded: Decoded) -> Changes:
        """In the ledger's thread. Raises `OvertakenError` also when a commit stood whose answer was lost."""
        began = time.monotonic()
        changes = self._call(Other.LEDGER, lambda: self._write_once(decoded))
        self._observer.batch_written(time.monotonic() - began)
        return changes

    def _write_once(self, decoded: Decoded) -> Changes:
        with self._ledger.transaction(decoded.advances) as transaction:
            options = self._options
            changes = apply(transaction, decoded.incoming, newest_only=options.newest_only, rewriting=options.rewriting)
            transaction.write(changes)
            if decoded.undecodable:
                transaction.keep_undecodable(decoded.undecodable)
        return changes

    def _has_reached(self, topic: str, ends: Mapping[int, int]) -> bool:
        """Whether everything up to there is in the ledger, whoever wrote it."""
        reached = self._in_ledger(lambda: self._ledger.next_offsets(topic, ends.keys()))
        return all(reached[partition] >= end for partition, end in ends.items())

    def _in_ledger(self, call: Callable[[], T]) -> T:
        return self._result(self._ledger_thread.submit(lambda: self._call(Other.LEDGER, call)))

    def _ask_how_it_is(self) -> None:
        """Now and then, without waiting: a ledger that is away shows also while nothing comes.

        Raises what it refuses with.
        """
        asked_at, asked = self._asked
        if asked is not None and asked.done():
            self._asked = (asked_at, None)
            self._observer.undecodable(asked.result(), self._options.undecodable_max)
        elif asked is None and time.monotonic() - asked_at >= self._options.ask_seconds:
            count = partial(self._call, Other.LEDGER, self._ledger.count_undecodable)
            self._asked = (time.monotonic(), self._ledger_thread.submit(count))

    def _result(self, future: Future[T]) -> T:
        while not future.done():
            self._wait(future)
        return future.result()

    def _wait(self, future: Future[T]) -> None:
        """A little. Raises `StoppedError` when the word to stop came too long ago."""
        self._observer.beat()
        if self._stopping.is_set():
            self._stopped_at = self._stopped_at or time.monotonic()
            if time.monotonic() - self._stopped_at > self._options.stop_seconds_max:
                raise StoppedError
        try:
            future.exception(_WAIT_SECONDS)
        except TimeoutError:
            return

    def _tell_faults(self, decoded: Decoded, changes: Changes) -> None:
        if changes.conflicts:
            self.tally.conflicts += len(changes.conflicts)
            first = changes.conflicts[0]
            self.tell(
                "conflict: a version came with other content and is marked as no correction; see trekkpaalegg_conflict",
                count=len(changes.conflicts),
                trekkid=first.event.trekkid,
                trekkversjon=first.event.trekkversjon,
            )
        if decoded.undecodable:
            self.tally.undecodable += len(decoded.undecodable)
            first_message = decoded.undecodable[0]
            place = first_message.coordinates
            self.tell(
                "undecodable, kept in undecodable_message",
                count=len(decoded.undecodable),
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                reason=first_message.reason,
            )
            self._check_undecodable(self._in_ledger(self._ledger.count_undecodable))

    def _check_undecodable(self, count: int) -> None:
        limit = self._options.undecodable_max
        self._observer.undecodable(count, limit)
        if count > limit:
            raise FatalError(
                f"{count} messages could not be decoded, more than --undecodable-max {limit} "
                "allows; the table undecodable_message tells why. Mend the cause (a registry that is not set, a "
                "program older than the schema), then run `trekkpaalegg-consumer retry` and start anew"
            )

    def _tell_status(self, subscription: BatchSource) -> None:
        then, events = self._told
        seconds = time.monotonic() - then
        if seconds < self._options.status_seconds:
            return
        self._told = (time.monotonic(), self.tally.events)
        if self.tally.events != events:
            rate = round((self.tally.events - events) / seconds)
            self.tell("applied", events=self.tally.events, events_per_second=rate, lag=subscription.lag())
