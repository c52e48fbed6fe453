"""What a lane writes outside of its transactions: observations for homes, questions, and signals for other lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from producer.domain.observation import Known
from producer.encode.observation import encode_known, encode_observation, encode_question, record_key
from producer.publish.port import ANY_PARTITION, NewObservation, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from producer.domain.observation import Observation, Question
    from producer.publish.port import ObservationWriter

    OnDone = Callable[[BaseException | None], None]


KNOWN_BYTES_MAX = 250_000
"""Of the keys in one record; escaped as JSON they may take twice that."""


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
        self._store(
            row, [NewObservation(record_key(each), *encode_observation(each)) for each in observations], on_done
        )

    def know(self, row: Row, lane: int, known: Known, on_done: OnDone) -> None:
        """Write it for the lane itself, in records that a topic takes."""
        key, records, keys, size = known.trekkpliktig.encode(), [], list[bytes](), 0
        for each in known.keys:
            if size + len(each) > KNOWN_BYTES_MAX:
                records.append(NewObservation(key, *encode_known(Known(known.trekkpliktig, tuple(keys))), lane))
                keys, size = [], 0
            keys.append(each)
            size += len(each)
        records.append(NewObservation(key, *encode_known(Known(known.trekkpliktig, tuple(keys))), lane))
        self._store(row, records, on_done)

    def ask(self, question: Question, on_done: OnDone) -> None:
        """Put it to every home, behind all that was handed over before."""
        value, headers = encode_question(question)
        key = question.trekkpliktig.encode()
        self._store(Row.BULK, [NewObservation(key, value, headers, home) for home in range(self._lanes)], on_done)

    def signal(self, key: str, value: bytes, on_done: OnDone, lane: int = ANY_PARTITION) -> None:
        """Write a signal, to the lane of its key if no other is given."""

        def done(stored: Future[None]) -> None:
            error = stored.exception()
            self._call_soon(lambda: on_done(error))

        self._signals.begin(key, value, lane).add_done_callback(done)

    def _store(self, row: Row, records: Sequence[NewObservation], on_done: OnDone) -> None:
        self._observations.store(row, records, lambda error: self._call_soon(lambda: on_done(error)))
