"""Several workers and their lanes on topics in memory, in one thread: a lane moves only when a test steps it.

Between two steps anything may happen: a worker is killed, or frozen while another takes its lanes; transactions and
observations fail. Each lane is a real one. What it calls the source for waits until a step makes the call, and a signal
until a step delivers it.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Message
from msgspec.structs import replace

from producer.domain.observation import Observation
from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkpaalegg
from producer.encode.observation import decode
from producer.encode.state import decode_results
from producer.errors import LaneFencedError, OutcomeUnknownError, RejectedTrekkpaaleggError
from producer.lane.lane import Lane, LaneParts
from producer.lane.priority import TransactionPriority
from producer.lane.reading import LaneOptions
from producer.lane.schedule import Schedule
from producer.observe.port import NullObserver
from producer.publish.port import ANY_PARTITION, Row
from producer.publish.quarantine_log import decode_quarantined
from producer.publish.state import RESULTS
from producer.publish.topics import lane_of
from producer.source.polling import page_of
from tests.kit.fakes.history import FakeHistory
from tests.kit.fakes.publisher import FakeKafka
from tests.kit.history_world import EMPLOYERS, LANES
from tests.kit.stages.lane_stage import SECOND, Turns, build_records, event_of
from tests.kit.versions import TEMPLATE
from trekkpaalegg.errors import RetryableError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from producer.domain.requests import RequestResult
    from producer.domain.state import LaneState
    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.lane.calls import Kind
    from producer.source.port import Page, TrekkpaaleggSource
    from tests.kit.fakes.publisher import Written
    from tests.kit.history_world import World
    from tests.kit.stages.lane_stage import Event

POLL_INTERVAL_SECONDS = 30.0
RECONCILE_INTERVAL_SECONDS = 600.0
TURN_SECONDS = 0.06
"""More than what is ready waits to share a transaction."""

MAKS_ANTALL = 2
STEPS_MAX = 3000
_BEGINNING = 1_790_000_000 * SECOND


def number_of(employer: str, lane: int) -> str:
    """An organisation number for this employer, whose list is read in this lane."""
    numbers = [f"31{EMPLOYERS.index(employer)}{number:06d}" for number in range(50)]
    return next(number for number in numbers if lane_of(number, LANES) == lane)


class WorldSource:
    """The `World` as a `TrekkpaaleggSource`; `numbers` has the organisation number of each employer.

    Versions in `garbled` cannot be understood for now; where it says so, not even whose they are.
    """

    def __init__(self, world: World, numbers: Mapping[str, str]) -> None:
        self.garbled: dict[tuple[str, int], bool] = {}
        self._world = world
        self._numbers = numbers
        self._employers = {number: employer for employer, number in numbers.items()}
        self._sekvensnummer: dict[tuple[str, int], int] = {}

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """See the port."""
        if self._world.draw(12) == 1:
            raise RetryableError("the list fails, on demand")
        listed = self._world.listed(self._employers[trekkpliktig])
        elements = [self._element(each.trekkid, each.trekkversjon) for each in listed]
        newer = sorted((each for each in elements if _sekvensnummer(each) > cursor), key=_sekvensnummer)
        return page_of(newer[:MAKS_ANTALL], cursor, MAKS_ANTALL)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """See the port."""
        fetched = self._world.fetch(self._employers[trekkpliktig], trekkid, trekkversjon)
        return self._element(trekkid, trekkversjon) if isinstance(fetched, Trekkpaalegg) else fetched

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:  # noqa: ARG002 - the text says it all
        """See the port. What was understood once is understood for good."""
        trekkid, trekkversjon, *garbled = raw.decode().split("/")
        if garbled and (trekkid, int(trekkversjon)) in self.garbled:
            return self._garbled(trekkid, int(trekkversjon))
        return self._understood(trekkid, int(trekkversjon))

    def preparation(self, trekkpliktig: str) -> None:
        """See the port."""

    def _element(self, trekkid: str, trekkversjon: int) -> Trekkpaalegg | Rejected:
        is_garbled = (trekkid, trekkversjon) in self.garbled
        return self._garbled(trekkid, trekkversjon) if is_garbled else self._understood(trekkid, trekkversjon)

    def _garbled(self, trekkid: str, trekkversjon: int) -> Rejected:
        raw, reason = f"{trekkid}/{trekkversjon}/garbled".encode(), RejectionReason.INVALID_FIELD
        number = self._number(trekkid, trekkversjon)
        rejected = Rejected(self._numbers["A"], raw, raw.ljust(16)[:16], reason, "$", "", sekvensnummer=number)
        is_nameless = self.garbled[trekkid, trekkversjon]
        return rejected if is_nameless else replace(rejected, trekkid=trekkid, trekkversjon=trekkversjon)

    def _understood(self, trekkid: str, trekkversjon: int) -> Trekkpaalegg:
        return replace(
            TEMPLATE,
            trekkid=trekkid,
            trekkversjon=trekkversjon,
            sekvensnummer=self._number(trekkid, trekkversjon),
            saksnummer=f"{trekkid}/{trekkversjon}",
            trekkpliktig=self._numbers[self._world.named[trekkid][trekkversjon - 1]],
            raw=f"{trekkid}/{trekkversjon}".encode(),
        )

    def _number(self, trekkid: str, trekkversjon: int) -> int:
        """Its sekvensnummer."""
        return self._sekvensnummer.setdefault((trekkid, trekkversjon), len(self._sekvensnummer) + 1)


def _sekvensnummer(element: Element) -> int:
    return element.sekvensnummer or 0


class Signal(NamedTuple):
    """One record of `…-signals`, in its partition."""

    key: str
    value: bytes | None


class StepCalls:
    """Stands for a `CallPool`: a call waits until `make_next`."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[Any], Callable[[], object]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(
        self,
        call: Callable[..., object],
        *arguments: object,
        kind: Kind | None = None,  # noqa: ARG002 - all are made in their order
        prepare: Callable[[], object] | None = None,  # noqa: ARG002 - the source prepares nothing
    ) -> Future[Any]:
        """See `CallPool`."""
        future: Future[Any] = Future()
        self._waiting.append((future, partial(call, *arguments)))
        return future

    def make_next(self) -> None:
        """Make the call that waits longest."""
        future, call = self._waiting.popleft()
        try:
            result = call()
        except TrekkpaaleggError as error:
            future.set_exception(error)
        else:
            future.set_result(result)


