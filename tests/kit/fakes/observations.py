"""Observations in memory: an `ObservationWriter` for all, and an `ObservationReader` for each home.

A record stands once it is written, in the order of its row and partition, until the home deletes it. It is delivered at
once, in the thread that writes it or that gives room. Writes fail, or are late, on demand.
"""

from __future__ import annotations

import enum
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from producer.domain.state import ObservationOffsets
from producer.errors import ObservationsLostError
from producer.publish.port import ANY_PARTITION, ObservedRecord, Row
from producer.publish.topics import lane_of
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.publish.port import NewObservation, ObservationReader, ObservationWriter

ROOM_MAX = 10_000
BATCH_MAX = 500


class WriteFault(enum.Enum):
    """How a write can fail."""

    REFUSED = "refused"
    """It is not stored, and its writer learns that."""
    ANSWER_LOST = "answer_lost"
    """It is stored, but its writer never learns that."""
    ANSWER_LATE = "answer_late"
    """It is stored, but its writer learns that with `FakeObservations.catch_up`."""
    LATE = "late"
    """It is stored and acknowledged with `FakeObservations.catch_up`."""


class _Log:
    """The records of one row and partition, as a list from which the first `start` were deleted."""

    def __init__(self) -> None:
        self.start = 0
        self.records: list[ObservedRecord] = []

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def append(self, record: ObservedRecord) -> None:
        self.records.append(record)

    def since(self, offset: int, count: int) -> list[ObservedRecord]:
        first = offset - self.start
        return self.records[first : first + count]

    def delete_before(self, offset: int) -> None:
        offset = min(max(offset, self.start), self.end)
        del self.records[: offset - self.start]
        self.start = offset


class _LateWrite(NamedTuple):
    home: int
    record: ObservedRecord
    stored: Future[None]
    is_stored: bool


class FakeObservations:
    """Both rows of observations, a partition for each home. Safe for several threads.

    `written` has every record that ever stood, also those that were deleted.
    """

    def __init__(self, homes: int = 1, room_max: int = ROOM_MAX) -> None:
        self.homes = homes
        self.written: list[tuple[int, ObservedRecord]] = []
        self.is_reachable = True
        self.lock = threading.RLock()
        self._room_max = room_max
        self._logs: dict[tuple[Row, int], _Log] = {}
        self._readers: list[FakeObservationReader] = []
        self._faults: list[tuple[WriteFault | None, Row | None]] = []
        self._late: list[_LateWrite] = []

    def writer(self) -> ObservationWriter:
        """What hands over."""
        return FakeObservationWriter(self)

    def reader(self, home: int) -> ObservationReader:
        """What reads the partition of this home."""
        return FakeObservationReader(self, home, self._room_max)

    def records(self, home: int, row: Row) -> list[ObservedRecord]:
        """What stands in this partition."""
        with self.lock:
            return list(self.log(row, home).records)

    def end(self, home: int, row: Row) -> int:
        """The offset of the next record of this partition."""
        with self.lock:
            return self.log(row, home).end

    def fail(self, fault: WriteFault, *, times: int = 1, row: Row | None = None, after: int = 0) -> None:
        """The next `times` writes (into this row) meet this fault, once `after` others have not."""
        with self.lock:
            self._faults += [*[(None, row)] * after, *[(fault, row)] * times]

    def heal(self) -> None:
        """No more faults, and nothing late."""
        with self.lock:
            self._faults.clear()
            self.is_reachable = True
        self.catch_up()
        self.deliver()

    def catch_up(self) -> None:
        """Store and acknowledge what is late, in the order of the writes."""
        with self.lock:
            late, self._late = self._late, []
            for each in late:
                if not each.is_stored:
                    self._store(each.home, each.record)
        for each in late:
            _acknowledge(each.stored)
        self.deliver()

    # What readers and writers call.

    def log(self, row: Row, home: int) -> _Log:
        """One partition of a row."""
        return self._logs.setdefault((row, home), _Log())

    def attach(self, reader: FakeObservationReader) -> None:
        """Deliver to this reader from now on."""
        with self.lock:
            self._readers.append(reader)

    def detach(self, reader: FakeObservationReader) -> None:
        """Deliver nothing more to this reader."""
        with self.lock:
            self._readers = [each for each in self._readers if each is not reader]

    def deliver(self) -> None:
        """Let every reader have what it has room for."""
        with self.lock:
            readers = list(self._readers)
        for reader in readers:
            reader.deliver_waiting()

    def write(self, home: int, record: ObservedRecord) -> Future[None]:
        """See `ObservationWriter.begin`; the offset of the record is given here."""
        stored: Future[None] = Future()
        with self.lock:
            fault = self._next_fault(record.row) if self.is_reachable else WriteFault.REFUSED
            is_stored = fault not in {WriteFault.REFUSED, WriteFault.LATE}
            if is_stored:
                self._store(home, record)
            if fault in {WriteFault.LATE, WriteFault.ANSWER_LATE}:
                self._late.append(_LateWrite(home, record, stored, is_stored))
        if fault in {WriteFault.REFUSED, WriteFault.ANSWER_LOST}:
            stored.set_exception(RetryableError("an observation could not be stored, on demand"))
        elif fault is None:
            _acknowledge(stored)
        self.deliver()
        return stored

    def _store(self, home: int, record: ObservedRecord) -> None:
        log = self.log(record.row, home)
        record = ObservedRecord(record.row, log.end, record.key, record.value, record.headers)
        log.append(record)
        self.written.append((home, record))

    def _next_fault(self, row: Row) -> WriteFault | None:
        for each in self._faults:
            if each[1] in (row, None):
                self._faults.remove(each)
                return each[0]
        return None


