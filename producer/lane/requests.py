"""The signals of one lane: wake-ups, operator requests, the homes' answers, and what is forwarded to its own lane."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from producer.detect.requests import decide_request, without
from producer.domain.requests import RELEASE, REPAIR, Answer, OperatorRequest, RequestResult, Show, WakeUp
from producer.encode.signal import EVERYBODY, InvalidSignalError, UnknownSignalError, decode_signal
from producer.lane.commit import Part
from producer.lane.reading import is_to_show
from producer.publish.topics import lane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.state import TrekkpliktigPosition
    from producer.lane.commit import Committer, RecordBuilder
    from producer.lane.reading import LaneOptions, Reading
    from producer.lane.releasing import Releasing
    from producer.lane.repairing import Repairing
    from producer.lane.schedule import Schedule
    from producer.observe.port import Observer
    from producer.publish.port import Record

TRIES_MAX = 5
"""A request fails when its reading has failed this often in a row."""

_log = structlog.get_logger(__name__)


class _Held(NamedTuple):
    """A signal that is open until it is committed. `lane` is where it is forwarded to, with its value, if to any."""

    offset: int
    key: str
    signal: WakeUp | OperatorRequest | Answer | Show
    lane: int | None = None
    value: bytes | None = None


class Requests:
    """See the module. Only the lane's thread may use it.

    `interrupt` aborts the reading of a trekkpliktig, `ask` puts a question about a request of it to every home.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with
        self,
        lane: int,
        committer: Committer,
        records: RecordBuilder,
        schedule: Schedule,
        options: LaneOptions,
        observer: Observer,
        releasing: Releasing,
        repairing: Repairing,
        interrupt: Callable[[str], None],
        ask: Callable[[str, str], None],
    ) -> None:
        self._releasing = releasing
        self._repairing = repairing
        self._lane = lane
        self._committer = committer
        self._records = records
        self._schedule = schedule
        self._options = options
        self._observer = observer
        self._interrupt = interrupt
        self._ask = ask
        self._held: list[_Held] = []
        self._failed: dict[str, tuple[frozenset[str], str]] = {}
        self._suspended: set[str] = set()
        self._notified: set[str] = set()
        """Trekkpliktige whose open wake-up comes from a notification."""

    def begin(self) -> None:
        """Apply the committed positions after the lane was acquired: suspensions, waiting requests and questions."""
        lane_state = self._committer.state
        for trekkpliktig, state in lane_state:
            self._apply_position(trekkpliktig, state.position)
            for request in state.position.requests:
                if request.asked and not is_to_show(state.position, lane_state):
                    self._ask(trekkpliktig, request.id)
        self._read_those_to_show()

    def update_list(self) -> None:
        """Adapt to a changed list of trekkpliktige: new ones may be suspended, removed ones are not read."""
        self._committer.signals.keep(self._schedule)
        self._notified = {each for each in self._notified if each in self._schedule}
        for trekkpliktig in self._suspended:
            self._schedule.block(trekkpliktig)

    def receive(self, key: str, offset: int, value: bytes | None) -> None:
        """Receive a signal. One that cannot be understood is counted and skipped, so that it does not stop the lane.

        One that a newer program understands stays open, for the worker that acquires the lane next.
        """
        signals = self._committer.signals
        try:
            signal = decode_signal(key, value)
        except InvalidSignalError as error:
            signals.register("", offset, is_served=False)
            self._observer.signal_received(self._lane, "invalid")
            # Neither key nor value is logged: a signal that is written wrongly may contain a national id.
            _log.warning("a signal is skipped", lane=self._lane, offset=offset, reason=str(error))
            return
        except UnknownSignalError as error:
            signals.hold(offset)
            self._observer.signal_received(self._lane, "unknown")
            _log.warning("a signal waits for a newer program", lane=self._lane, offset=offset, reason=str(error))
            return
        owner = self._owner_of(key, signal)
        if owner != self._lane:
            signals.hold(offset)
            self._held.append(_Held(offset, key, signal, owner, value))
            self._observer.signal_received(self._lane, "forwarded")
        elif isinstance(signal, WakeUp):
            is_served = self._schedule.notify(key, hint=signal.notification is not None)
            signals.register(key, offset, is_served=is_served)
            if is_served and signal.notification is not None:
                self._notified.add(key)
            self._observer.signal_received(self._lane, "wake_up" if key in self._options.served else "foreign")
        else:
            signals.hold(offset)
            if isinstance(signal, OperatorRequest) and signal.kind == RELEASE:
                self._releasing.receive(key, offset, signal)
            elif isinstance(signal, OperatorRequest) and signal.kind == REPAIR:
                self._repairing.receive(offset, signal)
            else:
                self._held.append(_Held(offset, key, signal))
            self._observer.signal_received(
                self._lane, "request" if isinstance(signal, OperatorRequest) else type(signal).__name__.lower()
            )

    def is_notified(self, trekkpliktig: str) -> bool:
        """Whether the next reading is due to a notification, not just a bare wake-up."""
        return trekkpliktig in self._notified

    def read(self, trekkpliktig: str) -> None:
        """A reading of it has ended well."""
        if not self._committer.signals.is_waiting(trekkpliktig):
            self._notified.discard(trekkpliktig)

    def reading_failed(self, reading: Reading, reason: str, *, for_good: bool) -> None:
        """A reading has failed. Its requests wait while another may succeed, and fail otherwise."""
        if reading.requests and (for_good or self._schedule.failures_of(reading.trekkpliktig) >= TRIES_MAX):
            self._failed[reading.trekkpliktig] = (reading.requests, reason)

    def parts(self) -> list[Part]:
        """What all held signals lead to, and what releases and repairs do; none if nothing is held."""
        parts = self._releasing.parts() + self._repairing.parts()
        if self._held or self._failed:
            parts.append(self._part())
        return parts

    def _part(self) -> Part:
        turn = _Turn(self._lane, self._committer, self._records, self._options)
        for trekkpliktig, (ids, reason) in self._failed.items():
            turn.fail(trekkpliktig, ids, reason)
        for held in self._held:
            turn.take_up(held)
        for trekkpliktig in turn.disturbed:
            self._interrupt(trekkpliktig)
        offsets = [held.offset for held in self._held]
        signals = self._committer.signals

        def aborted() -> None:
            for offset in offsets:
                signals.hold(offset)

        return Part(turn.all_records(), lambda: self._committed(turn), lambda: signals.release(offsets), aborted)

    def _committed(self, turn: _Turn) -> None:
        state = self._committer.state
        for trekkpliktig in turn.forgotten:
            known = state.ensure(trekkpliktig)
            known.forget_handed_over()
        for trekkpliktig, position in turn.positions.items():
            if turn.leaves_something(trekkpliktig):
                state.ensure(trekkpliktig).position = position
        for trekkpliktig, request in turn.completed:
            state.completed.add(trekkpliktig, request)
        for held in self._held:
            if isinstance(held.signal, OperatorRequest) and held.lane is None:
                _log.info(
                    "operator request recorded",
                    lane=self._lane,
                    trekkpliktig=held.key,
                    kind=held.signal.kind,
                    request=held.signal.id,
                )
        self._held, self._failed = [], {}
        for trekkpliktig, position in turn.positions.items():
            self._apply_position(trekkpliktig, position)
        for trekkpliktig in turn.disturbed:
            self._schedule.notify(trekkpliktig, urgent=True)
        if turn.show_since != state.show_since:
            state.show_since = turn.show_since
            self._read_those_to_show()

    def _read_those_to_show(self) -> None:
        state = self._committer.state
        for trekkpliktig in self._schedule:
            if is_to_show(state.of(trekkpliktig).position, state):
                self._schedule.notify(trekkpliktig)

    def _apply_position(self, trekkpliktig: str, position: TrekkpliktigPosition) -> None:
        if position.suspended_at is not None:
            self._suspended.add(trekkpliktig)
            self._schedule.block(trekkpliktig)
            self._committer.signals.drop(trekkpliktig)
        elif trekkpliktig in self._suspended:
            self._suspended.discard(trekkpliktig)
            self._schedule.unblock(trekkpliktig)
        if any(not request.asked for request in position.requests):
            self._schedule.notify(trekkpliktig, urgent=True)

    def _owner_of(self, key: str, signal: WakeUp | OperatorRequest | Answer | Show) -> int:
        if key == EVERYBODY or (isinstance(signal, OperatorRequest) and signal.kind == RELEASE):
            return self._lane
        return lane_of(key, self._options.lanes)


