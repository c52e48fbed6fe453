"""One operation of an operator on the state of one lane, done as a worker that owns it: fenced, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer import bootstrap
from producer.observe.port import NullObserver
from producer.partitioning import lane_of
from producer.worker import Worker

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from producer.domain.state import TrekkpliktigState
    from producer.publish.port import LanePublisher, Record
    from producer.settings import Settings

    Decide = Callable[[int, TrekkpliktigState], list[Record]]


class OperationTask:
    """A lane's task that does one thing. `decide` gets the lane's number and what is known of the trekkpliktig."""

    def __init__(
        self, lane: int, trekkpliktig: str, publisher: LanePublisher, decide: Decide, stopping: threading.Event
    ) -> None:
        self._lane = lane
        self._trekkpliktig = trekkpliktig
        self._publisher = publisher
        self._decide = decide
        self._stopping = stopping
        self.first_open_signal = 0

    def run(self, first_signal_offset: int) -> None:
        """Take the lane, decide on what stands there, and write that."""
        self.first_open_signal = first_signal_offset
        try:
            state = self._publisher.take(self._stopping.is_set).of(self._trekkpliktig)
            records = self._decide(self._lane, state)
            if records:
                self._publisher.publish(records, first_signal_offset)
        finally:
            self._publisher.close()

    def stop(self) -> None:
        """It ends by itself."""

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:
        """Signals are left for the service."""


class _NothingToDo:
    """The task of every other lane."""

    first_open_signal = 0

    def run(self, first_signal_offset: int) -> None:
        self.first_open_signal = first_signal_offset

    def stop(self) -> None:
        """It has ended already."""

    def signal(self, trekkpliktig: str, offset: int, value: bytes | None) -> None:
        """Signals are left for the service."""


def operate(settings: Settings, trekkpliktig: str, decide: Decide, stopping: threading.Event) -> None:
    """Have `decide` say what to write for this trekkpliktig, and write it; or end early when `stopping` is set.

    Raises what `decide` raises, `FatalError` while another worker of the application is live, and what taking and
    writing a lane raise.
    """
    found = bootstrap.find_cluster(settings)
    wanted = lane_of(trekkpliktig, found.lanes)
    membership = bootstrap.build_membership(settings)

    def make_task(lane: int) -> OperationTask | _NothingToDo:
        if lane != wanted:
            return _NothingToDo()
        publisher = bootstrap.build_publisher(settings, found, lane, membership, NullObserver())
        return OperationTask(lane, trekkpliktig, publisher, decide, stopping)

    worker = Worker(membership, make_task, found.lanes, stopping, lambda: None, alone=True)
    try:
        worker.run()
    finally:
        worker.leave()
