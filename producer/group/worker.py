"""The worker: joins the group, starts and stops lanes as they are assigned and revoked, and restarts failed ones."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from producer.errors import LaneFencedError, OutcomeUnknownError
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError, TrekkpaaleggError, release_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.group.port import Membership

ALONE_SECONDS_MAX = 15.0
"""How long a worker that was killed may remain a member: a session of 10 s, and the rebalance after it."""

ALONE_TRIES_MAX = 4
"""How often a command restarts a lane; with the pauses, about fifteen seconds."""

FENCES_MAX = 2
"""How often a lane may be fenced, less than `stable_seconds` apart, although the group says that it is ours."""

_DOUBLINGS_MAX = 10

_log = structlog.get_logger(__name__)


class WorkerTimes(msgspec.Struct, frozen=True):
    """How long a worker waits.

    After `stable_seconds` without an error, the pauses before a lane's restart begin short again.
    `fenced_grace_seconds` is how long the group may take to report to a fenced worker that its lane was reassigned;
    longer than a session. `tries_max` is how often in a row a lane may fail; None: without limit.
    """

    poll_seconds: float = 0.1
    close_seconds_max: float = 8.0
    restart_pause_seconds: float = 1.0
    restart_pause_seconds_max: float = 30.0
    stable_seconds: float = 120.0
    fenced_grace_seconds: float = 15.0
    alone_seconds_max: float = ALONE_SECONDS_MAX
    tries_max: int | None = None


TIMES = WorkerTimes()


class LaneTask(Protocol):
    """The work of one lane, in a thread of its own."""

    def run(self, first_signal_offset: int) -> None:
        """Acquire the lane and work until stopped or done."""

    def stop(self) -> None:
        """Make `run` return soon."""

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:
        """Handle a signal."""

    @property
    def first_open_signal(self) -> int:
        """Offset of the first signal that has not been handled yet."""


class _Owned(msgspec.Struct):
    """A lane that the group has assigned to us. `task` is None while it waits for its start at `start_at`."""

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
    waits_for: str = "not acquired yet"
    """Why it is not being worked on."""


class LaneWorker:
    """Runs until `stopping` is set, all `lanes_max` lanes are done, or an error ends it.

    `may_work` is called when the group has confirmed the first lane, and again after a time without any. If it returns
    false, the worker ends as surplus (`is_surplus`), without having worked on a lane.

    `waits(lane, reason)` is called for a lane that cannot be worked on, and with None once it works again or is
    another worker's.

    `alone` is for commands that need all lanes: it is an error if another worker still owns some after a session.
    """

    def __init__(  # noqa: PLR0913 - its collaborators, and options with defaults
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
        """Raises `LaneFencedError` or `FatalError` for a lane that cannot continue, once all others are closed."""
        started = time.monotonic()
        self._membership.join(self._assigned, self._revoked)
        try:
            while not (self._stopping.is_set() or self.is_surplus or len(self.lanes_done) == self._lanes_max):
                self._beat()
                if (
                    self._alone
                    and time.monotonic() - started > self._times.alone_seconds_max
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
        """Lanes of ours that are not being worked on, with the reasons. In the worker's thread only."""
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
        """Close the lanes in parallel; each ends its open transaction first."""
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
        """Start a waiting lane, and handle one that has ended."""
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
        """Schedule a restart of a lane that ended with an error, or raise what ends the process."""
        owned.error, owned.missed_signals = None, True
        owned.waits_for = str(error)
        times, now = self._times, time.monotonic()
        if now - owned.started_at > times.stable_seconds:
            owned.failures = owned.fences = 0
        if isinstance(error, LaneFencedError):
            owned.fenced_at, owned.fences = now, owned.fences + 1
        elif not isinstance(error, RetryableError | OutcomeUnknownError):
            raise (
                error if isinstance(error, TrekkpaaleggError) else FatalError(f"lane {lane} crashed: {error!r}")
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
        """Whether this worker may work at all. Called once the group counts it: see `WorkerSlots.may_work`."""
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

        Acquiring a lane fences its owner. A process that was suspended beyond its session still believes that its lanes
        are its own, so the group is asked first. If a lane is fenced although the group says that it is ours, the
        broker may have done it: it ends a transaction that lasts too long by a fence, for example after its own
        restart. That looks the same as a rival process. So the lane is acquired once more; if it is fenced again soon,
        there is a rival outside the group, and since the two would fence each other forever, this one gives up.
        """
        confirmed = self._membership.confirm(lane, owned.first_signal_offset)
        if owned.fenced_at is not None:
            has_waited = time.monotonic() - owned.fenced_at > self._times.fenced_grace_seconds
            if has_waited or (confirmed and owned.fences >= FENCES_MAX):
                raise LaneFencedError(f"lane {lane} was acquired by a process outside the group of workers")
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
            except BaseException as error:  # noqa: BLE001 - passed to the worker's thread, which decides
                release_frames(error)
                owned.error = error

        owned.thread = threading.Thread(target=body, name=f"lane-{lane}", daemon=True)
        owned.thread.start()
