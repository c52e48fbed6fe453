"""Calls to the source: a bounded pool of threads for the whole process, and the calls of one lane."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from producer.domain.trekkpaalegg import Failed, Gone
from producer.errors import SuspendedError
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Fetched
    from producer.lane.reading import Reading
    from producer.source.port import TrekkpaaleggSource

    Callback = Callable[[], None]

URGENT_IN_A_ROW_MAX = 16
"""After this many urgent calls an ordinary one has its turn, however many urgent ones wait."""


PREPARED_AT_ONCE_EACH = 2
"""Preparations at once for each concurrent call, so that fetching a token may take longer than a call."""

AHEAD_EACH_MAX = 4
"""Ordinary calls prepared ahead for each concurrent call. It is limited because a token that waits grows old."""


class Kind(IntEnum):
    """The kind of a call. `BULK` calls return much."""

    URGENT = 0
    ORDINARY = 1
    BULK = 2


_NOT_URGENT = (Kind.ORDINARY, Kind.BULK)


class _QueuedCall(msgspec.Struct, frozen=True):
    future: Future[Any]
    call: Callable[..., object]
    arguments: tuple[object, ...]
    kind: Kind
    prepare: Callable[[], object] | None


class _Queues:
    """A queue for each kind of call, first in, first out. In an executor's queue urgent calls would wait behind all."""

    def __init__(self) -> None:
        self._queues: dict[Kind, deque[_QueuedCall]] = {kind: deque() for kind in Kind}
        self._turns = 0

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def append(self, waiting: _QueuedCall) -> None:
        self._queues[waiting.kind].append(waiting)

    def pop_next(self, but: Collection[Kind] = ()) -> _QueuedCall | None:
        """Remove and return the next one, none of the kinds in `but`. Ordinary and bulk calls alternate."""
        self._turns += 1
        others = [Kind.ORDINARY, Kind.BULK] if self._turns % 2 else [Kind.BULK, Kind.ORDINARY]
        is_others_turn = self._turns % (URGENT_IN_A_ROW_MAX + 1) == 0
        kinds = [*others, Kind.URGENT] if is_others_turn else [Kind.URGENT, *others]
        return next((self._queues[kind].popleft() for kind in kinds if self._queues[kind] and kind not in but), None)


class CallPool:
    """Threads shared by all lanes, which limit the number of concurrent calls and prepare further calls meanwhile.

    Preparing (fetching a token) is not a call to the source. If the calling threads did it, it would cost them up to
    half of their calls, as each of many trekkpliktige has its own token. So other threads do it ahead, for a limited
    number of calls.

    `bulk_max` returns how many bulk calls may be in progress at once, at least one.
    """

    def __init__(self, threads: int, bulk_max: Callable[[], int] = lambda: sys.maxsize) -> None:
        self._bulk_max = bulk_max
        self._bulk_under_way = 0
        self._turns_owed = 0
        """Turns that were skipped because only bulk calls waited, and enough of those were in progress."""
        self._ahead_max = AHEAD_EACH_MAX * threads
        self._calling = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._preparing = ThreadPoolExecutor(PREPARED_AT_ONCE_EACH * threads, thread_name_prefix="prepare")
        self._lock = threading.Lock()
        self._ready, self._unprepared = _Queues(), _Queues()
        self._ahead = 0
        """Ordinary calls that are prepared or being prepared, and have not begun yet."""
        self._is_shut = False

    def submit(
        self,
        call: Callable[..., object],
        *arguments: object,
        kind: Kind = Kind.ORDINARY,
        prepare: Callable[[], object] | None = None,
    ) -> Future[Any]:
        """Call this in the pool, after `prepare`: urgent calls first, each kind first in, first out.

        If `prepare` raises, the call fails with that error.
        """
        waiting = _QueuedCall(Future(), call, arguments, kind, prepare)
        queues, executor, turn = self._ready, self._calling, self._call_next
        if prepare is not None:
            queues, executor, turn = self._unprepared, self._preparing, self._prepare_next
        with self._lock:
            queues.append(waiting)
        executor.submit(turn)
        return waiting.future

    def shutdown(self) -> None:
        """Start no further call, and do not wait for those in progress."""
        with self._lock:
            self._is_shut = True
        for executor in (self._preparing, self._calling):
            executor.shutdown(wait=False, cancel_futures=True)

    def _prepare_next(self) -> None:
        """Prepare a call, unless enough are prepared: then the thread that begins one of those starts the next.

        Each turn that finds a call schedules another, since a turn may have been skipped while enough were prepared.
        """
        with self._lock:
            waiting = self._unprepared.pop_next(but=_NOT_URGENT if self._ahead >= self._ahead_max else ())
            if waiting is None:
                return
            self._ahead += waiting.kind in _NOT_URGENT
            self._prepare_more()
        try:
            if waiting.prepare is not None:
                waiting.prepare()
        except BaseException as error:  # noqa: BLE001 - passed to the caller through the future, as an executor does
            self._begun(waiting)
            waiting.future.set_exception(error)
            return
        with self._lock:
            self._ready.append(waiting)
            if not self._is_shut:
                self._calling.submit(self._call_next)

    def _call_next(self) -> None:
        """Make a call; none if only bulk calls wait and enough of those are in progress."""
        with self._lock:
            is_enough = self._bulk_under_way >= self._bulk_max()
            waiting = self._ready.pop_next(but=(Kind.BULK,) if is_enough else ())
            if waiting is None:
                self._turns_owed += 1
                return
            self._bulk_under_way += waiting.kind is Kind.BULK
        self._begun(waiting)
        try:
            result = waiting.call(*waiting.arguments)
        except BaseException as error:  # noqa: BLE001 - passed to the caller through the future, as an executor does
            self._ended(waiting)
            waiting.future.set_exception(error)
        else:
            self._ended(waiting)
            waiting.future.set_result(result)

    def _ended(self, waiting: _QueuedCall) -> None:
        """Count a call as ended. Skipped turns of bulk calls are made up for, as many as are allowed now."""
        if waiting.kind is not Kind.BULK:
            return
        with self._lock:
            self._bulk_under_way -= 1
            given_back = max(min(self._turns_owed, self._bulk_max() - self._bulk_under_way), 0)
            self._turns_owed -= given_back
            for _ in range(0 if self._is_shut else given_back):
                self._calling.submit(self._call_next)

    def _begun(self, waiting: _QueuedCall) -> None:
        """Count a call as begun, no longer as prepared ahead."""
        if waiting.kind is Kind.URGENT or waiting.prepare is None:
            return
        with self._lock:
            self._ahead -= 1
            self._prepare_more()

    def _prepare_more(self) -> None:
        """Schedule the preparation of a waiting call. The lock must be held."""
        if self._unprepared and not self._is_shut:
            self._preparing.submit(self._prepare_next)


