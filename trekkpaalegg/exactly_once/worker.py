"""The loop of a consumer that handles each event exactly once: read, decode, write with the offsets, and again.

While one batch is being written, the next one is read and decoded; at most one is being written. Everything that
touches the database runs in the store's own thread.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from trekkpaalegg.errors import (
    DisplacedError,
    FatalError,
    FencedError,
    ForgottenError,
    KafkaSettingsError,
    OvertakenError,
    RefusedError,
    RetryableError,
    StoppedError,
)
from trekkpaalegg.incoming import Advance, IncomingEvent, Partition, UndecodableMessage, incoming_of
from trekkpaalegg.retry import CallObserver, Service, ServiceRetry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.errors import TrekkpaaleggError
    from trekkpaalegg.kafka.subscription import BatchSource, ClientStatus, Owner

T = TypeVar("T")
R = TypeVar("R")


class Transaction(Protocol):
    """One transaction, whose partitions' offsets are moved already."""

    def keep_undecodable(self, messages: Sequence[UndecodableMessage]) -> None:
        """Store messages that could not be decoded."""

    def forget_undecodable(self, message: UndecodableMessage) -> None:
        """Delete the message, as a retry has decoded it."""


TransactionT = TypeVar("TransactionT", bound=Transaction)
TransactionT_co = TypeVar("TransactionT_co", bound=Transaction, covariant=True)


class Store(Protocol[TransactionT_co]):
    """The database of the offsets and of what handlers write. Used by one thread.

    Every method raises `RetryableError` if the database cannot be reached or fails temporarily (the transaction is then
    rolled back, or the offsets show that it was committed), and `FatalError` if it refuses.
    """

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """For each of these partitions the offset to read from; 0 if nothing was read yet."""

    def transaction(self, advances: Mapping[Partition, Advance]) -> AbstractContextManager[TransactionT_co]:
        """Move the offsets; commit at the end of the context, or roll back after an error.

        Raises `OvertakenError` if an offset is not at `before`. Read `next_offsets` then, and seek there.
        """

    def undecodable(self) -> list[UndecodableMessage]:
        """All messages that could not be decoded so far, by topic, partition and offset."""

    def count_undecodable(self) -> int:
        """How many messages could not be decoded so far."""

    def close(self) -> None:
        """Close the connections."""


class WorkerObserver(CallObserver):
    """Called by any thread; must neither block nor raise. Subclasses override. No argument holds event content."""

    def beat(self) -> None:
        """The loop makes progress, or waits within a limit."""

    def client_checked(self, status: ClientStatus) -> None:
        """The state of the Kafka client, in each round of the loop."""

    def offsets_committed(self, next_offsets: Mapping[int, int]) -> None:
        """The next offsets that the database now has, by partition."""

    def batch_written(self, seconds: float) -> None:
        """A batch took so long to write, retries included."""

    def overtaken(self) -> None:
        """A batch was not written, because another consumer or a replay has moved its offsets."""

    def undecodable(self, count: int, limit: int) -> None:
        """So many undecodable messages are stored now; with more than `limit` the worker ends."""


class WorkerOptions(msgspec.Struct, frozen=True):
    """A batch is written when it has `batch_records_max` records or is `batch_seconds_max` old.

    `until_end`: end when everything is handled that was committed at the start. `undecodable_max`: with more
    undecodable messages than that in the database, end with an error. `waits_at_start`: retry if Kafka does not answer
    at the start.
    """

    until_end: bool = False
    undecodable_max: int = 100
    batch_records_max: int = 5_000
    batch_seconds_max: float = 0.1
    status_seconds: float = 10.0
    ask_seconds: float = 10.0
    """How often an idle database is queried, so that one that is away shows."""

    waits_at_start: bool = False
    refused_pause_seconds: float = 5.0
    stop_seconds_max: float = 8.0
    """How long a batch may still take after the signal to stop: within the ten seconds that platforms wait."""


