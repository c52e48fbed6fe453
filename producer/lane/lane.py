"""The loop of a lane: read the lists that are due, hand over what differs, decide on the orders at home here, publish.

It runs in a thread of its own, the only one that uses the lane's state. Calls to the source run in a pool that all
lanes share; their results, and observations, come as callbacks through a queue.
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import structlog

from producer.detect.differences import UNIDENTIFIED_MAX, with_unidentified
from producer.domain.observation import Known, Observation, Question
from producer.domain.requests import Answer, Show
from producer.domain.state import NOT_HANDED_OVER
from producer.domain.trekkpaalegg import Failed, Origin
from producer.encode.observation import decode
from producer.encode.signal import EVERYBODY, encode_answer, encode_show
from producer.errors import AbortedError, ObservationsLostError, SuspendedError
from producer.lane.calls import Calls, Kind
from producer.lane.commit import Committer, Part
from producer.lane.home import Home
from producer.lane.outbox import Outbox
from producer.lane.priority import TURN_WAIT_SECONDS
from producer.lane.pulling import Pulling
from producer.lane.reading import (
    NOTIFIED_MORE_MAX,
    READINGS_MIN,
    Step,
    begin_reading,
    is_urgent,
    position_after,
    position_has_gone,
    readings_allowed,
)
from producer.lane.releasing import Releasing
from producer.lane.repairing import Repairing
from producer.lane.requests import Requests
from producer.observe.port import LaneMetrics
from trekkpaalegg.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from concurrent.futures import Future

    from producer.detect.decide import Decision
    from producer.domain.state import EventCursor, LaneState, ObservationOffsets, OrderState, TrekkpliktigPosition
    from producer.lane.calls import CallPool
    from producer.lane.commit import RecordBuilder
    from producer.lane.home import LookUp, OpenQuestion, Task, Wanted
    from producer.lane.outbox import SignalWriter
    from producer.lane.priority import TransactionPriority
    from producer.lane.pulling import PullParts
    from producer.lane.reading import LaneOptions, Reading
    from producer.lane.releasing import Understand
    from producer.lane.repairing import FindLost
    from producer.lane.schedule import Schedule
    from producer.observe.port import Observer
    from producer.publish.port import (
        LanePublisher,
        ObservationReader,
        ObservationWriter,
        ObservedRecord,
        Record,
        Row,
    )
    from producer.source.port import TrekkpaaleggSource

    FindPublished = Callable[[int, Collection[tuple[bytes, int]]], Mapping[tuple[bytes, int], Collection[bytes]]]

_MICROSECONDS = 1_000_000


def metrics_of(
    schedule: Schedule,
    state: LaneState,
    waiting: dict[Row, int],
    now: int,
    monotonic: float,
    oldest_pull_seconds: dict[str, float] | None = None,
) -> LaneMetrics:
    """The lane's metrics at `now`, in microseconds since 1970; `monotonic` is the same by the clock of the schedule."""
    counts, oldest = schedule.classes(monotonic)
    compared: dict[str, float] = {}
    for trekkpliktig in schedule:
        at = state.of(trekkpliktig).position.reconciled_at
        name = schedule.class_of(trekkpliktig)
        seconds = schedule.seconds_started(monotonic) if at is None else (now - at) / _MICROSECONDS
        compared[name] = max(compared.get(name, 0.0), seconds)
    open_orders = [order for _, order in state.orders.open_orders()]
    return LaneMetrics(
        trekkpliktige=counts,
        oldest_read_seconds=oldest,
        oldest_comparison_seconds=compared,
        orders=len(state.orders),
        orders_waiting=sum(order.seen > order.trekkversjon for order in open_orders),
        versions_missing=sum(each.last - each.first + 1 for order in open_orders for each in order.missing),
        observations_waiting={row.value: count for row, count in waiting.items()},
        position_max=max((each.position.position for _, each in state), default=0),
        oldest_pull_seconds=oldest_pull_seconds or {},
    )


METRICS_INTERVAL_SECONDS = 5.0
METRICS_SHARE_MAX = 0.005
DELETE_INTERVAL_SECONDS = 60.0
PATIENCE_SECONDS = 0.05
PATIENCE_URGENT_SECONDS = 0.02
"""How long what need not be committed at once waits for what must be, to share its transaction."""

