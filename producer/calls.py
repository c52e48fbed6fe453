"""Calls to the source: a pool of threads makes them, the urgent first; answers come back through a lane's queue."""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.reading import Reading
    from producer.source.port import TrekkpaaleggSource

    Answer = Callable[[], None]

ANSWERS_AT_ONCE_MAX = 200
URGENT_IN_A_ROW_MAX = 16
"""After so many turns an ordinary call has its own, however many urgent ones wait."""

Waiting = tuple[Future[Any], "Callable[..., object]", tuple[object, ...]]


class CallPool:
    """Threads shared by all lanes; as many calls are under way at once as there are threads.

    What waits is in two rows here and not with the executor, which knows no order but the first come's: a notified
    employer would wait behind hundreds that are merely due.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._urgent: deque[Waiting] = deque()
        self._ordinary: deque[Waiting] = deque()
        self._turns = count(1)

    def submit(self, call: Callable[..., object], *arguments: object, urgent: bool = False) -> Future[Any]:
        """Have this called; urgent ones before all others, each kind in the order it came."""
        future: Future[Any] = Future()
        (self._urgent if urgent else self._ordinary).append((future, call, arguments))
        self._executor.submit(self._run_next)
        return future

    def shutdown(self) -> None:
        """Make no further call, and wait for none."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        future, call, arguments = self._next()
        try:
            result = call(*arguments)
        except BaseException as error:  # noqa: BLE001 - carried to whoever asked, as an executor does
            future.set_exception(error)
        else:
            future.set_result(result)

    def _next(self) -> Waiting:
        """One was put into a row for each turn, so there is one; it may lie in the row that was just found empty."""
        first, second = self._urgent, self._ordinary
        if next(self._turns) % (URGENT_IN_A_ROW_MAX + 1) == 0:
            first, second = second, first
        while True:
            for row in (first, second):
                with contextlib.suppress(IndexError):
                    return row.popleft()


class Calls:
    """One lane's calls. `pool` is shared by all lanes; what comes back is run by whoever calls `take_answers`."""

    def __init__(self, source: TrekkpaaleggSource, pool: CallPool) -> None:
        self._source = source
        self._pool = pool
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def ask_page(self, reading: Reading, cursor: int, take: Callable[[Future[Any]], None]) -> None:
        """Fetch a page; `take` gets the ended call."""
        self._ask(take, reading, self._source.fetch_page, reading.trekkpliktig, cursor)

    def ask_version(self, reading: Reading, wanted: tuple[str, int], take: Callable[[Future[Any]], None]) -> None:
        """Fetch one version by number; `take` gets the ended call."""
        self._ask(take, reading, self._source.fetch_trekkpaalegg, reading.trekkpliktig, *wanted)

    def put(self, answer: Answer) -> None:
        """Have something run in the lane's thread. Any thread may call it."""
        self._answers.put(answer)

    def take_answers(self, wait_seconds: float) -> None:
        """Wait for one answer, then run those that have come, in their order, up to a number."""
        try:
            answer = self._answers.get(timeout=wait_seconds) if wait_seconds > 0 else self._answers.get_nowait()
            answer()
            for _ in range(ANSWERS_AT_ONCE_MAX - 1):
                answer = self._answers.get_nowait()
                answer()
        except queue.Empty:
            return

    def _ask(
        self, take: Callable[[Future[Any]], None], reading: Reading, call: Callable[..., object], *arguments: object
    ) -> None:
        done = self._pool.submit(call, *arguments, urgent=reading.urgent)
        done.add_done_callback(lambda done: self._answers.put(lambda: take(done)))
