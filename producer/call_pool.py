"""Calls and what each needs beforehand in; as many calls under way at once as are allowed out, the urgent first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

URGENT_IN_A_ROW_MAX = 16
"""After so many turns an ordinary call has its own, however many urgent ones wait."""


PREPARED_AT_ONCE_EACH = 2
"""So many are prepared at once for each call that is made at once: so that tokens need not come as fast as answers."""

AHEAD_EACH_MAX = 4
"""So many ordinary calls are prepared, or being so, for each that is made at once: a token that waits grows old."""


class _Waiting(msgspec.Struct, frozen=True):
    future: Future[Any]
    call: Callable[..., object]
    arguments: tuple[object, ...]
    urgent: bool
    prepare: Callable[[], object] | None


class _Rows:
    """Two rows, each in the order that its calls came; with an executor a notified employer would wait behind all."""

    def __init__(self) -> None:
        self._urgent: deque[_Waiting] = deque()
        self._ordinary: deque[_Waiting] = deque()
        self._turns = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    def put(self, waiting: _Waiting) -> None:
        (self._urgent if waiting.urgent else self._ordinary).append(waiting)

    def take(self, *, urgent_only: bool = False) -> _Waiting | None:
        """The next one, which is now out of its row."""
        self._turns += 1
        rows = [self._urgent] if urgent_only else [self._urgent, self._ordinary]
        if self._turns % (URGENT_IN_A_ROW_MAX + 1) == 0:
            rows.reverse()
        return next((row.popleft() for row in rows if row), None)


class CallPool:
    """Threads shared by all lanes: so many calls are under way at once, and so many are prepared meanwhile.

    Preparing (fetching a token) is no call to the source. Done by the threads that call, it would take turns from
    those calls: with a token for each of many employers, half of them. So it is done ahead, by other threads, but not
    for many at once.
    """

    def __init__(self, threads: int) -> None:
        self._ahead_max = AHEAD_EACH_MAX * threads
        self._calling = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._preparing = ThreadPoolExecutor(PREPARED_AT_ONCE_EACH * threads, thread_name_prefix="prepare")
        self._lock = threading.Lock()
        self._ready, self._unprepared = _Rows(), _Rows()
        self._ahead = 0
        """Ordinary calls that are prepared, or being prepared, and not yet being made."""
        self._is_shut = False

    def submit(
        self,
        call: Callable[..., object],
        *arguments: object,
        urgent: bool = False,
        prepare: Callable[[], object] | None = None,
    ) -> Future[Any]:
        """Have this called, after `prepare`; urgent ones before all others, each kind in the order it came.

        What `prepare` raises is how the call ends.
        """
        waiting = _Waiting(Future(), call, arguments, urgent, prepare)
        rows, executor, turn = self._ready, self._calling, self._call_next
        if prepare is not None:
            rows, executor, turn = self._unprepared, self._preparing, self._prepare_next
        with self._lock:
            rows.put(waiting)
        executor.submit(turn)
        return waiting.future

    def shutdown(self) -> None:
        """Make no further call, and wait for none."""
        with self._lock:
            self._is_shut = True
        for executor in (self._preparing, self._calling):
            executor.shutdown(wait=False, cancel_futures=True)

    def _prepare_next(self) -> None:
        """Prepare one, unless enough are: then whoever begins one of those gives the turn back.

        Whatever waits is looked at again after each turn that took one, since another may have lost its own.
        """
        with self._lock:
            waiting = self._unprepared.take(urgent_only=self._ahead >= self._ahead_max)
            if waiting is None:
                return
            self._ahead += not waiting.urgent
            self._look_again()
        try:
            if waiting.prepare is not None:
                waiting.prepare()
        except BaseException as error:  # noqa: BLE001 - carried to whoever asked, as an executor does
            self._begun(waiting)
            waiting.future.set_exception(error)
            return
        with self._lock:
            self._ready.put(waiting)
            if not self._is_shut:
                self._calling.submit(self._call_next)

    def _call_next(self) -> None:
        with self._lock:
            waiting = self._ready.take()
        if waiting is None:
            raise AssertionError("one was put into a row for each turn")
        self._begun(waiting)
        try:
            result = waiting.call(*waiting.arguments)
        except BaseException as error:  # noqa: BLE001 - carried to whoever asked, as an executor does
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(result)

    def _begun(self, waiting: _Waiting) -> None:
        """It counts as prepared ahead no more."""
        if waiting.urgent or waiting.prepare is None:
            return
        with self._lock:
            self._ahead -= 1
            self._look_again()

    def _look_again(self) -> None:
        """A turn for what waits to be prepared. With the lock held."""
        if self._unprepared and not self._is_shut:
            self._preparing.submit(self._prepare_next)