ABORTED_PAUSE_SECONDS = 0.1
"""How long after a transaction was rolled back the next one is tried: Kafka may abort many, as in a rebalance."""

LOOK_UP_PAUSE_SECONDS = 1.0
"""How long after the history could not be read that is tried again."""

_WAIT_SECONDS_MAX = 0.5
_PAGES_AVERAGED = 16
_OWN_INITIATIVE = frozenset({Origin.POLL, Origin.RECONCILE})

_log = structlog.get_logger(__name__)


class LaneParts(NamedTuple):
    """What a lane works with. It has `publisher`, `schedule` and `observations` of its own and shares the rest.

    `observations` is None where nothing is read, so that nothing can be decided on. `find_published` looks versions of
    orders at home in a lane up in the history, as `published_of`. `understand` reads a quarantined record again, given
    its trekkpliktig and its partition/offset. It is None where nothing is released. `round_end` is None for a lane that
    never ends by itself.
    """

    source: TrekkpaaleggSource
    pool: CallPool
    publisher: LanePublisher
    observations: ObservationReader | None
    find_published: FindPublished
    writer: ObservationWriter
    signals: SignalWriter
    records: RecordBuilder
    schedule: Schedule
    observer: Observer
    priority: TransactionPriority
    pull: PullParts | None = None
    understand: Understand | None = None
    round_end: RoundEnd | None = None
    find_lost: FindLost | None = None


class LaneWatch(Protocol):
    """Observes whether the loop of a lane is running."""

    def beat(self) -> None:
        """The loop has started another turn."""

    def ended(self) -> None:
        """The loop has ended."""