class Readings(NullObserver):
    """Counts the readings that ended well, and the lower versions that lists showed."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.lowered = 0

    def versions_lowered(self, trekkpliktig: str, versions: int) -> None:  # noqa: ARG002 - as the port
        """Count them."""
        self.lowered += versions

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:  # noqa: ARG002 - as the port
        """Count it."""
        if error is None:
            self.ended[trekkpliktig] += 1


class Owner:
    """One worker's hold of a lane, from before it is acquired until it is lost or its worker dies."""

    def __init__(self, hall: LaneHall, number: int, worker: int) -> None:
        self.number = number
        self.worker = worker
        self.calls = StepCalls()
        self._hall = hall
        self._is_acquired = False
        self._steps = 0
        self._next_signal = hall.kafka.signal_offset(number) or 0
        schedule = Schedule(POLL_INTERVAL_SECONDS, lambda: 1.0)
        schedule.set_trekkpliktige(self._list(), hall.seconds)
        pool: Any = self.calls  # stands for one
        observations = hall.kafka.observations
        parts = LaneParts(
            source=hall.source,
            pool=pool,
            publisher=hall.kafka.publisher(number),
            observations=observations.reader(number),
            find_published=FakeHistory(hall.kafka).find_published,
            writer=observations.writer(),
            signals=hall,
            records=hall.records,
            schedule=schedule,
            observer=hall.readings,
            priority=TransactionPriority(lambda: hall.seconds),
            understand=hall.understand,
        )
        options = LaneOptions(
            served=hall.served[worker],
            overlap_sekvensnummer=hall.overlap_sekvensnummer,
            reconcile_interval_seconds=RECONCILE_INTERVAL_SECONDS,
            now=lambda: hall.now(worker),
            lanes=LANES,
            clock=lambda: hall.seconds,
        )
        self.lane = Lane(number, parts, options, Turns())

    def update_list(self) -> None:
        """The worker has read the list of trekkpliktige again."""
        self.lane.set_trekkpliktige(self._list())

    @property
    def has_signals(self) -> bool:
        """Whether a signal is to be delivered."""
        return self._next_signal < len(self._hall.signals[self.number])

    def step(self) -> None:
        """One thing: acquire the lane, make a call, deliver a signal, or turn. Raises what ends the lane."""
        if not self._is_acquired:
            self.lane.acquire(self._next_signal)
            self._is_acquired = True
            return
        kinds = [self._turn]
        if self.calls:
            kinds.append(self.calls.make_next)
        if self.has_signals:
            kinds.append(self._deliver_signal)
        self._steps += 1
        kinds[(self._steps + self._hall.draw(3)) % len(kinds)]()

    def _turn(self) -> None:
        self._hall.seconds += TURN_SECONDS
        self.lane.turn(0.0)

    def _deliver_signal(self) -> None:
        signal = self._hall.signals[self.number][self._next_signal]
        self.lane.signal(signal.key, self._next_signal, signal.value)
        self._next_signal += 1

    def _list(self) -> list[str]:
        return sorted(each for each in self._hall.served[self.worker] if lane_of(each, LANES) == self.number)


