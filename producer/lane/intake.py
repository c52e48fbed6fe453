"""The signals of one lane: wake-ups, operator requests, and signals forwarded to the lane they belong to."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import structlog

from producer.detect.requests import decide_request, without
from producer.domain.requests import RELEASE, RequestResult, WakeUp
from producer.encode.signal import InvalidSignalError, decode_signal
from producer.publish.topics import lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from producer.domain.requests import OperatorRequest
    from producer.domain.state import TrekkpliktigPosition
    from producer.lane.commit import Committer, RecordBuilder
    from producer.lane.reading import LaneOptions, Reading
    from producer.lane.releasing import Releasing
    from producer.lane.schedule import Schedule
    from producer.observe.port import Observer
    from producer.publish.port import Record


class SignalOffsets:
    """The offsets of one lane's signals. A wake-up is processed when a reading that began after it has ended.

    A reading keeps the `next_offset` of the moment when it began: its end completes every wake-up below that offset. A
    signal of another kind is held until it has been carried out.
    """

    def __init__(self, first_offset: int) -> None:
        self.next_offset = first_offset
        self._waiting: dict[str, list[int]] = {}
        self._held: set[int] = set()
        self._firsts: list[tuple[int, str]] = []
        """A heap of the first offset of each trekkpliktig that waits; some entries may be outdated."""

    def register(self, trekkpliktig: str, offset: int, *, is_served: bool) -> None:
        """Register a wake-up. One that names nobody we serve is processed at once."""
        self.next_offset = max(self.next_offset, offset + 1)
        if not is_served:
            return
        offsets = self._waiting.setdefault(trekkpliktig, [])
        offsets.append(offset)
        if len(offsets) == 1:
            heapq.heappush(self._firsts, (offset, trekkpliktig))

    def hold(self, offset: int) -> None:
        """Register a signal that stays open until `release`."""
        self.next_offset = max(self.next_offset, offset + 1)
        self._held.add(offset)

    def release(self, offsets: Iterable[int]) -> None:
        """These signals have been carried out."""
        self._held.difference_update(offsets)

    def ended(self, trekkpliktig: str, begun_at: int) -> list[int]:
        """A reading that began at `begun_at` has ended. Returns the offsets that are processed by that."""
        waiting = self._waiting.pop(trekkpliktig, [])
        self._wait(trekkpliktig, [offset for offset in waiting if offset >= begun_at])
        self._drop_outdated()
        return [offset for offset in waiting if offset < begun_at]

    def reopen(self, trekkpliktig: str, offsets: list[int]) -> None:
        """Undo `ended`, which returned `offsets`: the transaction with the end of the reading was rolled back."""
        self._wait(trekkpliktig, [*offsets, *self._waiting.get(trekkpliktig, ())])

    def _wait(self, trekkpliktig: str, offsets: list[int]) -> None:
        if offsets:
            self._waiting[trekkpliktig] = offsets
            heapq.heappush(self._firsts, (offsets[0], trekkpliktig))

    def is_waiting(self, trekkpliktig: str) -> bool:
        """Whether a wake-up for it is not processed yet."""
        return trekkpliktig in self._waiting

    def keep(self, trekkpliktige: Container[str]) -> None:
        """Drop the wake-ups of all others: they will not be read here."""
        self._waiting = {each: offsets for each, offsets in self._waiting.items() if each in trekkpliktige}
        self._drop_outdated()

    def drop(self, trekkpliktig: str) -> None:
        """Drop the wake-ups of this one: it is not read now, and in full later."""
        self._waiting.pop(trekkpliktig, None)
        self._drop_outdated()

    @property
    def first_open(self) -> int:
        """The offset of the first signal that is not processed yet."""
        first = self._firsts[0][0] if self._firsts else self.next_offset
        return min(first, min(self._held, default=first))

    def _drop_outdated(self) -> None:
        """Remove what is outdated from the top of the heap, so that its first entry is the lowest waiting offset."""
        while self._firsts:
            offset, trekkpliktig = self._firsts[0]
            offsets = self._waiting.get(trekkpliktig)
            if offsets is not None and offsets[0] == offset:
                return
            heapq.heappop(self._firsts)


TRIES_MAX = 5
"""A request fails when its reading has failed this often in a row."""

_log = structlog.get_logger(__name__)


class _Held(NamedTuple):
    """A signal that is open until it is committed: an operator request, or the value of a signal for another lane."""

    offset: int
    trekkpliktig: str
    request: OperatorRequest | None = None
    value: bytes | None = None


class Intake:
    """See the module. Only the lane's thread may use it."""

    def __init__(
        self,
        lane: int,
        committer: Committer,
        records: RecordBuilder,
        schedule: Schedule,
        options: LaneOptions,
        observer: Observer,
        releasing: Releasing,
    ) -> None:
        self._releasing = releasing
        self._lane = lane
        self._committer = committer
        self._records = records
        self._schedule = schedule
        self._options = options
        self._observer = observer
        self._held: list[_Held] = []
        self._failed: dict[str, tuple[frozenset[str], str]] = {}
        self._suspended: set[str] = set()
        self._notified: set[str] = set()
        """Trekkpliktige whose open wake-up comes from a notification."""

    def begin(self) -> None:
        """Apply the committed positions after the lane was acquired: suspensions and waiting requests."""
        for trekkpliktig, state in self._committer.state:
            self._apply_position(trekkpliktig, state.position)

    def update_list(self) -> None:
        """Adapt to a changed list of trekkpliktige: new ones may be suspended, removed ones are not read."""
        self._committer.signals.keep(self._schedule)
        self._notified = {each for each in self._notified if each in self._schedule}
        for trekkpliktig in self._suspended:
            self._schedule.block(trekkpliktig)

    def receive(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:
        """Receive a signal. One that cannot be understood is counted and skipped, so that it does not stop the lane."""
        signals = self._committer.signals
        try:
            signal = decode_signal(trekkpliktig, value)
        except InvalidSignalError as error:
            signals.register("", offset, is_served=False)
            self._observer.signal_received(self._lane, "invalid")
            # Neither key nor value is logged: a signal that is written wrongly may contain a national id.
            _log.warning("a signal is skipped", lane=self._lane, offset=offset, reason=str(error))
            return
        if lane_of(trekkpliktig, self._options.lanes) != self._lane:
            signals.hold(offset)
            self._held.append(_Held(offset, trekkpliktig, value=value))
            self._observer.signal_received(self._lane, "forwarded")
        elif isinstance(signal, WakeUp):
            is_served = self._schedule.notify(trekkpliktig, hint=signal.notification is not None)
            signals.register(trekkpliktig, offset, is_served=is_served)
            if is_served and signal.notification is not None:
                self._notified.add(trekkpliktig)
            self._observer.signal_received(self._lane, "wake_up" if trekkpliktig in self._options.served else "foreign")
        else:
            signals.hold(offset)
            if signal.kind == RELEASE:
                self._releasing.receive(trekkpliktig, offset, signal)
            else:
                self._held.append(_Held(offset, trekkpliktig, signal))
            self._observer.signal_received(self._lane, "request")

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

    def commit(self, interrupt: Callable[[str], None]) -> None:
        """Commit all held signals in one transaction, and apply them; `interrupt` aborts a reading in progress.

        Raises as `Committer.write`. If the transaction was aborted, the signals stay held.
        """
        self._releasing.commit()
        if not (self._held or self._failed):
            return
        records: list[Record] = []
        positions: dict[str, TrekkpliktigPosition] = {}
        forgotten: set[str] = set()
        disturbed: set[str] = set()
        completed: list[tuple[str, OperatorRequest]] = []
        seen: set[tuple[str, OperatorRequest]] = set()
        for trekkpliktig, (ids, reason) in self._failed.items():
            left, gone = without(self._committer.position_of(trekkpliktig), ids)
            positions[trekkpliktig] = left
            results = [RequestResult(request, "failed", reason) for request in gone]
            completed += [(trekkpliktig, each.request) for each in results]
            records += self._records.of_position(self._lane, trekkpliktig, left, results)
        for held in self._held:
            if held.request is None:
                owner = lane_of(held.trekkpliktig, self._options.lanes)
                records.append(self._records.of_signal(owner, held.trekkpliktig, held.value))
                continue
            if (held.trekkpliktig, held.request) in seen or self._committer.is_completed(
                held.trekkpliktig, held.request
            ):
                continue
            seen.add((held.trekkpliktig, held.request))
            before = positions.get(held.trekkpliktig) or self._committer.position_of(held.trekkpliktig)
            is_served = held.trekkpliktig in self._options.served
            state = self._committer.state.get(held.trekkpliktig)
            orders = len(state) if state is not None and held.trekkpliktig not in forgotten else 0
            decision = decide_request(held.request, before, orders, self._options.now(), is_served=is_served)
            if decision.interrupts:
                disturbed.add(held.trekkpliktig)
                interrupt(held.trekkpliktig)
            if decision.forgets:
                forgotten.add(held.trekkpliktig)
            positions[held.trekkpliktig] = decision.position
            completed += [(held.trekkpliktig, each.request) for each in decision.results]
            records += self._records.of_decision(self._lane, held.trekkpliktig, decision, state)
        self._committer.write(records, positions, forgotten, [held.offset for held in self._held])
        self._committer.mark_completed(completed)
        self._log_recorded(self._held)
        self._held, self._failed = [], {}
        for trekkpliktig, position in positions.items():
            self._apply_position(trekkpliktig, position)
        for trekkpliktig in disturbed:
            self._schedule.notify(trekkpliktig, urgent=True)

    def _apply_position(self, trekkpliktig: str, position: TrekkpliktigPosition) -> None:
        if position.suspended_at is not None:
            self._suspended.add(trekkpliktig)
            self._schedule.block(trekkpliktig)
            self._committer.signals.drop(trekkpliktig)
        elif trekkpliktig in self._suspended:
            self._suspended.discard(trekkpliktig)
            self._schedule.unblock(trekkpliktig)
        if position.requests:
            self._schedule.notify(trekkpliktig, urgent=True)

    def _log_recorded(self, done: list[_Held]) -> None:
        for held in done:
            if held.request is not None:
                request, trekkpliktig = held.request, held.trekkpliktig
                _log.info(
                    "operator request recorded",
                    lane=self._lane,
                    trekkpliktig=trekkpliktig,
                    kind=request.kind,
                    request=request.id,
                )
