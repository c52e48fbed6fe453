"""One running lane on a source and topics in memory, with real threads.

Readings are requested by signals, and waited for with a deadline; the clock does not move by itself.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import schemas
from producer.domain.requests import OperatorRequest
from producer.encode.avro import compile_encoder, single_object_prefix
from producer.encode.event import EVENT_BYTES_MAX, EventEncoder
from producer.encode.rejected import RejectedEncoder
from producer.encode.signal import encode_request
from producer.encode.state import decode_results, decode_trekkpliktig_position
from producer.lane.calls import CallPool
from producer.lane.commit import RecordBuilder
from producer.lane.lane import Lane, LaneParts, RoundEnd
from producer.lane.priority import TransactionPriority
from producer.lane.pulling import PullParts
from producer.lane.reading import LaneOptions
from producer.lane.schedule import OnRequestSchedule, RoundSchedule, Schedule
from producer.publish.port import ANY_PARTITION, Row
from producer.publish.state import RESULTS
from tests.kit.fakes.history import FakeHistory
from tests.kit.fakes.observations import ROOM_MAX, FakeObservations
from tests.kit.fakes.publisher import FakeKafka
from tests.kit.fakes.source import FakeSource
from tests.kit.stages.lane_journal import LaneJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from producer.domain.requests import RequestResult
    from producer.domain.state import OrderState
    from producer.domain.trekkpaalegg import Trekkpaalegg
    from producer.lane.releasing import Understand
    from producer.lane.repairing import FindLost
    from producer.notifications.port import EventFeed
    from producer.source.port import TrekkpaaleggSource
    from tests.kit.fakes.publisher import Written

WAIT_SECONDS_MAX = 60.0
THREADS = 5
"""Calls of the source at once."""

PULL_INTERVAL_SECONDS = 0.02
SECOND = 1_000_000
"""Microseconds, as the clock counts."""

DAY = 86_400 * SECOND
_API_URL = "https://api.example.test/trekkpaalegg/v1"
_BEGINNING = 1_790_000_000 * SECOND


class Event(NamedTuple):
    """What the headers of an event say."""

    trekkid: str
    trekkversjon: int
    origin: str
    late: bool
    correction: int | None


class Turns:
    """Counts the turns of a lane's loop; knows whether it has ended."""

    def __init__(self) -> None:
        self.count = 0
        self.have_ended = False

    def beat(self) -> None:
        """Count one."""
        self.count += 1

    def ended(self) -> None:
        """Keep that it has."""
        self.have_ended = True


def build_records(kafka: FakeKafka, event_bytes_max: int = EVENT_BYTES_MAX) -> RecordBuilder:
    """The real encodings for the topics in memory."""
    event, rejected = schemas.load("trekkpaalegg_versjon"), schemas.load("trekkpaalegg_rejected")
    encode_value = compile_encoder(event, single_object_prefix(event.fingerprint))
    return RecordBuilder(
        kafka.topics,
        EventEncoder(_API_URL, encode_value, event.fingerprint, event_bytes_max),
        RejectedEncoder(_API_URL, rejected, single_object_prefix(rejected.fingerprint)),
    )


def event(version: Trekkpaalegg, origin: str = "poll", *, late: bool = False, correction: int | None = None) -> Event:
    """What the headers of this version's event are to say."""
    return Event(version.trekkid, version.trekkversjon, origin, late, correction)


def event_of(written: Written) -> Event:
    """What the headers of this record say."""
    headers = written.headers
    trekkversjon = int(headers["ce_id"].removeprefix(written.key + b"/").split(b"/")[0])
    correction = headers.get("ce_correction")
    return Event(
        written.key.decode(),
        trekkversjon,
        headers["ce_origin"].decode(),
        headers.get("ce_late") == b"true",
        None if correction is None else int(correction),
    )


def names_of(events: Sequence[Event]) -> list[tuple[str, int]]:
    """Which version each event is: (trekkid, trekkversjon)."""
    return [(each.trekkid, each.trekkversjon) for each in events]


class _Signals:
    """Writes signals to the lane of a stage, as another lane would."""

    def __init__(self, stage: LaneStage) -> None:
        self._stage = stage

    def begin(self, trekkpliktig: str, value: bytes | None, partition: int = ANY_PARTITION) -> Future[None]:
        stored: Future[None] = Future()
        if partition in (ANY_PARTITION, 0):
            self._stage.signal(trekkpliktig, value)
        stored.set_result(None)
        return stored