class StoreThread:
    """A thread that ends with the process, also in the middle of a call that hangs: the database then rolls back."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run the call after all that were submitted before."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._calls.put(run)
        return future

    def close(self, seconds_max: float) -> bool:
        """End the thread. Returns whether all calls ended in that time."""
        self._calls.put(None)
        self._thread.join(seconds_max)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (run := self._calls.get()) is not None:
            run()


REJOIN_SECONDS_MIN = 60.0
"""A member that is fenced again sooner has a rival."""


class ConnectionPolicy:
    """Decides whether a worker connects to Kafka again after an error. Used by one thread."""

    def __init__(
        self, report: Callable[..., None], observer: CallObserver, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._observer = observer
        self._monotonic = monotonic
        self._refused = ""
        self._rejoined_at = -math.inf

    def connected(self) -> None:
        """Partitions were assigned to us."""
        if self._refused:
            self._observer.call_ended(Service.KAFKA)
            self._refused = ""

    def failed(self, error: TrekkpaaleggError) -> None:
        """Return if the worker is to connect again after a pause. Raises the error, or `FencedError`, if it is not.

        Once refused, it waits out any error, such as a key that does not match its renewed certificate yet.
        """
        if isinstance(error, DisplacedError):
            self._rejoin(error)
            return
        if isinstance(error, ForgottenError):
            self._report(str(error))
            return
        if not (isinstance(error, RefusedError) or self._refused):
            raise error
        if str(error) != self._refused:
            self._report("Kafka refuses this client; retrying until it admits it", reason=str(error))
        self._refused = str(error)
        self._observer.call_begins(Service.KAFKA)
        self._observer.call_failed(Service.KAFKA, self._refused)

    def _rejoin(self, error: DisplacedError) -> None:
        now = self._monotonic()
        if now - self._rejoined_at < REJOIN_SECONDS_MIN:
            raise FencedError(str(error)) from error
        self._rejoined_at = now
        self._report("fenced after the coordinator of the group was away: joining again", reason=str(error))


_HAND_OVER_SECONDS_MAX = 5.0
_WAIT_SECONDS = 0.2


class Tally(msgspec.Struct):
    """What this process has written."""

    events: int = 0
    undecodable: int = 0


class DecodedBatch(msgspec.Struct):
    """A batch as it is written: in the order of each partition, and with the offsets that it moves."""

    events: list[IncomingEvent]
    undecodable: list[UndecodableMessage]
    advances: dict[Partition, Advance]
    written_at: float | None
    """When its last message was written to Kafka, in seconds since 1970, if known."""


class Worker(Generic[TransactionT, R]):
    """Handles the events of one topic, until `stopping` is set, the end is reached or an error ends it.

    A subclass says what is done with them: `handle` in the transaction, `committed` after it.
    `report(event, **details)` is called with what an operator may want to know, from both threads.
    """

    lost_offset_advice = "delete the topic's rows in the table of offsets to read it from its beginning"
    undecodable_option = "undecodable_max"
    undecodable_table = "trekkpaalegg_undecodable"
    undecodable_advice = "fix the cause, call `retry_undecodable`, and start again"

    def __init__(
        self,
        store: Store[TransactionT],
        store_thread: StoreThread,
        decoder: Decoder,
        stopping: threading.Event,
        report: Callable[..., None],
        options: WorkerOptions,
        observer: WorkerObserver | None = None,
    ) -> None:
        self._store = store
        self._store_thread = store_thread
        self._decode = decoder.decode_trekkpaalegg_versjon
        self._stopping = stopping
        self._stopped_at: float | None = None
        self._options = options
        self._being_written: tuple[Future[R], DecodedBatch] | None = None
        self._reported = (time.monotonic(), 0)
        self._queried: tuple[float, Future[int] | None] = (time.monotonic(), None)
        self._observer = observer = observer or WorkerObserver()
        self._call = ServiceRetry(stopping, report, observer).call
        self._connection_policy = ConnectionPolicy(report, observer)
        self.report = report
        self.tally = Tally()

    def handle(self, transaction: TransactionT, events: Sequence[IncomingEvent]) -> R:
        """Write what the events are to change, in the store's thread. Called again with the same events on a retry."""
        raise NotImplementedError

    def committed(self, batch: DecodedBatch, result: R) -> None:
        """The batch, of which `handle` returned `result`, is committed. Called in the thread of `run`."""

    def run(self, subscribe: Callable[[Owner], BatchSource]) -> None:
        """Work on what `subscribe` returns, called again as long as Kafka refuses us, unless there is an end to reach.

        Raises `FatalError` for what needs a person, `RetryableError` when Kafka does not answer at the start,
        `StoppedError` when the database does not answer in time after the signal to stop, and what `handle` raises.
        """
        self._observer.beat()
        try:
            self._check_undecodable(self._in_store(self._store.count_undecodable))
            while not self._has_finished(subscribe):
                self._stopping.wait(self._options.refused_pause_seconds)
                self._observer.beat()
        except RetryableError:
            # It failed after the signal to stop: the batch is rolled back, or the offsets show that it was committed.
            if not self._stopping.is_set():
                raise

    def _has_finished(self, subscribe: Callable[[Owner], BatchSource]) -> bool:
        """Work until everything is done; False if Kafka refuses us and another attempt is due."""
        waits = self._options.waits_at_start
        try:
            with closing(
                self._call(Service.KAFKA, lambda: subscribe(self)) if waits else subscribe(self)
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
        found = self._in_store(lambda: self._store.next_offsets(topic, partitions))
        self._connection_policy.connected()
        self._observer.offsets_committed(found)
        self.report(
            "partitions assigned", topic=topic, partitions=sorted(found), next_offsets=dict(sorted(found.items()))
        )
        return found

    def hand_over(self, topic: str, partitions: Collection[int]) -> None:
        """See `Owner`. A batch that takes longer does no harm: either the next owner moves the offsets, or it does."""
        self.report("partitions revoked", topic=topic, partitions=sorted(partitions))
        if self._being_written is not None:
            deadline = time.monotonic() + _HAND_OVER_SECONDS_MAX
            while not self._being_written[0].done() and time.monotonic() < deadline:
                self._wait(self._being_written[0])

    def is_stopping(self) -> bool:
        """See `Owner`."""
        return self._stopping.is_set()

    def _work(self, subscription: BatchSource) -> None:
        ends = subscription.ends() if self._options.until_end else None
        while not self._stopping.is_set():
            batch = self._read(subscription)
            if not self._finish_writing(subscription):
                subscription.seek_to_stored()
            elif batch.advances:
                self._being_written = (self._store_thread.submit(partial(self._write, batch)), batch)
            elif ends is not None and self._has_reached(subscription.topic, ends):
                return
            self._observer.client_checked(subscription.client_status())
            self._query_idle_store()
            self._report_status(subscription)
        self._finish_writing(subscription)

    def _read(self, subscription: BatchSource) -> DecodedBatch:
        batch = subscription.read(self._options.batch_records_max, self._options.batch_seconds_max)
        decoded = DecodedBatch([], [], batch.advances, batch.written_at)
        topic, decode = subscription.topic, self._decode
        for message in batch.messages:
            try:
                found = incoming_of(message, topic, decode)
            except RetryableError:
                found = self._call(Service.REGISTRY, partial(incoming_of, message, topic, decode))
            if isinstance(found, IncomingEvent):
                decoded.events.append(found)
            else:
                decoded.undecodable.append(found)
        return decoded

    def _finish_writing(self, subscription: BatchSource) -> bool:
        """Wait for the batch that is being written. False if it was not, because another owner moved its offsets."""
        if self._being_written is None:
            return True
        (future, batch), self._being_written = self._being_written, None
        try:
            result = self._result(future)
        except OvertakenError as error:
            self.report("overtaken", topic=subscription.topic, reason=str(error))
            self._observer.overtaken()
            return False
        self.tally.events += len(batch.events)
        self._observer.offsets_committed({partition: each.after for (_, partition), each in batch.advances.items()})
        self.committed(batch, result)
        subscription.commit_to_group(batch.advances)
        if batch.undecodable:
            self._report_undecodable(batch.undecodable)
        return True

    def _write(self, batch: DecodedBatch) -> R:
        """In the store's thread. Raises `OvertakenError` also after a commit that succeeded and was not answered."""
        began = time.monotonic()
        result = self._call(Service.LEDGER, lambda: self._write_once(batch))
        self._observer.batch_written(time.monotonic() - began)
        return result

    def _write_once(self, batch: DecodedBatch) -> R:
        with self._store.transaction(batch.advances) as transaction:
            result = self.handle(transaction, batch.events)
            if batch.undecodable:
                transaction.keep_undecodable(batch.undecodable)
        return result

    def _has_reached(self, topic: str, ends: Mapping[int, int]) -> bool:
        """Whether everything up to there is handled, by whichever consumer."""
        reached = self._in_store(lambda: self._store.next_offsets(topic, ends.keys()))
        return all(reached[partition] >= end for partition, end in ends.items())

    def _in_store(self, call: Callable[[], T]) -> T:
        return self._result(self._store_thread.submit(lambda: self._call(Service.LEDGER, call)))

    def _query_idle_store(self) -> None:
        """At intervals, without waiting: a database that is away shows also while no events come.

        Raises the error by which it refuses.
        """
        queried_at, queried = self._queried
        if queried is not None and queried.done():
            self._queried = (queried_at, None)
            self._observer.undecodable(queried.result(), self._options.undecodable_max)
        elif queried is None and time.monotonic() - queried_at >= self._options.ask_seconds:
            count = partial(self._call, Service.LEDGER, self._store.count_undecodable)
            self._queried = (time.monotonic(), self._store_thread.submit(count))

    def _result(self, future: Future[T]) -> T:
        while not future.done():
            self._wait(future)
        return future.result()

    def _wait(self, future: Future[T]) -> None:
        """Wait a little. Raises `StoppedError` when the signal to stop came too long ago."""
        self._observer.beat()
        if self._stopping.is_set():
            self._stopped_at = self._stopped_at or time.monotonic()
            if time.monotonic() - self._stopped_at > self._options.stop_seconds_max:
                raise StoppedError
        try:
            future.exception(_WAIT_SECONDS)
        except TimeoutError:
            return

    def _report_undecodable(self, messages: Sequence[UndecodableMessage]) -> None:
        self.tally.undecodable += len(messages)
        at = messages[0].coordinates
        self.report(
            f"undecodable, kept in {self.undecodable_table}",
            count=len(messages),
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            reason=messages[0].reason,
        )
        self._check_undecodable(self._in_store(self._store.count_undecodable))

    def _check_undecodable(self, count: int) -> None:
        limit = self._options.undecodable_max
        self._observer.undecodable(count, limit)
        if count > limit:
            raise FatalError(
                f"{count} messages could not be decoded, more than {self.undecodable_option} {limit} allows;"
                f" {self.undecodable_advice}"
            )

    def _report_status(self, subscription: BatchSource) -> None:
        then, events = self._reported
        seconds = time.monotonic() - then
        if seconds < self._options.status_seconds:
            return
        self._reported = (time.monotonic(), self.tally.events)
        if self.tally.events != events:
            rate = round((self.tally.events - events) / seconds)
            self.report("applied", events=self.tally.events, events_per_second=rate, lag=subscription.lag())
