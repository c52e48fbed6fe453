"""One worker of a group in memory, with tasks that tests control."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from producer.group.worker import LaneWorker, WorkerTimes
from tests.kit.fakes.membership import FakeGroup
from tests.kit.waiting import WAIT_SECONDS_MAX, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from trekkpaalegg.errors import TrekkpaaleggError

TIMES = WorkerTimes(
    poll_seconds=0.01,
    close_seconds_max=5.0,
    restart_pause_seconds=0.02,
    restart_pause_seconds_max=0.05,
    fenced_grace_seconds=5.0,
    alone_seconds_max=5.0,
)
"""Short enough for tests to wait for."""


class FakeLaneTask:
    """A lane's task that runs until it is stopped or made to fail, and remembers its signals."""

    def __init__(self, hall: WorkerHall, lane: int) -> None:
        self.hall = hall
        self.lane = lane
        self.first_open_signal = 0
        self.begun_at: int | None = None
        self.signals: list[tuple[str, int]] = []
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self.may_end = threading.Event()
        self.has_ended = threading.Event()

    def run(self, first_signal_offset: int) -> None:
        """As `LaneTask` says. Fails at once when the hall says so, before it knows of any signal."""
        self.begun_at = first_signal_offset
        if self.hall.taking_fails:
            raise self.hall.taking_fails.pop(0)
        self.first_open_signal = first_signal_offset
        self.stopped.wait(WAIT_SECONDS_MAX)
        if not self.hall.quick:
            self.may_end.wait(WAIT_SECONDS_MAX)
        self.has_ended.set()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """As `LaneTask` says."""
        self.stopped.set()

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:  # noqa: ARG002 - as the port has it
        """As `LaneTask` says."""
        self.signals.append((trekkpliktig, offset))

    def fail(self, error: BaseException, first_open_signal: int | None = None) -> None:
        """End with this error."""
        self.error = error
        if first_open_signal is not None:
            self.first_open_signal = first_open_signal
        self.stopped.set()


class WorkerHall:
    """A worker in a thread of its own, its group, and every task that it made.

    `quick` tasks end as soon as they are told to, others when `may_end` is set. `making_fails` and `taking_fails` are
    raised in turn, one each time a task is made or run.
    """

    def __init__(
        self,
        lanes: int = 2,
        *,
        group: FakeGroup | None = None,
        alone: bool = False,
        times: WorkerTimes = TIMES,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        self.group = group or FakeGroup(lanes)
        self.membership = self.group.membership()
        self.made: list[FakeLaneTask] = []
        self.quick = True
        self.making_fails: list[TrekkpaaleggError] = []
        self.taking_fails: list[TrekkpaaleggError] = []
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.beats = 0
        self.left_running: list[FakeLaneTask] = []
        """Tasks that were still running when `LaneWorker.run` ended."""
        self.worker = LaneWorker(
            self.membership,
            self._make,
            self.group.lanes,
            self.stopping,
            self._beat,
            alone=alone,
            times=times,
            may_work=may_work,
        )
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for task in self.made:
            task.may_end.set()
        self.ended()

    def tasks(self, lane: int) -> list[FakeLaneTask]:
        """Every task that was made for this lane."""
        return [task for task in self.made if task.lane == lane]

    def running(self, lane: int) -> FakeLaneTask:
        """The lane's newest task, once it runs."""
        until(lambda: self.tasks(lane) and self.tasks(lane)[-1].begun_at is not None)
        return self.tasks(lane)[-1]

    def ended(self) -> BaseException | None:
        """What the worker ended with, once it has."""
        self.thread.join(WAIT_SECONDS_MAX)
        if self.thread.is_alive():
            raise TimeoutError("the worker did not end in time")
        return self.error

    def _make(self, lane: int) -> FakeLaneTask:
        if self.making_fails:
            raise self.making_fails.pop(0)
        self.made.append(FakeLaneTask(self, lane))
        return self.made[-1]

    def _beat(self) -> None:
        self.beats += 1

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self.error = error
        finally:
            self.left_running = [task for task in self.made if not task.has_ended.is_set()]
            self.worker.leave()