class LaneHall:
    """See the module. `served` are the trekkpliktige that each worker serves, by its own reading of the list.

    `draw` gives the chances of what a step does; 0 is the harmless one. `skew` are the seconds by which the wall clock
    of each worker is ahead.
    """

    def __init__(
        self,
        source: TrekkpaaleggSource,
        served: Sequence[set[str]],
        draw: Callable[[int], int] = lambda _: 0,
        skew: Sequence[float] = (0.0,),
        overlap_sekvensnummer: int = 1,
    ) -> None:
        self.source = source
        self.overlap_sekvensnummer = overlap_sekvensnummer
        self.served = served
        self.draw = draw
        self.seconds = 1000.0
        self.kafka = FakeKafka(LANES)
        self.records = build_records(self.kafka)
        self.readings = Readings()
        self.signals: list[list[Signal]] = [[] for _ in range(LANES)]
        self.frozen: list[Owner] = []
        self.signal_failures = 0
        self._skew = skew
        self._transactions_seen = 0
        self.owners = [Owner(self, lane, lane % len(served)) for lane in range(LANES)]

    def now(self, worker: int) -> int:
        """What the wall clock of a worker shows, in microseconds since 1970."""
        return _BEGINNING + int((self.seconds + self._skew[worker]) * SECOND)

    def step(self, owner: Owner) -> None:
        """Let an owner of a lane do one thing. If it loses the lane, the same worker takes it again."""
        try:
            owner.step()
        except (LaneFencedError, OutcomeUnknownError, RetryableError):
            self._end(owner)
            if owner in self.frozen:
                self.frozen.remove(owner)
            else:
                self.owners[owner.number] = Owner(self, owner.number, owner.worker)
        self._store_forwarded()

    def refresh(self, worker: int, served: set[str]) -> None:
        """A worker reads the list of trekkpliktige."""
        self.served[worker].clear()
        self.served[worker].update(served)
        for each in (*self.frozen, *self.owners):
            if each.worker == worker:
                each.update_list()

    def kill(self, worker: int, to: int) -> None:
        """A worker is killed, and another gets its lanes."""
        for each in (*self.frozen, *self.owners):
            if each.worker == worker:
                self._end(each)
        self.frozen = [each for each in self.frozen if each.worker != worker]
        for each in list(self.owners):
            if each.worker == worker:
                self.owners[each.number] = Owner(self, each.number, to)

    def move(self, lane: int, to: int, *, is_frozen: bool) -> None:
        """A lane goes to another worker; the former owner is frozen, to go on later, or ends."""
        former = self.owners[lane]
        self.owners[lane] = Owner(self, lane, to)
        if is_frozen:
            self.frozen.append(former)
        else:
            self._end(former)

    def begin(self, trekkpliktig: str, value: bytes | None, partition: int = ANY_PARTITION) -> Future[None]:
        """Write a signal, as `SignalWriter`."""
        stored: Future[None] = Future()
        if self.signal_failures:
            self.signal_failures -= 1
            stored.set_exception(RetryableError("a signal could not be stored, on demand"))
            return stored
        lane = lane_of(trekkpliktig, LANES) if partition == ANY_PARTITION else partition
        self.signal(trekkpliktig, value, lane)
        stored.set_result(None)
        return stored

    def signal(self, key: str, value: bytes | None, lane: int) -> None:
        """Write a signal from outside into the partition of this lane."""
        self.signals[lane].append(Signal(key, value))

    def quarantine(self) -> list[Written]:
        """The records of the quarantine, in the order they were written; a release names each by its place in it."""
        return self.kafka.committed(self.kafka.topics.quarantine)

    def understand(self, trekkpliktig: str, record: str) -> Trekkpaalegg:
        """See `Quarantine.understand`."""
        partition, offset = map(int, record.split("/"))
        written = self.quarantine()[offset]
        headers: list[Any] = list(written.headers.items())
        message = Message(partition=partition, offset=offset, key=written.key, value=written.value, headers=headers)
        element = self.source.read_element(decode_quarantined(message).raw, trekkpliktig)
        if isinstance(element, Rejected):
            raise RejectedTrekkpaaleggError(element.reason.value, element.field_path)
        return element

    def events(self) -> list[Event]:
        """All events, in the order they were written."""
        return [event_of(each) for each in self.kafka.committed(self.kafka.topics.versjoner)]

    def current(self) -> list[Event]:
        """All events of `…-gjeldende`, not compacted."""
        return [event_of(each) for each in self.kafka.committed(self.kafka.topics.gjeldende)]

    def quarantined(self) -> list[str]:
        """Why each record of the quarantine is there."""
        return [each.headers["ce_reason"].decode() for each in self.quarantine()]

    def states(self) -> list[LaneState]:
        """The state of each lane, read back."""
        return [self.kafka.state(lane) for lane in range(LANES)]

    def observed(self, key: bytes) -> list[Observation]:
        """What was ever handed over of an order."""
        written = [record for _, record in self.kafka.observations.written if record.key == key]
        decoded = [decode(key, each.value, each.headers, self.source.read_element) for each in written]
        return [each for each in decoded if isinstance(each, Observation)]

    def results(self) -> list[RequestResult]:
        """The results of operator requests, in the order they were written."""
        positions = self.kafka.committed(self.kafka.topics.positions)
        values = [each.value for each in positions if each.key.removesuffix(RESULTS).isdigit()]
        return [result for value in values if value is not None for result in decode_results(value)]

    def run_until(self, ended: Counter[str]) -> bool:
        """Let the lanes work until so many readings have ended well and nothing is under way; False if never so."""
        for _ in range(STEPS_MAX):
            for owner in list(self.owners):
                self.step(owner)
            if self.readings.ended >= ended and self.is_settled():
                return True
        return False

    def is_settled(self) -> bool:
        """Whether no call and no signal waits, and the homes have committed past every observation."""
        if any(each.calls or each.lane.first_open_signal < len(self.signals[each.number]) for each in self.owners):
            return False
        observations = self.kafka.observations
        for lane, state in enumerate(self.states()):
            reached = state.observations
            if reached.urgent < observations.end(lane, Row.URGENT) or reached.bulk < observations.end(lane, Row.BULK):
                return False
        return True

    def _end(self, owner: Owner) -> None:
        owner.lane.release()

    def _store_forwarded(self) -> None:
        """Signals that lanes forwarded in a transaction; they are read uncommitted."""
        for transaction in self.kafka.transactions[self._transactions_seen :]:
            for each in transaction.records:
                if each.topic == self.kafka.topics.signals:
                    self.signals[each.partition].append(Signal(each.key.decode(), each.value))
        self._transactions_seen = len(self.kafka.transactions)
