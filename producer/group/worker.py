"""The worker: joins the group, starts and stops lanes as they are assigned and revoked, and restarts failed ones."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from producer.errors import LaneFencedError, OutcomeUnknownError
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.group.port import Membership

ALONE_SECONDS_MAX = 15.0
"""How long a worker that was killed may still count as one: a session of 10 s, and the hand-over after it."""

ALONE_TRIES_MAX = 4
"""How often a command starts a lane again; with the pauses, some fifteen seconds."""

FENCES_MAX = 2
"""How often a lane may be fenced, without `settled_seconds` in between, although the group says that it is ours."""

_DOUBLINGS_MAX = 10

_log = structlog.get_logger(__name__)


class WorkerTimes(msgspec.Struct, frozen=True):
    """How long a worker waits.

    A lane that has worked for `settled_seconds` starts over with short pauses. `fenced_grace_seconds` is how long the
    group may take to report to a fenced worker that its lane went to another; longer than a session. `tries_max` is how
    often in a row a lane may fail, None for ever.
    """

    poll_seconds: float = 0.1
    close_seconds_max: float = 8.0
    restart_pause_seconds: float = 1.0
    restart_pause_seconds_max: float = 30.0
    settled_seconds: float = 120.0
    fenced_grace_seconds: float = 15.0
    alone_seconds_max: float = ALONE_SECONDS_MAX
    tries_max: int | None = None


TIMES = WorkerTimes()


class LaneTask(Protocol):
    """The work in one lane, in a thread of its own."""

    def run(self, first_signal_offset: int) -> None:
        """Take the lane and work until stopped or done."""

    def stop(self) -> None:
        """Ask `run` to return soon."""

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:
        """A signal came."""

    @property
    def first_open_signal(self) -> int:
        """Offset of the first signal that is not handled yet."""


class _Owned(msgspec.Struct):
    """A lane that the group says is ours. `task` is None while it waits to be started (again) at `start_at`."""

    first_signal_offset: int
    start_at: float
    failures: int = 0
    started_at: float = 0.0
    task: LaneTask | None = None
    thread: threading.Thread | None = None
    error: BaseException | None = None
    is_done: bool = False
    fenced_at: float | None = None
    fences: int = 0
    missed_signals: bool = False
    waits_for: str = "not taken yet"
    """What kept it from being worked on last."""


class LaneWorker:
    """Runs until `stopping` is set, every one of `lanes_max` lanes is done, or nothing more can be done.

    `may_work` is asked when the group has confirmed the first lane, and again after none was ours; where it says no,
    the worker ends as one too many (`is_surplus`), without having worked on any.

    `waits` is told of a lane that cannot be worked on, and why, and None once it is another's or at work again.

    `alone` is for commands that want all lanes: it is an error when another worker still has some after a session.
    """

    def __init__(  # noqa: PLR0913 - all but the last two are what it works with
        self,
        membership: Membership,
        make_task: Callable[[int], LaneTask],
        lanes_max: int,
        stopping: threading.Event,
        beat: Callable[[], None],
        *,
        alone: bool = False,
        times: WorkerTimes = TIMES,
        waits: Callable[[int, str | None], None] = lambda _lane, _reason: None,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        self._may_work = may_work
        self._is_admitted = False
        self.is_surplus = False
        self._waits = waits
        self._alone = alone
        self._tries_max = ALONE_TRIES_MAX if alone else times.tries_max
        self._times = times
        self._membership = membership
        self._make_task = make_task
        self._lanes_max = lanes_max
        self._stopping = stopping
        self._beat = beat
        self._owned: dict[int, _Owned] = {}
        self.lanes_done: set[int] = set()

    def run(self) -> None:
        """Raises `LaneFencedError` or `FatalError` when a lane can do no more; all others are closed first."""
        begun = time.monotonic()
        self._membership.join(self._assigned, self._revoked)
        try:
            while not (self._stopping.is_set() or self.is_surplus or len(self.lanes_done) == self._lanes_max):
                self._beat()
                if (
                    self._alone
                    and time.monotonic() - begun > self._times.alone_seconds_max
                    and not self._has_all_lanes()
                ):
                    raise FatalError("another worker of this application is running: stop it first, or let it do this")
                for signal in self._membership.poll(self._times.poll_seconds):
                    owned = self._owned.get(signal.lane)
                    if owned is not None and owned.task is not None:
                        owned.task.signal(signal.trekkpliktig, signal.offset, signal.value)
                    elif owned is not None:
                        owned.missed_signals = True
                for lane, owned in list(self._owned.items()):
                    self._supervise(lane, owned)
        finally:
            self._revoked(set(self._owned))

    def _has_all_lanes(self) -> bool:
        return len(self._owned) == self._lanes_max

    def waiting_lanes(self) -> dict[int, str]:
        """Lanes that are ours and that nobody works on, with what keeps them. In the worker's thread only."""
        return {
            lane: owned.waits_for
            for lane, owned in sorted(self._owned.items())
            if owned.thread is None and not owned.is_done
        }

    def leave(self) -> None:
        """Leave the group."""
        self._membership.leave()

    def _assigned(self, lanes: dict[int, int]) -> None:
        for lane, first_signal_offset in lanes.items():
            self._owned[lane] = _Owned(first_signal_offset, start_at=0.0)
        if lanes:
            _log.info("lanes assigned", lanes=sorted(lanes))

    def _revoked(self, lanes: set[int]) -> None:
        """Close the lanes side by side; each ends the transaction under way first."""
        closing = [(lane, self._owned.pop(lane)) for lane in sorted(lanes) if lane in self._owned]
        self._is_admitted = self._is_admitted and bool(self._owned)
        for lane, owned in closing:
            if owned.task is not None:
                owned.task.stop()
            else:
                self._waits(lane, None)
        deadline = time.monotonic() + self._times.close_seconds_max
        for lane, owned in closing:
            if owned.thread is not None:
                owned.thread.join(max(deadline - time.monotonic(), 0.0))
                if owned.thread.is_alive():
                    _log.warning("a lane did not end in time: its transaction is left to the next fence", lane=lane)
        if closing:
            _log.info("lanes revoked", lanes=sorted(lanes))

    def _supervise(self, lane: int, owned: _Owned) -> None:
        """Start a lane that waits, and handle one that has ended."""
        if owned.thread is not None and not owned.thread.is_alive():
            if owned.task is not None:
                owned.first_signal_offset = max(owned.first_signal_offset, owned.task.first_open_signal)
            owned.thread = owned.task = None
            if owned.error is None:
                owned.is_done = True
                self.lanes_done.add(lane)
            else:
                self._handle_failure(lane, owned, owned.error)
        if owned.thread is None and not owned.is_done and time.monotonic() >= owned.start_at:
            self._start(lane, owned)

    def _handle_failure(self, lane: int, owned: _Owned, error: BaseException) -> None:
        """Start a lane that ended with an error again, after a pause, or raise what ends the process."""
        owned.error, owned.missed_signals = None, True
        owned.waits_for = str(error)
        times, now = self._times, time.monotonic()
        if now - owned.started_at > times.settled_seconds:
            owned.failures = owned.fences = 0
        if isinstance(error, LaneFencedError):
            owned.fenced_at, owned.fences = now, owned.fences + 1
        elif not isinstance(error, RetryableError | OutcomeUnknownError):
            raise (
                error if isinstance(error, TrekkpaaleggError) else FatalError(f"lane {lane} broke: {error!r}")
            ) from error
        is_final = owned.failures >= (self._tries_max or 0) or isinstance(error, RefusedError)
        if self._tries_max is not None and is_final:
            raise FatalError(f"lane {lane} cannot be worked on: {error}") from error
        _log.warning("lane ended", lane=lane, reason=str(error), kind=type(error).__name__)
        if not isinstance(error, LaneFencedError):
            self._waits(lane, str(error))
        doubled = times.restart_pause_seconds * 2 ** min(owned.failures, _DOUBLINGS_MAX)
        owned.failures += 1
        owned.start_at = now + min(doubled, times.restart_pause_seconds_max)

    def _admit(self, owned: _Owned) -> bool:
        """Whether this worker may work at all. Asked as a member that all others see: see `WorkerSlots.may_work`."""
        if self._is_admitted or self.is_surplus:
            return self._is_admitted
        try:
            self._is_admitted = self._may_work()
        except RetryableError as error:
            owned.waits_for = str(error)
            owned.start_at = time.monotonic() + self._times.restart_pause_seconds
            return False
        self.is_surplus = not self._is_admitted
        return self._is_admitted

    def _start(self, lane: int, owned: _Owned) -> None:
        """Start the lane's thread, once the group has confirmed that it is ours.

        Taking a lane fences whoever has it. A process that slept past its session still believes that its lanes are
        its own; the group, asked afresh, knows better. A lane that was fenced although the group says it is ours may
        have been so by the broker alone, which ends a transaction that has lasted too long by a fence, as after a
        restart of its own; nothing tells that from a rival. So it is taken once more; fenced again soon, it has a
        rival outside the group: two would fence each other for ever, so this one gives up.
        """
        confirmed = self._membership.confirm(lane, owned.first_signal_offset)
        if owned.fenced_at is not None:
            has_waited = time.monotonic() - owned.fenced_at > self._times.fenced_grace_seconds
            if has_waited or (confirmed and owned.fences >= FENCES_MAX):
                raise LaneFencedError(f"lane {lane} was taken by a process outside the group of workers")
            if confirmed:
                owned.fenced_at = None
        if not confirmed:
            owned.waits_for = "the group does not confirm that it is ours"
            owned.start_at = time.monotonic() + self._times.restart_pause_seconds
            return
        if not self._admit(owned):
            return
        if owned.missed_signals:
            self._membership.rewind(lane, owned.first_signal_offset)
            owned.missed_signals = False
        owned.started_at = time.monotonic()
        try:
            task = self._make_task(lane)
        except RetryableError as error:
            self._handle_failure(lane, owned, error)
            return
        owned.task = task

        def body() -> None:
            try:
                task.run(owned.first_signal_offset)
            except BaseException as error:  # noqa: BLE001 - carried to the worker's thread, which decides
                owned.error = error

        owned.thread = threading.Thread(target=body, name=f"lane-{lane}", daemon=True)
        owned.thread.start()
