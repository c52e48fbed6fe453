"""One lane's calls to the source: a pool of threads makes them, their answers come back through the lane's queue."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from producer.call_pool import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from producer.call_pool import CallPool
    from producer.reading import Reading
    from producer.source.port import TrekkpaaleggSource

    Answer = Callable[[], None]

ANSWERS_AT_ONCE_MAX = 200
BULK_ORDERS_MIN = 500
"""A reading that has brought so many orders is likely to bring as many again with each further page."""


class Calls:
    """One lane's calls. `pool` is shared by all lanes; what comes back is run by whoever calls `take_answers`."""

    def __init__(self, source: TrekkpaaleggSource, pool: CallPool) -> None:
        self._source = source
        self._pool = pool
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def ask_page(self, reading: Reading, cursor: int, take: Callable[[Future[Any]], None]) -> None:
        """Fetch a page; `take` gets the ended call."""
        kind = Kind.BULK if reading.orders_seen >= BULK_ORDERS_MIN else Kind.ORDINARY
        self._ask(take, reading, kind, self._source.fetch_page, reading.trekkpliktig, cursor)

    def ask_version(self, reading: Reading, wanted: tuple[str, int], take: Callable[[Future[Any]], None]) -> None:
        """Fetch one version by number; `take` gets the ended call."""
        self._ask(take, reading, Kind.ORDINARY, self._source.fetch_trekkpaalegg, reading.trekkpliktig, *wanted)

    def ask(self, take: Callable[[Future[Any]], None], call: Callable[..., object], *arguments: object) -> None:
        """Have something else called, before what is merely due; `take` gets the ended call."""
        done = self._pool.submit(call, *arguments, kind=Kind.URGENT)
        done.add_done_callback(lambda done: self._answers.put(lambda: take(done)))

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
        self,
        take: Callable[[Future[Any]], None],
        reading: Reading,
        kind: Kind,
        call: Callable[..., object],
        *arguments: object,
    ) -> None:
        prepare = self._source.preparation(reading.trekkpliktig)
        kind = Kind.URGENT if reading.urgent else kind
        done = self._pool.submit(call, *arguments, kind=kind, prepare=prepare)
        done.add_done_callback(lambda done: self._answers.put(lambda: take(done)))