class RoundEnd:
    """Known to all lanes of a round: it ends when all have read, and then each when its home has decided on the rest.

    Any thread may call it.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._read: set[int] = set()

    def begins(self, lane: int) -> None:
        """The lane reads (again)."""
        self._read.discard(lane)

    def has_read(self, lane: int) -> None:
        """The lane has read all its lists, and handed over what differed."""
        self._read.add(lane)

    @property
    def is_read(self) -> bool:
        """Whether all lanes have."""
        return len(self._read) == self._lanes


class Lane:
    """See the module."""

    def __init__(self, number: int, parts: LaneParts, options: LaneOptions, watch: LaneWatch) -> None:
        self.number = number
        self.schedule = parts.schedule
        self._parts = parts
        self._observations = parts.observations
        self._records = parts.records
        self._observer = parts.observer
        self._options = options
        self._clock = options.clock
        self._watch = watch
        self._calls = Calls(parts.source, parts.pool)
        self._committer = Committer(parts.publisher, self._clock)
        self._outbox = Outbox(parts.writer, parts.signals, options.lanes, self._calls.call_soon)
        self._home = self._build_home()
        shared = self._committer, parts.records, self._calls
        releasing = Releasing(number, options.lanes, *shared, parts.understand, lambda: self._home)
        repairing = Repairing(number, *shared, parts.find_lost, lambda: self._home, self._show_again)
        self._requests = Requests(
            *(number, self._committer, parts.records, parts.schedule, options, parts.observer, releasing, repairing),
            self._interrupt,
            self._ask,
        )
        self._pulling = Pulling(parts.pull, parts.schedule, options.served, self._calls.call_soon, parts.observer)
        self._readings: dict[str, Reading] = {}
        self._ended: list[Reading] = []
        self._elements_per_page = 0.0
        self._waits_since: float | None = None
        self._paused_until = 0.0
        self._missed_since: float | None = None
        """Since when it had no turn for a back-fill."""
        self._stopping = threading.Event()
        self._metrics_due = 0.0
        self._delete_due = self._clock() + DELETE_INTERVAL_SECONDS
        self._is_deleting = False
        self._look_up_due = 0.0
        self._is_looking_up = False
        self._last_observations: ObservationOffsets | None = None

    def stop(self) -> None:
        """Request that the loop ends after the current transaction. Any thread may call it."""
        self._stopping.set()
        self._calls.call_soon(lambda: None)

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None = None) -> None:
        """Receive a signal for this lane. Any thread may call it."""
        self._calls.call_soon(lambda: self._requests.receive(trekkpliktig, offset, value))

    def set_trekkpliktige(self, trekkpliktige: list[str]) -> None:
        """Change the list of trekkpliktige that the lane serves. Any thread may call it."""
        self._calls.call_soon(lambda: self._set_trekkpliktige(trekkpliktige))

    @property
    def first_open_signal(self) -> int:
        """The offset of the first signal that is not processed yet."""
        return self._committer.signals.first_open

    def run(self, first_signal_offset: int) -> None:
        """Acquire the lane and work until stopped. Raises what the publisher raises; being stopped is not an error."""
        try:
            self.acquire(first_signal_offset)
            while not self._stopping.is_set() and not self._is_done():
                self.turn()
            if not self._stopping.is_set():
                with contextlib.suppress(AbortedError):
                    self._committer.commit_offset()
                if self._observations is not None:
                    self._observations.delete_before(self._committer.state.observations)
        finally:
            self.release()

    def acquire(self, first_signal_offset: int) -> None:
        """Fence the former owner, read back the state, and begin what it leads to."""
        self._committer.acquire(first_signal_offset, self._stopping.is_set)
        state = self._committer.state
        self._committer.lead(self._records.of_schemas(self.number, state.schemas))
        _log.info("lane acquired", lane=self.number, trekkpliktige=len(self.schedule), orders=len(state.orders))
        self._observer.lane_acquired(self.number, len(self.schedule), len(state.orders))
        if self._parts.round_end is not None:
            self._parts.round_end.begins(self.number)
        self._home = self._build_home()
        self._requests.begin()
        self._pulling.update_list()
        if state.show_since is not None:  # the former owner may have ended before it told the others
            self._show(state.show_since)
        if self._observations is not None:
            self._observations.start(
                state.observations,
                lambda records: self._calls.call_soon(lambda: self._receive_observations(records)),
                lambda error: self._calls.call_soon(lambda: self._observations_failed(error)),
            )

    def turn(self, wait_seconds_max: float = _WAIT_SECONDS_MAX) -> None:
        """One turn of the loop: begin what is due, wait for a result, and commit what is ready."""
        self._watch.beat()
        self._committer.check()
        self._pulling.request_due(self._committer.state)
        self._begin_due()
        self._start_tries()
        self._calls.run_callbacks(min(self._wait_seconds(), wait_seconds_max))
        self._commit()
        self._answer_questions()
        self._delete_observations()
        self._report_metrics()

    def release(self) -> None:
        """End everything that is under way; the lane can be acquired by another."""
        for reading in self._readings.values():
            reading.dropped = True
        if self._observations is not None:
            self._observations.close()
        self._committer.close()
        self._watch.ended()
        self._observer.lane_released(self.number)

    def _build_home(self) -> Home:
        options = self._options
        pause = int(options.reconcile_interval_seconds * _MICROSECONDS)
        return Home(self._committer.state, self._encode, lambda each: each in options.served, pause, options.now())

    def _is_done(self) -> bool:
        """Whether a round has ended; never in a service."""
        end = self._parts.round_end
        if end is None or self._observations is None or not self.schedule.is_done or self._readings or self._ended:
            return False
        end.has_read(self.number)
        if not (end.is_read and self._home.is_idle):
            return False
        if self._last_observations is None:
            self._last_observations = self._observations.ends()
        reached, last = self._committer.state.observations, self._last_observations
        return reached.urgent >= last.urgent and reached.bulk >= last.bulk

    def _set_trekkpliktige(self, trekkpliktige: list[str]) -> None:
        self.schedule.set_trekkpliktige(trekkpliktige, self._clock())
        self._requests.update_list()
        self._pulling.update_list()

    def _interrupt(self, trekkpliktig: str) -> None:
        """Abort the reading of one trekkpliktig: what it compared would no longer fit the state."""
        reading = self._readings.pop(trekkpliktig, None)
        ended = [each for each in self._ended if each.trekkpliktig == trekkpliktig]
        if reading is None and not ended:
            return
        if reading is not None:
            reading.dropped = True
            self._pulling.reading_failed(reading)
        for each in ended:
            self._pulling.reading_failed(each)
        self._ended = [each for each in self._ended if each not in ended]
        self.schedule.interrupted(trekkpliktig, self._clock())

    # Reading

    def _begin_due(self) -> None:
        allowed = readings_allowed(self._elements_per_page)
        while len(self._readings) < allowed + NOTIFIED_MORE_MAX:
            # Those that were notified do not wait until fewer are being read.
            trekkpliktig = self.schedule.start_next(self._clock(), notified_only=len(self._readings) >= allowed)
            if trekkpliktig is None:
                return
            if trekkpliktig in self._readings:  # removed from the list and added again while it was being read
                self.schedule.failed(trekkpliktig, self._clock())
                continue
            signals_begun_at = self._committer.signals.next_offset
            is_notified = self._requests.is_notified(trekkpliktig) or self._pulling.is_notified(trekkpliktig)
            reading = begin_reading(
                trekkpliktig, self._committer.state, signals_begun_at, self._options, is_notified=is_notified
            )
            self._pulling.reading_begins(reading)
            is_waited_for = is_notified or self._committer.signals.is_waiting(trekkpliktig)
            reading.urgent = is_urgent(reading, is_waited_for=is_waited_for)
            if reading.urgent:
                self._parts.priority.urgent_began()
            self._readings[trekkpliktig] = reading
            self._request_page(reading)

    def _request_page(self, reading: Reading) -> None:
        cursor = reading.begin_page()
        if cursor is not None:
            self._calls.request_page(reading, cursor, lambda call: self._receive_page(reading, call))

    def _receive_page(self, reading: Reading, call: Future[Any]) -> None:
        if reading.dropped:
            return
        error = call.exception()
        if isinstance(error, RetryableError):
            reading.page_failed(error)
            self._advance(reading)
            return
        if error is not None:
            self._fail(reading, error)
            return
        page = call.result()
        reading.add_page(page)
        self._elements_per_page += (len(page.elements) - self._elements_per_page) / _PAGES_AVERAGED
        position = self._committer.state.of(reading.trekkpliktig).position
        if position_has_gone(reading, position):
            _log.warning(
                "the order at the position has vanished: comparing everything", trekkpliktig=reading.trekkpliktig
            )
            reading.read_all(Origin.RECONCILE)
        self._request_page(reading)
        self._advance(reading)

    def _advance(self, reading: Reading) -> None:
        """Cut the next chunk if there is none, and send what can be sent; end the reading if nothing is left of it."""
        if reading.chunk is None:
            reading.cut_chunk(self._committer.state.of(reading.trekkpliktig), self._parts.priority.bulk_max)
            self._request_page(reading)
        if reading.chunk is not None:
            if reading.chunk.step is Step.KNOW:
                reading.chunk.step = Step.KNOWING
                self._write_known(reading, tuple(reading.chunk.new))
            elif reading.chunk.step is Step.SEND:
                reading.chunk.step = Step.SENDING
                self._outbox.hand_over(
                    reading.row, reading.observations(), lambda error: self._handed_over(reading, error)
                )
        elif reading.is_done:
            if reading.failure is not None:
                self._fail(reading, reading.failure)
            else:
                self._ended.append(self._readings.pop(reading.trekkpliktig))

    def _write_known(self, reading: Reading, keys: tuple[bytes, ...]) -> None:
        """Have whoever owns the lane know these orders before anything is handed over of them."""

        def on_done(error: BaseException | None) -> None:
            if error is None:
                self._committer.state.ensure(reading.trekkpliktig).know(keys)
            if reading.dropped:
                return
            if error is not None:
                self._fail(reading, error)
                return
            reading.advance_chunk()
            self._advance(reading)

        self._outbox.know(reading.row, self.number, Known(reading.trekkpliktig, keys), on_done)

    def _handed_over(self, reading: Reading, error: BaseException | None) -> None:
        if reading.dropped:
            return
        if error is not None:
            self._fail(reading, error)
            return
        if reading.chunk is not None:
            self._observer.handed_over(reading.row.value, len(reading.chunk))
        reading.advance_chunk()
        self._advance(reading)

    def _fail(self, reading: Reading, error: BaseException) -> None:
        """End a reading that cannot continue. Others continue, unless the error concerns all of them."""
        if isinstance(error, FatalError):
            raise error
        reading.dropped = True
        if self._readings.get(reading.trekkpliktig) is reading:
            del self._readings[reading.trekkpliktig]
        self._pulling.reading_failed(reading)
        now = self._clock()
        if isinstance(error, SuspendedError):
            self.schedule.suspend(reading.trekkpliktig, now)
        elif isinstance(error, RetryableError):
            self.schedule.failed(reading.trekkpliktig, now, error.retry_after_seconds)
        else:
            # Unexpected: a fault of ours, which must not keep the others from being served.
            _log.error("reading crashed", trekkpliktig=reading.trekkpliktig, exc_info=error)
            self.schedule.failed(reading.trekkpliktig, now)
        reason = str(error) or type(error).__name__
        _log.warning("reading failed", trekkpliktig=reading.trekkpliktig, lane=self.number, reason=reason)
        self._requests.reading_failed(reading, reason, for_good=isinstance(error, SuspendedError))
        self._observer.unrecorded(reading.unrecorded)
        self._observer.reading_ended(self.number, reading.trekkpliktig, error, 0)

    # The home

    def _receive_observations(self, records: list[ObservedRecord]) -> None:
        read_element = self._parts.source.read_element
        for record in records:
            observed = decode(record.key, record.value, record.headers, read_element)
            self._home.receive(record.row, record.offset, observed)
            if isinstance(observed, Observation) and observed.origin is Origin.NOTIFICATION:
                self._parts.priority.urgent_began()  # in another process, perhaps

    def _observations_failed(self, error: BaseException) -> None:
        """Observations that are gone may have held versions that nothing else shows: all lists are shown again."""
        if not isinstance(error, ObservationsLostError) or self._observations is None:
            raise error
        state = self._committer.state
        _log.error("observations are lost: all lists are handed over again", lane=self.number, reason=str(error))
        # Above what was told before, whatever the clock says: others heed only what is later.
        ends, since = self._observations.ends(), max(self._options.now(), (state.show_since or 0) + 1)
        self._committer.commit([Part(self._records.of_home(self.number, ends, since, {}), lambda: None)])
        state.observations, state.show_since = ends, since
        raise RetryableError("observations were lost: the lane is acquired again, and all lists are shown again")

    def _start_tries(self) -> None:
        """Ask again for what is open and due, unless nothing is read here."""
        if self._observations is not None:
            self._home.start_tries(self._options.now())

    def _request_versions(self, wanted: Wanted) -> None:
        trekkid = wanted.task.key.decode()
        for trekkversjon in wanted.versions:
            on_done = partial(self._receive_version, wanted.task, trekkversjon)
            self._calls.request_version(wanted.readers, (trekkid, trekkversjon), on_done, is_urgent=wanted.is_urgent)

    def _receive_version(self, task: Task, trekkversjon: int, call: Future[Any]) -> None:
        error = call.exception()
        if isinstance(error, FatalError):
            raise error
        if error is not None:  # unexpected: a fault of ours, which must not keep other orders from being published
            _log.error("fetching a version crashed", lane=self.number, exc_info=error)
        fetched = call.result() if error is None else Failed(type(error).__name__)
        self._home.add_version(task, trekkversjon, fetched)

    def _request_history(self) -> None:
        """Have the history read for all that is to be looked up by now: once at a time, as it may be long."""
        if self._is_looking_up or self._clock() < self._look_up_due:
            return
        look_ups = self._home.next_look_ups()
        if look_ups:
            self._is_looking_up = True
            wanted = {(task.key, trekkversjon) for task, trekkversjon in look_ups}
            on_done = partial(self._receive_history, look_ups)
            self._calls.request(on_done, self._parts.find_published, self.number, wanted, kind=Kind.BULK)

    def _receive_history(self, look_ups: list[LookUp], call: Future[Any]) -> None:
        self._is_looking_up = False
        error = call.exception()
        if isinstance(error, RetryableError):
            _log.warning("the history cannot be read now", lane=self.number, reason=str(error))
            self._look_up_due = self._clock() + LOOK_UP_PAUSE_SECONDS
            self._home.look_up_again(look_ups)
            return
        self._home.add_history(look_ups, call.result())

    def _encode(self, task: Task, before: OrderState, decision: Decision) -> list[Record]:
        return self._records.of_decision(self.number, task.key, before, decision, task.origin, self._options.now())

    def _ask(self, trekkpliktig: str, request: str) -> None:
        """Put the question about a request, whose reading has ended, to every home."""
        self._outbox.ask(Question(trekkpliktig, request), self._must_be_stored)

    def _answer_questions(self) -> None:
        for open_question in self._home.questions():
            open_question.is_asked = True
            trekkpliktig, request = open_question.question.trekkpliktig, open_question.question.request
            figures = self._committer.state.requests.get(request)
            published, quarantined = (figures.published, figures.quarantined) if figures else (0, 0)
            answer = encode_answer(Answer(request, self.number, published, quarantined))
            self._outbox.signal(trekkpliktig, answer, self._on_answered(open_question))

    def _on_answered(self, question: OpenQuestion) -> Any:  # noqa: ANN401 - a callback
        def on_done(error: BaseException | None) -> None:
            self._must_be_stored(error)
            self._home.answered(question)

        return on_done

    def _show(self, since: int, on_told: Callable[[], None] = lambda: None) -> None:
        """Tell every lane that all lists are to be handed over completely; `on_told` is called when all are told."""
        left = self._options.lanes

        def told(error: BaseException | None) -> None:
            nonlocal left
            self._must_be_stored(error)
            left -= 1
            if left == 0:
                on_told()

        for lane in range(self._options.lanes):
            self._outbox.signal(EVERYBODY, encode_show(Show(since)), told, lane)

    def _show_again(self, on_told: Callable[[], None]) -> None:
        """As `_show`, whatever was shown before."""
        self._show(max(self._options.now(), (self._committer.state.show_since or 0) + 1), on_told)

    @staticmethod
    def _must_be_stored(error: BaseException | None) -> None:
        """The next owner of the lane writes it again."""
        if error is not None:
            raise error

    # Committing

    def _wait_seconds(self) -> float:
        now, wall = self._clock(), self._options.now()
        if self._home.is_ready or any(reading.is_ready for reading in self._readings.values()) or self._ended:
            turn = 0.0 if self._missed_since is None else TURN_WAIT_SECONDS
            return max(0.0 if self._is_pressing() else max(self._patience(), turn), self._paused_until - now)
        next_try = None if self._observations is None else self._home.next_try()
        tries = float("inf") if next_try is None else max(next_try - wall, 0) / _MICROSECONDS
        if len(self._readings) >= READINGS_MIN:
            return min(_WAIT_SECONDS_MAX, tries)
        return min(_WAIT_SECONDS_MAX, tries, self.schedule.wait_seconds(now), self._pulling.wait_seconds(now))

    def _is_pressing(self) -> bool:
        """Whether something must be committed at once: others wait for it, or there is enough for a transaction."""
        return self._home.is_pressing(self._parts.priority.bulk_max)

    def _patience(self) -> float:
        """How long what is ready may wait for others."""
        now = self._clock()
        self._waits_since = now if self._waits_since is None else self._waits_since
        is_awaited = any(each.urgent for each in (*self._ended, *self._readings.values()))
        seconds = PATIENCE_URGENT_SECONDS if is_awaited else PATIENCE_SECONDS
        return max(self._waits_since + seconds - now, 0.0)

    def _commit(self) -> None:
        if self._clock() < self._paused_until:
            return
        has_bulk = self._home.has_bulk or any(each.is_ready for each in self._readings.values() if not each.urgent)
        if not has_bulk:
            self._commit_ready(with_bulk=True)
            return
        priority = self._parts.priority
        with priority.turn(self._missed_since) as has_turn:
            if has_turn:
                self._missed_since = None
            elif self._missed_since is None:
                self._missed_since = self._clock()
            self._commit_ready(with_bulk=has_turn)

    def _commit_ready(self, *, with_bulk: bool) -> None:
        """Commit what is ready; of a back-fill only with `with_bulk`."""
        bulk_max = self._parts.priority.bulk_max if with_bulk else 0
        for wanted in self._home.decide(self._options.now(), bulk_max):
            self._request_versions(wanted)
        self._request_history()
        try:
            for part in self._requests.parts():
                self._committer.commit([part])
        except AbortedError as error:
            _log.warning("signals are committed later", lane=self.number, reason=str(error))
        ready = [each for each in self._readings.values() if each.is_ready and (with_bulk or each.urgent)]
        if (ready or self._ended or self._home.has_decided) and not self._is_pressing() and self._patience() > 0:
            return
        self._waits_since = None
        ended, self._ended = self._ended, []
        parts = [self._home_part(), *map(self._chunk_part, ready), *map(self._end_part, ended)]
        try:
            self._committer.commit([part for part in parts if part is not None])
        except AbortedError as error:
            _log.warning("a transaction was rolled back", lane=self.number, reason=str(error))
            self._paused_until = self._clock() + ABORTED_PAUSE_SECONDS
            for reading in (*ready, *ended):
                self._fail(reading, error)

    def _home_part(self) -> Part | None:
        home, state = self._home, self._committer.state
        tasks, offsets, requests = list(home.decided()), home.offsets(), home.requests()
        records = [record for task in tasks for record in task.records]
        if offsets != state.observations or requests:
            records += self._records.of_home(self.number, offsets, state.show_since, requests)
        for trekkpliktig, keys in home.known().items():
            records += self._records.of_known(self.number, trekkpliktig, keys)
        if not records and not tasks:
            return None
        releases = [task.release for task in tasks if task.release is not None]
        signals = self._committer.signals
        held = [offset for release in releases for offset in release.offsets]

        def committed() -> None:
            for row, count in home.committed().items():
                if count and self._observations is not None:
                    self._observations.done(row, count)
            for release in releases:
                release.committed()
            self._observer.published(self.number, [task.decision for task in tasks if task.decision is not None])

        def aborted() -> None:
            home.aborted()
            for offset in held:
                signals.hold(offset)

        return Part(records, committed, lambda: signals.release(held), aborted)

    def _chunk_part(self, reading: Reading) -> Part:
        """What a chunk has ready: what was handed over, and the position."""
        chunk, trekkpliktig = reading.chunk, reading.trekkpliktig
        assert chunk is not None  # noqa: S101 - it is ready
        state = self._committer.state
        orders = chunk.handed_over()
        records = list(self._records.of_handed_over(self.number, trekkpliktig, orders))
        position = state.of(trekkpliktig).position
        after = with_unidentified(position, chunk.unidentified, reading.began)
        if chunk.position > position.position:
            after = msgspec.structs.replace(after, position=chunk.position)
        if after is not position:
            records += self._records.of_position(self.number, trekkpliktig, after)

        def committed() -> None:
            known = state.ensure(trekkpliktig)
            known.remember_all(orders)
            known.position = after
            if chunk.lowered:
                self._report_lowered(reading, chunk.lowered)
            if chunk.unidentified and after.unidentified == UNIDENTIFIED_MAX:
                _log.warning(
                    "many elements have no trekkid: further ones are only counted until tomorrow",
                    trekkpliktig=trekkpliktig,
                    recorded=UNIDENTIFIED_MAX,
                )
            if chunk.elements and self._was_unannounced(reading, position):
                self._observer.unannounced(len(chunk.elements))
            reading.advance_chunk()
            self._advance(reading)

        return Part(records, committed)

    def _end_part(self, reading: Reading) -> Part:
        """What changes with the end of a reading: the position, its requests, its signals and event cursor."""
        trekkpliktig, state = reading.trekkpliktig, self._committer.state
        before = state.of(trekkpliktig).position
        after = position_after(reading, before, self._options.now())
        is_lowered = after.position < before.position
        if is_lowered:
            self._observer.position_ahead(trekkpliktig, before.position, after.position)
            _log.error(
                "the position was ahead of the source: lowered",
                trekkpliktig=trekkpliktig,
                position=before.position,
                source_max=after.position,
            )
        if reading.requests:
            after = _with_asked(after, reading, position_lowered=is_lowered)
        records = [] if after == before else self._records.of_position(self.number, trekkpliktig, after)
        cursor = self._moved_cursor(reading)
        if cursor is not None:
            records.append(self._records.of_event_cursor(self.number, trekkpliktig, cursor))
        # Shown once, and gone from the list before anything of them was remembered.
        left = dict.fromkeys(state.of(trekkpliktig).only_known if reading.full else (), NOT_HANDED_OVER)
        records += self._records.of_handed_over(self.number, trekkpliktig, left)
        signals = self._committer.signals
        done_with: list[int] = []

        def committed() -> None:
            if records:
                known = state.ensure(trekkpliktig)
                known.remember_all(left)
                known.position = after
                known.event_cursor = known.event_cursor if cursor is None else cursor
            self._succeed(reading)

        def begun() -> None:
            done_with.extend(signals.ended(trekkpliktig, reading.signals_begun_at))

        return Part(records, committed, begun, lambda: signals.reopen(trekkpliktig, done_with))

    def _succeed(self, reading: Reading) -> None:
        trekkpliktig = reading.trekkpliktig
        self.schedule.succeeded(trekkpliktig, self._clock(), found=reading.found)
        self._requests.read(trekkpliktig)
        for request in sorted(reading.requests):
            self._ask(trekkpliktig, request)
        self._observer.unrecorded(reading.unrecorded)
        self._observer.reading_ended(self.number, trekkpliktig, None, reading.vanished)

    def _report_lowered(self, reading: Reading, orders: int) -> None:
        """Once for each order and lower version: from now on it is what was handed over last."""
        if not reading.lowered:
            _log.error(
                "the source shows lower versions than it did: it may have been restored",
                trekkpliktig=reading.trekkpliktig,
            )
        reading.lowered += orders
        self._observer.versions_lowered(reading.trekkpliktig, orders)

    def _moved_cursor(self, reading: Reading) -> EventCursor | None:
        known = self._committer.state.of(reading.trekkpliktig).event_cursor
        return reading.event_cursor if reading.event_cursor not in (None, known) else None

    def _was_unannounced(self, reading: Reading, position: TrekkpliktigPosition) -> bool:
        """Whether no signal announced what this reading found. The first reading of all does not count."""
        is_announced = reading.requests or reading.is_notified or reading.shows is not None
        is_own_initiative = reading.origin in _OWN_INITIATIVE and not is_announced
        is_first = position.reconciled_at is None
        return is_own_initiative and not is_first and not self._committer.signals.is_waiting(reading.trekkpliktig)

    # Housekeeping

    def _delete_observations(self) -> None:
        """Have observations that were decided on deleted, now and then."""
        if self._observations is None or self._is_deleting or self._clock() < self._delete_due:
            return
        self._delete_due = self._clock() + DELETE_INTERVAL_SECONDS
        self._is_deleting = True
        reached = self._committer.state.observations
        self._calls.request(lambda _: self._deleted(), self._observations.delete_before, reached)

    def _deleted(self) -> None:
        self._is_deleting = False

    def _report_metrics(self) -> None:
        now = self._clock()
        if now < self._metrics_due:
            return
        pulled = self._pulling.oldest_seconds(now)
        waiting = self._home.waiting_by_row()
        metrics = metrics_of(self.schedule, self._committer.state, waiting, self._options.now(), now, pulled)
        self._observer.lane_metrics(self.number, metrics)
        # With a hundred thousand employers in a lane they take a tenth of a second, in which nothing else is done.
        self._metrics_due = now + max(METRICS_INTERVAL_SECONDS, (self._clock() - now) / METRICS_SHARE_MAX)


def _with_asked(position: TrekkpliktigPosition, reading: Reading, *, position_lowered: bool) -> TrekkpliktigPosition:
    """The position with what the ended reading says of its requests, which wait for the homes from now on."""
    figures = {
        "asked": True,
        "orders_read": reading.orders_seen,
        "vanished": reading.vanished,
        "position_lowered": position_lowered,
    }
    return msgspec.structs.replace(
        position,
        requests=tuple(
            [
                msgspec.structs.replace(request, **figures) if request.id in reading.requests else request
                for request in position.requests
            ]
        ),
    )