def _acknowledge(stored: Future[None]) -> None:
    """The writer may have given up and cancelled it."""
    if stored.set_running_or_notify_cancel():
        stored.set_result(None)


class FakeObservationWriter:
    """Writes into any partition of a `FakeObservations`."""

    def __init__(self, observations: FakeObservations) -> None:
        self._observations = observations

    def store(
        self, row: Row, records: Sequence[NewObservation], on_done: Callable[[RetryableError | None], None]
    ) -> None:
        """See the port."""
        errors: list[BaseException | None] = []
        lock = threading.Lock()

        def done(stored: Future[None]) -> None:
            with lock:
                errors.append(stored.exception())
                is_last = len(errors) == len(records)
            if is_last:
                first = next(filter(None, errors), None)
                on_done(first if isinstance(first, RetryableError) else None)

        for key, value, headers, asked in records:
            home = lane_of(key.decode(), self._observations.homes) if asked == ANY_PARTITION else asked
            stored = self._observations.write(home, ObservedRecord(row, -1, key, value, dict(headers)))
            stored.add_done_callback(done)


class FakeObservationReader:
    """Reads the partition of one home in a `FakeObservations`, from `start` to `close`."""

    def __init__(self, observations: FakeObservations, home: int, room_max: int) -> None:
        self._observations = observations
        self._home = home
        self._room_max = room_max
        self._next: dict[Row, int] = {}
        self._outstanding: dict[Row, int] = {}
        self._is_delivering = False
        self._is_open = False
        self._deliver: Callable[[list[ObservedRecord]], None]
        self._fail: Callable[[BaseException], None]

    def start(
        self,
        offsets: ObservationOffsets,
        deliver: Callable[[list[ObservedRecord]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """See the port."""
        self._deliver, self._fail = deliver, fail
        self._next = {Row.URGENT: offsets.urgent, Row.BULK: offsets.bulk}
        self._outstanding = dict.fromkeys(Row, 0)
        self._is_open = True
        self._observations.attach(self)
        self.deliver_waiting()

    def done(self, row: Row, count: int) -> None:
        """See the port."""
        with self._observations.lock:
            self._outstanding[row] -= count
        self.deliver_waiting()

    def ends(self) -> ObservationOffsets:
        """See the port."""
        with self._observations.lock:
            if not self._observations.is_reachable:
                raise RetryableError("Kafka cannot be reached, on demand")
            ends = {row: log.end for row, log in self._logs()}
            return ObservationOffsets(urgent=ends[Row.URGENT], bulk=ends[Row.BULK])

    def delete_before(self, offsets: ObservationOffsets) -> None:
        """See the port."""
        with self._observations.lock:
            if self._observations.is_reachable:
                befores = {Row.URGENT: offsets.urgent, Row.BULK: offsets.bulk}
                for row, log in self._logs():
                    log.delete_before(befores[row])

    def close(self) -> None:
        """See the port."""
        with self._observations.lock:
            self._is_open = False
            self._observations.detach(self)

    def deliver_waiting(self) -> None:
        """Deliver what has come, as far as there is room; urgent records first."""
        with self._observations.lock:
            if self._is_delivering or not (self._is_open and self._observations.is_reachable):
                return
            if any(not log.start <= self._next[row] <= log.end for row, log in self._logs()):
                self.close()
                self._fail(ObservationsLostError(f"observations of home {self._home} are gone"))
                return
            self._is_delivering = True
            try:
                while self._deliver_batch(Row.URGENT) or self._deliver_batch(Row.BULK):
                    pass
            finally:
                self._is_delivering = False

    def _logs(self) -> list[tuple[Row, _Log]]:
        return [(row, self._observations.log(row, self._home)) for row in Row]

    def _deliver_batch(self, row: Row) -> bool:
        if not self._is_open:
            return False
        room = self._room_max - self._outstanding[row]
        log = self._observations.log(row, self._home)
        batch = log.since(self._next[row], min(room, BATCH_MAX)) if room > 0 else []
        if batch:
            self._next[row] += len(batch)
            self._outstanding[row] += len(batch)
            self._deliver(batch)
        return bool(batch)