class _Turn:
    """What the signals of one transaction lead to. It changes nothing but itself."""

    def __init__(self, lane: int, committer: Committer, records: RecordBuilder, options: LaneOptions) -> None:
        self._lane = lane
        self._committer = committer
        self._builder = records
        self._options = options
        self._records: list[Record] = []
        self._answered: set[str] = set()
        self.positions: dict[str, TrekkpliktigPosition] = {}
        self.forgotten: set[str] = set()
        self.disturbed: set[str] = set()
        self.completed: list[tuple[str, OperatorRequest]] = []
        self.show_since = committer.state.show_since
        self._seen: set[tuple[str, OperatorRequest]] = set()

    def fail(self, trekkpliktig: str, ids: frozenset[str], reason: str) -> None:
        """The requests with these ids have failed."""
        left, gone = without(self._position_of(trekkpliktig), ids)
        self.positions[trekkpliktig] = left
        results = [RequestResult(request, "failed", reason) for request in gone]
        self.completed += [(trekkpliktig, each.request) for each in results]
        self._records += self._builder.of_position(self._lane, trekkpliktig, left, results)

    def take_up(self, held: _Held) -> None:
        """Decide on one signal."""
        if held.lane is not None:
            self._records.append(self._builder.of_signal(held.lane, held.key, held.value))
        elif isinstance(held.signal, Show):
            self.show_since = max(self.show_since or 0, held.signal.since)
        elif isinstance(held.signal, Answer):
            self._answer(held.key, held.signal)
        elif isinstance(held.signal, OperatorRequest):
            self._decide(held.key, held.signal)

    def all_records(self) -> list[Record]:
        """The records of the transaction."""
        state = self._committer.state
        if self.show_since != state.show_since:
            self._records += self._builder.of_home(self._lane, state.observations, self.show_since, {})
        for trekkpliktig in self._answered:
            position, results = completed_requests(self.positions[trekkpliktig], self._options.lanes)
            self.positions[trekkpliktig] = position
            self.completed += [(trekkpliktig, each.request) for each in results]
            self._records += self._builder.of_position(self._lane, trekkpliktig, position, results)
        self._answered = set()
        return self._records

    def leaves_something(self, trekkpliktig: str) -> bool:
        """Whether anything is to be kept of this one."""
        empty = type(self.positions[trekkpliktig])()
        return self.positions[trekkpliktig] != empty or self._committer.state.get(trekkpliktig) is not None

    def _position_of(self, trekkpliktig: str) -> TrekkpliktigPosition:
        return self.positions.get(trekkpliktig) or self._committer.state.of(trekkpliktig).position

    def _answer(self, trekkpliktig: str, answer: Answer) -> None:
        position = self._position_of(trekkpliktig)
        replaced = tuple(
            [
                msgspec.structs.replace(
                    request,
                    answered=(*request.answered, answer.lane),
                    published=request.published + answer.published,
                    quarantined=request.quarantined + answer.quarantined,
                )
                if request.id == answer.request and answer.lane not in request.answered
                else request
                for request in position.requests
            ]
        )
        if replaced != position.requests:
            self.positions[trekkpliktig] = msgspec.structs.replace(position, requests=replaced)
            self._answered.add(trekkpliktig)

    def _decide(self, trekkpliktig: str, request: OperatorRequest) -> None:
        if (trekkpliktig, request) in self._seen or self._committer.state.completed.has(trekkpliktig, request):
            return
        self._seen.add((trekkpliktig, request))
        state = self._committer.state.get(trekkpliktig)
        orders = len(state) if state is not None and trekkpliktig not in self.forgotten else 0
        is_served = trekkpliktig in self._options.served
        before = self._position_of(trekkpliktig)
        decision = decide_request(request, before, orders, self._options.now(), is_served=is_served)
        if decision.interrupts:
            self.disturbed.add(trekkpliktig)
        if decision.forgets:
            self.forgotten.add(trekkpliktig)
        self.positions[trekkpliktig] = decision.position
        self.completed += [(trekkpliktig, each.request) for each in decision.results]
        self._records += self._builder.of_request(self._lane, trekkpliktig, decision, state)


def completed_requests(position: TrekkpliktigPosition, lanes: int) -> tuple[TrekkpliktigPosition, list[RequestResult]]:
    """The position without the requests whose reading has ended and that all homes have answered, and their results."""
    done = frozenset(request.id for request in position.requests if request.asked and len(request.answered) >= lanes)
    left, gone = without(position, done)
    return left, [
        RequestResult(request, "done", vanished=request.vanished, position_lowered=request.position_lowered)
        for request in gone
    ]