class LaneStage:
    """Lane 0 of `lanes`, started and stopped again and again on the same source and topics.

    `served` are all that the application serves, `trekkpliktige` those of them in this lane. A lane that is started
    while `through` is set reads from that instead of the source. If there is a `feed`, it polls it all the time.

    `now` is the time in microseconds since 1970, which stands still. The lane's other clock runs, `seconds_ahead` of
    the machine's.
    """

    def __init__(  # a test names those that it minds
        self,
        trekkpliktige: Sequence[str],
        *,
        served: Sequence[str] = (),
        maks_antall: int = 2500,
        overlap_sekvensnummer: int = 1000,
        reconcile_interval_seconds: float = 86_400.0,
        event_bytes_max: int = EVENT_BYTES_MAX,
        lanes: int = 1,
        room_max: int = ROOM_MAX,
        feed: EventFeed | None = None,
    ) -> None:
        self.source = FakeSource(maks_antall=maks_antall)
        self.through: TrekkpaaleggSource | None = None
        self.understand: Understand | None = None
        self.find_lost: FindLost | None = None
        self.kafka = FakeKafka(lanes)
        self.observations = self.kafka.observations = FakeObservations(lanes, room_max)
        self.history = FakeHistory(self.kafka)
        self.journal = LaneJournal()
        self.now = _BEGINNING
        self.seconds_ahead = 0.0
        self.error: BaseException | None = None
        self.trekkpliktige = list(trekkpliktige)
        self.lane: Lane | None = None
        self.publisher = self.kafka.publisher()
        self.signals = 0
        self.turns = Turns()
        self.priority = TransactionPriority()
        self._records = build_records(self.kafka, event_bytes_max)
        self._pool = CallPool(THREADS)
        self._pull_pool = ThreadPoolExecutor(THREADS)
        self._pull = None if feed is None else PullParts(feed, self._pull_pool, PULL_INTERVAL_SECONDS)
        self._thread: threading.Thread | None = None
        self._expected: Counter[str] = Counter()
        self._options = LaneOptions(
            served=frozenset((*served, *trekkpliktige)),
            overlap_sekvensnummer=overlap_sekvensnummer,
            reconcile_interval_seconds=reconcile_interval_seconds,
            now=lambda: self.now,
            lanes=lanes,
            clock=self._clock,
        )

    def _clock(self) -> float:
        return time.monotonic() + self.seconds_ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.shutdown()
        self._pull_pool.shutdown()

    def start(self, schedule: Schedule | None = None, *, decides: bool = True) -> None:
        """As `begin`. Returns when the readings have ended, well or not, and all is decided on, or the lane has."""
        self.begin(schedule, decides=decides)
        self.settle()

    def begin(self, schedule: Schedule | None = None, *, decides: bool = True) -> None:
        """A new owner acquires the lane and reads all its trekkpliktige once.

        Earlier signals that are not processed arrive as signals that name nobody; tests that need others send them.
        Unless it `decides`, the lane reads neither lists nor observations, as that of some commands.
        """
        self.stop()
        self.error = None
        if schedule is None:
            schedule = Schedule(1e6, lambda: 1.0) if decides else OnRequestSchedule(lambda: 1.0)
        schedule.set_trekkpliktige(self.trekkpliktige, self._clock())
        self.publisher = self.kafka.publisher()
        parts = LaneParts(
            source=self.through or self.source,
            pool=self._pool,
            publisher=self.publisher,
            observations=self.observations.reader(0) if decides else None,
            find_published=self.history.find_published,
            writer=self.observations.writer(),
            signals=_Signals(self),
            records=self._records,
            schedule=schedule,
            observer=self.journal,
            priority=self.priority,
            pull=self._pull,
            understand=self.understand,
            find_lost=self.find_lost,
            round_end=RoundEnd(1) if isinstance(schedule, RoundSchedule) else None,
        )
        self.turns = Turns()
        self.lane = lane = Lane(0, parts, self._options, self.turns)
        first_signal_offset = self.kafka.signal_offset(0) or 0
        self._expected = self.journal.ended + Counter(self.trekkpliktige if decides else ())

        def body() -> None:
            try:
                lane.run(first_signal_offset)
            except BaseException as error:  # noqa: BLE001 - kept for the test, as the worker keeps it
                self.error = error

        self._thread = threading.Thread(target=body)
        self._thread.start()
        for offset in range(first_signal_offset, self.signals):
            lane.signal("", offset)

    def settle(self) -> None:
        """Wait until the readings that were begun have ended and all is decided on, or the lane has ended."""
        self.wait_until(lambda: self.journal.ended >= self._expected and self._is_settled())

    def _is_settled(self) -> bool:
        """Whether the home has committed past everything that was handed over."""
        reached = self.kafka.state(0).observations
        rows = {Row.URGENT: reached.urgent, Row.BULK: reached.bulk}
        return all(offset >= self.observations.end(0, row) for row, offset in rows.items())

    def read(self, *trekkpliktige: str) -> None:
        """Have these (or all) read once more; returns when that has ended, well or not, or the lane has."""
        assert self.lane is not None, "the lane was never started"
        self._expected = self.journal.ended + Counter(trekkpliktige or self.trekkpliktige)
        for trekkpliktig in trekkpliktige or self.trekkpliktige:
            self.signal(trekkpliktig)
        self.settle()

    def request(
        self,
        trekkpliktig: str,
        kind: str,
        name: str = "request",
        position: int | None = None,
        *,
        record: str | None = None,
        correction: bool = False,
    ) -> RequestResult:
        """Send an operator request; returns the first result of the request called `name`."""
        self.signal(
            trekkpliktig,
            encode_request(OperatorRequest(name, kind, self.now, position, record=record, correction=correction)),
        )
        self.wait_until(lambda: name in self.results())
        return self.results()[name]

    def results(self) -> dict[str, RequestResult]:
        """Every result so far, by the id of its request; of several the first."""
        results: dict[str, RequestResult] = {}
        for value in self._position_values():
            for result in decode_results(value):
                results.setdefault(result.request.id, result)
        return results

    def requests_recorded(self) -> list[OperatorRequest]:
        """Every request in every record, in order."""
        return [
            request for value in self._position_values() for request in decode_trekkpliktig_position(value).requests
        ]

    def _position_values(self) -> list[bytes]:
        written = self.kafka.committed(self.kafka.topics.positions)
        return [each.value for each in written if each.value is not None and each.key.removesuffix(RESULTS).isdigit()]

    def signal(self, trekkpliktig: str, value: bytes | None = None) -> int:
        """A wake-up, or what `value` says; returns its offset. Waits for nothing."""
        offset, self.signals = self.signals, self.signals + 1
        if self.lane is not None:
            self.lane.signal(trekkpliktig, offset, value)
        return offset

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds or the lane has ended. Raises `TimeoutError` after `WAIT_SECONDS_MAX`."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        with self.journal.changed:
            while not condition() and not self.has_ended:
                if time.monotonic() > deadline:
                    raise TimeoutError("the lane did not come so far in time")
                self.journal.changed.wait(0.02)

    def turn(self, times: int = 2) -> None:
        """Return when the lane's loop has turned so often; for what must not happen meanwhile."""
        for _ in range(times):
            self._turn_once()

    def _turn_once(self) -> None:
        before = self.turns.count
        self.signal("nobody")
        self.wait_until(lambda: self.turns.count > before)

    @property
    def has_ended(self) -> bool:
        """Whether the lane's loop has ended."""
        return self._thread is None or not self._thread.is_alive()

    def stop(self) -> None:
        """End the lane's loop, if it turns."""
        if self.lane is not None and self._thread is not None:
            self.lane.stop()
            self._thread.join(WAIT_SECONDS_MAX)
            self._thread = None

    def versjoner(self) -> list[Event]:
        """All events, in the order they were written."""
        return [event_of(written) for written in self.kafka.committed(self.kafka.topics.versjoner)]

    def gjeldende(self) -> list[Event]:
        """All events of `…-gjeldende`, not compacted."""
        return [event_of(written) for written in self.kafka.committed(self.kafka.topics.gjeldende)]

    def quarantined(self) -> list[str]:
        """Why each record of the quarantine is there."""
        quarantined = self.kafka.committed(self.kafka.topics.quarantine)
        return [written.headers["ce_reason"].decode() for written in quarantined]

    def handed_over(self, row: Row | None = None) -> list[str]:
        """The trekkid of each observation (in this row) that was ever stored, in their order."""
        keys = [each.key.decode() for _, each in self.observations.written if row in (None, each.row)]
        return [each for each in keys if each not in self._options.served]  # those of other records

    def order(self, trekkid: str) -> OrderState:
        """The state of this order at home here, read back from the topic."""
        return self.kafka.state(0).orders.order(trekkid.encode())

    def position(self, trekkpliktig: str) -> int:
        """How far the list of this one has been handed over, read back from the topic."""
        return self.kafka.state(0).of(trekkpliktig).position.position
