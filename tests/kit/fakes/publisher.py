"""`LanePublisher`s on topics in memory, without Kafka: transactions commit, abort or fail as a test says.

They keep the promises of the port (the same contract suite runs on them and on the real publisher): each transaction
is kept with its outcome, `acquire` fences the former owner and ends what it left open, and the state that it returns
is read back from the committed records of `…-positions` by the real decoding. They fail on demand. The observations
of the same Kafka, which are written outside of transactions, are in `FakeKafka.observations`.
"""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, NamedTuple

from producer.errors import AbortedError, LaneFencedError, OutcomeUnknownError
from producer.publish.state import lane_state_of
from producer.publish.topics import Topics
from tests.kit.fakes.observations import FakeObservations
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.domain.state import LaneState
    from producer.publish.port import Record

RECORD_BYTES_MAX = 1_000_000


class Outcome(enum.Enum):
    """How a transaction ended."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Fault(enum.Enum):
    """How a transaction can fail."""

    ABORTED = "aborted"
    """It is rolled back, and its owner learns that."""
    ANSWER_LOST = "answer_lost"
    """It is committed, but its owner never learns that."""
    COMMIT_LOST = "commit_lost"
    """It is rolled back, but its owner never learns that."""
    FENCED = "fenced"
    """Another instance acquires the lane before it is committed."""


class Written(NamedTuple):
    """One record in its partition."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]


class Transaction:
    """One transaction of one lane."""

    def __init__(self, lane: int, records: list[Written], signal_offset: int) -> None:
        self.lane = lane
        self.records = records
        self.signal_offset = signal_offset
        self.outcome = Outcome.OPEN


class FakeKafka:
    """The topics of one application, and every transaction on them. Safe for several threads.

    `partitions` is the number of partitions of every topic, which is the number of lanes.
    """

    def __init__(self, partitions: int = 1, prefix: str = "fake", *, record_bytes_max: int = RECORD_BYTES_MAX) -> None:
        self.topics = Topics.of(prefix)
        self.partitions = partitions
        self.record_bytes_max = record_bytes_max
        self.transactions: list[Transaction] = []
        self.observations = FakeObservations(partitions)
        self._lock = threading.RLock()
        self._epochs: dict[int, int] = {}
        self._faults: list[tuple[int | None, Fault]] = []

    @property
    def is_reachable(self) -> bool:
        """Whether Kafka answers."""
        return self.observations.is_reachable

    @is_reachable.setter
    def is_reachable(self, is_reachable: bool) -> None:
        self.observations.is_reachable = is_reachable

    def publisher(self, lane: int = 0) -> FakeLanePublisher:
        """A publisher of this lane, which has not acquired it yet."""
        return FakeLanePublisher(self, lane)

    def fail(self, fault: Fault, lane: int | None = None) -> None:
        """The next transaction (of this lane) meets this fault; one fault a transaction, in the order given."""
        with self._lock:
            self._faults.append((lane, fault))

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()
        self.observations.heal()

    def leave_open(self, lane: int, records: Sequence[Record]) -> None:
        """A transaction of the lane's owner that is never committed, as of one that was killed."""
        self._write(lane, records, 0)

    def committed(self, topic: str) -> list[Written]:
        """The records of a topic as a reader of what is committed sees them, in the order they were written."""
        with self._lock:
            return [
                written
                for transaction in self.transactions
                if transaction.outcome is Outcome.COMMITTED
                for written in transaction.records
                if written.topic == topic
            ]

    def signal_offset(self, lane: int) -> int | None:
        """The lane's committed signal offset, None when none ever was."""
        with self._lock:
            offsets = [
                each.signal_offset
                for each in self.transactions
                if each.lane == lane and each.outcome is Outcome.COMMITTED
            ]
            return offsets[-1] if offsets else None

    def state(self, lane: int) -> LaneState:
        """The state of this lane in `…-positions`, read back."""
        positions = self.committed(self.topics.positions)
        return lane_state_of((each.key, each.value) for each in positions if each.partition == lane)

    # What the publishers call.

    def fence(self, lane: int) -> int:
        """The next epoch of the lane; what the former one left open is rolled back."""
        with self._lock:
            self._check_reachable()
            for transaction in self.transactions:
                if transaction.lane == lane and transaction.outcome is Outcome.OPEN:
                    transaction.outcome = Outcome.ABORTED
            self._epochs[lane] = self._epochs.get(lane, 0) + 1
            return self._epochs[lane]

    def commit(self, lane: int, epoch: int, records: Sequence[Record], signal_offset: int) -> None:
        """One transaction of this epoch. Raises what `LanePublisher.publish` raises."""
        with self._lock:
            fault = self._next_fault(lane)
            if fault is Fault.FENCED:
                self.fence(lane)
            if epoch != self._epochs[lane]:
                raise LaneFencedError(f"lane {lane} was acquired by another instance")
            transaction = self._write(lane, records, signal_offset)
            transaction.outcome = Outcome.ABORTED if fault in {Fault.ABORTED, Fault.COMMIT_LOST} else Outcome.COMMITTED
            if fault is Fault.ABORTED:
                raise AbortedError(f"transaction of lane {lane}: aborted on demand")
            if fault in {Fault.ANSWER_LOST, Fault.COMMIT_LOST}:
                raise OutcomeUnknownError(f"transaction of lane {lane}: no answer, on demand")

    def _write(self, lane: int, records: Sequence[Record], signal_offset: int) -> Transaction:
        with self._lock:
            self._check(lane, records)
            written = [
                Written(each.topic, each.partition, each.key, each.value, dict(each.headers)) for each in records
            ]
            transaction = Transaction(lane, written, signal_offset)
            self.transactions.append(transaction)
            return transaction

    def _check(self, lane: int, records: Sequence[Record]) -> None:
        for record in records:
            assert 0 <= record.partition < self.partitions, f"a record without a partition of {record.topic}"
            if len(record.key) + len(record.value or b"") > self.record_bytes_max:
                raise OutcomeUnknownError(f"transaction of lane {lane}: a topic takes less than it did")

    def _next_fault(self, lane: int) -> Fault | None:
        for each in self._faults:
            if each[0] in (lane, None):
                self._faults.remove(each)
                return each[1]
        return None

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise RetryableError("Kafka cannot be reached, on demand")


class FakeLanePublisher:
    """One lane's writer on a `FakeKafka`."""

    def __init__(self, kafka: FakeKafka, lane: int) -> None:
        self._kafka = kafka
        self._lane = lane
        self._epoch: int | None = None

    def acquire(self, is_stopping: Callable[[], bool] = lambda: False) -> LaneState:
        """See the port."""
        if is_stopping():
            raise RetryableError(f"lane {self._lane} is not acquired any more")
        self._epoch = self._kafka.fence(self._lane)
        return self._kafka.state(self._lane)

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """See the port."""
        if self._epoch is None:
            raise OutcomeUnknownError(f"lane {self._lane} has no producer: it must be acquired first")
        try:
            self._kafka.commit(self._lane, self._epoch, records, signal_offset)
        except OutcomeUnknownError:
            self._epoch = None
            raise

    def check(self) -> None:
        """See `LanePublisher.check`: here a commit never hangs."""

    def close(self) -> None:
        """See the port."""
        self._epoch = None