CALLBACKS_AT_ONCE_MAX = 200
BULK_ORDERS_MIN = 500
"""A reading that has returned so many orders is likely to return as many again with each further page."""


class Calls:
    """The calls of one lane, in a `pool` shared by all. Results come back as callbacks, which `run_callbacks` runs."""

    def __init__(self, source: TrekkpaaleggSource, pool: CallPool) -> None:
        self._source = source
        self._pool = pool
        self._callbacks: queue.SimpleQueue[Callback] = queue.SimpleQueue()

    def request_page(self, reading: Reading, cursor: int, on_done: Callable[[Future[Any]], None]) -> None:
        """Fetch a page; `on_done` receives the finished call."""
        kind = Kind.BULK if reading.orders_seen >= BULK_ORDERS_MIN else Kind.ORDINARY
        kind = Kind.URGENT if reading.urgent else kind
        prepare = self._source.preparation(reading.trekkpliktig)
        self._submit(on_done, kind, prepare, self._source.fetch_page, reading.trekkpliktig, cursor)

    def request_version(
        self,
        readers: Sequence[str],
        wanted: tuple[str, int],
        on_done: Callable[[Future[Any]], None],
        *,
        is_urgent: bool = False,
    ) -> None:
        """Fetch one version (trekkid, trekkversjon) with the tokens of these trekkpliktige, as `fetch_version`."""
        prepare = self._source.preparation(readers[0]) if readers else None
        if prepare is not None:
            prepare = partial(_prepare_if_possible, prepare)
        kind = Kind.URGENT if is_urgent else Kind.ORDINARY
        self._submit(on_done, kind, prepare, fetch_version, self._source, readers, *wanted)

    def request(
        self,
        on_done: Callable[[Future[Any]], None],
        call: Callable[..., object],
        *arguments: object,
        kind: Kind = Kind.URGENT,
    ) -> None:
        """Call something else in the pool; `on_done` receives the finished call."""
        done = self._pool.submit(call, *arguments, kind=kind)
        done.add_done_callback(lambda done: self._callbacks.put(lambda: on_done(done)))

    def call_soon(self, callback: Callback) -> None:
        """Run a callback in the lane's thread soon. Any thread may call it."""
        self._callbacks.put(callback)

    def run_callbacks(self, wait_seconds: float) -> None:
        """Wait for a callback, then run those that are queued, in order, up to a limit."""
        try:
            callback = self._callbacks.get(timeout=wait_seconds) if wait_seconds > 0 else self._callbacks.get_nowait()
            callback()
            for _ in range(CALLBACKS_AT_ONCE_MAX - 1):
                callback = self._callbacks.get_nowait()
                callback()
        except queue.Empty:
            return

    def _submit(
        self,
        on_done: Callable[[Future[Any]], None],
        kind: Kind,
        prepare: Callable[[], object] | None,
        call: Callable[..., object],
        *arguments: object,
    ) -> None:
        done = self._pool.submit(call, *arguments, kind=kind, prepare=prepare)
        done.add_done_callback(lambda done: self._callbacks.put(lambda: on_done(done)))


def _prepare_if_possible(prepare: Callable[[], object]) -> None:
    """Prepare for one of several readers: where that fails, the call meets the same, and goes on to the others."""
    with contextlib.suppress(RetryableError, SuspendedError):
        prepare()


def fetch_version(source: TrekkpaaleggSource, readers: Sequence[str], trekkid: str, trekkversjon: int) -> Fetched:
    """One version by number, from the first of these trekkpliktige whose token gets it.

    `Failed` if any of them may get it later, `Gone` if it is denied to all. Raises `FatalError`.
    """
    outcome: Fetched = Gone("no employer of ours has shown it")
    for trekkpliktig in readers:
        try:
            fetched = source.fetch_trekkpaalegg(trekkpliktig, trekkid, trekkversjon)
        except (RetryableError, SuspendedError) as error:
            fetched = Failed(str(error))
        if not isinstance(fetched, Gone | Failed):
            return fetched
        if not isinstance(outcome, Failed):
            outcome = fetched
    return outcome
