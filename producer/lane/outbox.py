"""What a lane writes outside of its transactions: observations for homes, questions, and signals for other lanes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from producer.encode.observation import encode_observation, encode_question
from producer.publish.port import ANY_PARTITION, Row
from producer.publish.topics import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from producer.domain.observation import Observation, Question
    from producer.publish.port import ObservationWriter

    OnDone = Callable[[BaseException | None], None]


class SignalWriter(Protocol):
    """Writes signals. Any thread may use it."""

    def begin(self, trekkpliktig: str, value: bytes | None, partition: int = ANY_PARTITION) -> Future[None]:
        """Write one signal, for the lane of the trekkpliktig if no partition is given."""


class Outbox:
    """See the module. `on_done` of each call runs through `call_soon`, with None or the first error."""

    def __init__(
        self,
        observations: ObservationWriter,
        signals: SignalWriter,
        lanes: int,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._observations = observations
        self._signals = signals
        self._lanes = lanes
        self._call_soon = call_soon

    def hand_over(self, row: Row, observations: Sequence[Observation], on_done: OnDone) -> None:
        """Write each for its home."""
        begun = []
        for each in observations:
            value, headers = encode_observation(each)
            home = home_of(each.key, self._lanes)
            begun.append(self._observations.begin(row, home, each.key, value, headers))
        self._when_all(begun, on_done)

    def ask(self, question: Question, on_done: OnDone) -> None:
        """Put it to every home, behind all that was handed over before."""
        value, headers = encode_question(question)
        key = question.trekkpliktig.encode()
        homes = range(self._lanes)
        self._when_all([self._observations.begin(Row.BULK, home, key, value, headers) for home in homes], on_done)

    def signal(self, key: str, value: bytes, on_done: OnDone, lane: int = ANY_PARTITION) -> None:
        """Write a signal, to the lane of its key if no other is given."""
        self._when_all([self._signals.begin(key, value, lane)], on_done)

    def _when_all(self, begun: Iterable[Future[None]], on_done: OnDone) -> None:
        begun = list(begun)
        counter = _Counter(len(begun), lambda error: self._call_soon(lambda: on_done(error)))
        for future in begun:
            future.add_done_callback(counter.count)


class _Counter:
    """Calls `on_done` once all of so many futures are done, with the first error. Any thread may count."""

    def __init__(self, left: int, on_done: OnDone) -> None:
        self._lock = threading.Lock()
        self._left = left
        self._error: BaseException | None = None
        self._on_done = on_done

    def count(self, done: Future[None]) -> None:
        """One of them is done."""
        error = done.exception()
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            is_last = self._left == 0
        if is_last:
            self._on_done(self._error)
