"""Comparing what a lane has published with its partition of the history, at an operator's request.

The partition is read in a thread of its own while the lane continues: in the pool it would keep calls waiting. What was
published meanwhile is not compared. The orders that the history has lost something of then follow it, a step each, and
all lists are handed over completely again, so that their homes publish what can be had. The signal stays open until the
result is committed; if the lane ends meanwhile, its next owner compares again.
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import structlog

from producer.detect.decide import Decision
from producer.detect.repair import after_loss
from producer.domain.requests import RequestResult
from producer.domain.state import LOST
from producer.encode.signal import EVERYBODY
from producer.lane.commit import Part
from producer.lane.home import Task
from trekkpaalegg.errors import TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from producer.detect.repair import Lost
    from producer.domain.requests import OperatorRequest
    from producer.domain.state import OrderBook, OrderState
    from producer.domain.trekkpaalegg import Fetched
    from producer.errors import RejectedTrekkpaaleggError
    from producer.lane.calls import Calls
    from producer.lane.commit import Committer, RecordBuilder
    from producer.lane.home import Home
    from producer.publish.port import Loss, Record

    FindLost = Callable[[int, OrderBook], Loss]

STEPS_AT_ONCE_MAX = 5000
NAMED_MAX = 20
"""How many of the versions with lost corrections the result names."""

_log = structlog.get_logger(__name__)


class _Step:
    """One order that is to follow the history, and the copy of its newest event for `…-gjeldende`, if it lacks that."""

    trekkpliktig = ""

    def __init__(self, lost: Lost, copy: Record | None, on_committed: Callable[[], None]) -> None:
        self.offsets: list[int] = []
        self._lost = lost
        self._copies = [] if copy is None else [copy]
        self._is_newest = False
        self._on_committed = on_committed

    def decide(self, order: OrderState, versions: Mapping[int, Fetched], now: int) -> Decision:  # noqa: ARG002 - as `Release` has it
        """See `Release`."""
        self._is_newest = order.trekkversjon == self._lost.behind
        return Decision(after_loss(order, self._lost, now))

    def results(self, outcome: Decision | RejectedTrekkpaaleggError) -> list[Record]:  # noqa: ARG002 - as above
        """See `Release`: the copy, unless a newer version was published meanwhile."""
        return self._copies if self._is_newest else []

    def committed(self) -> None:
        """See `Release`."""
        self._on_committed()


class _Comparison:
    """The request that is carried out, and those that came for the same before the partition was read."""

    def __init__(self, offset: int, request: OperatorRequest) -> None:
        self.offsets = [offset]
        self.request = request
        self.lost: dict[bytes, Lost] = {}
        self.left: Iterator[tuple[bytes, Lost]] = iter(())
        self.under_way = 0
        self.result: RequestResult | None = None


class Repairing:
    """See the module. Only the lane's thread may use it.

    `find_lost` is None where nothing is compared. `show_again` has all lists handed over completely again, and calls
    back once all lanes are told to.
    """

    def __init__(
        self,
        lane: int,
        committer: Committer,
        records: RecordBuilder,
        calls: Calls,
        find_lost: FindLost | None,
        home: Callable[[], Home],
        show_again: Callable[[Callable[[], None]], None],
    ) -> None:
        self._lane = lane
        self._committer = committer
        self._records = records
        self._calls = calls
        self._find_lost = find_lost
        self._home = home
        self._show_again = show_again
        self._waiting: list[_Comparison] = []

    def receive(self, offset: int, request: OperatorRequest) -> None:
        """Receive a request whose signal is held by the caller."""
        if self._committer.state.completed.has(EVERYBODY, request):
            self._committer.signals.release([offset])
            return
        for each in self._waiting:
            if each.request == request:
                each.offsets.append(offset)
                return
        self._waiting.append(_Comparison(offset, request))
        if len(self._waiting) == 1:
            self._begin(self._waiting[0])

    def parts(self) -> list[Part]:
        """The result of the comparison that is done."""
        comparison = self._waiting[0] if self._waiting else None
        if comparison is None or comparison.result is None:
            return []
        signals = self._committer.signals

        def aborted() -> None:
            for offset in comparison.offsets:
                signals.hold(offset)

        records = [self._records.of_results(self._lane, EVERYBODY, [comparison.result])]
        return [Part(records, self._committed, lambda: signals.release(comparison.offsets), aborted)]

    def _begin(self, comparison: _Comparison) -> None:
        find_lost = self._find_lost
        if find_lost is None:
            comparison.result = RequestResult(comparison.request, "failed", "nothing can be compared here")
            return
        orders = self._committer.state.orders.copy()

        def compare() -> None:
            try:
                lost = find_lost(self._lane, orders)
            except BaseException as error:  # noqa: BLE001 - told in the lane's thread
                failed = error
                self._calls.call_soon(lambda: self._fail(comparison, failed))
            else:
                self._calls.call_soon(lambda: self._compared(comparison, lost))

        threading.Thread(target=compare, name=f"compare-{self._lane}", daemon=True).start()

    def _fail(self, comparison: _Comparison, error: BaseException) -> None:
        why = str(error) if isinstance(error, TrekkpaaleggError) else f"it broke: {type(error).__name__}"
        if not isinstance(error, TrekkpaaleggError):  # unexpected, but no reason to keep the lane from its work
            _log.error("comparing with the history crashed", lane=self._lane, exc_info=error)
        comparison.result = RequestResult(comparison.request, "failed", why)

    def _compared(self, comparison: _Comparison, found: Loss) -> None:
        if found.orders:
            _log.error("the topics have lost events", lane=self._lane, orders=len(found.orders))
        comparison.left = iter(found.orders.items())
        comparison.lost = {**found.orders, **comparison.lost}
        self._advance(comparison, found)

    def _advance(self, comparison: _Comparison, found: Loss) -> None:
        """Have the next orders follow the history; when all do, all lists are shown again."""
        for key, lost in islice(comparison.left, STEPS_AT_ONCE_MAX):
            comparison.under_way += 1
            step = _Step(lost, found.copies.get(key), lambda: self._stepped(comparison, found))
            self._home().add(Task(key, release=step))
        if comparison.under_way:
            return
        orders = self._committer.state.orders.open_orders()
        if not found.is_all:
            self._begin(comparison)
        elif any(each.versions or each.corrections for each in comparison.lost.values()) or any(
            each.reason.startswith(LOST) for _, order in orders for each in order.missing
        ):
            self._show_again(lambda: self._finish(comparison))
        else:
            self._finish(comparison)

    def _finish(self, comparison: _Comparison) -> None:
        comparison.result = _result_of(comparison.request, comparison.lost)

    def _stepped(self, comparison: _Comparison, found: Loss) -> None:
        comparison.under_way -= 1
        if comparison.under_way == 0:
            self._advance(comparison, found)

    def _committed(self) -> None:
        comparison = self._waiting.pop(0)
        self._committer.state.completed.add(EVERYBODY, comparison.request)
        if self._waiting:
            self._begin(self._waiting[0])


def _result_of(request: OperatorRequest, lost: Mapping[bytes, Lost]) -> RequestResult:
    """The result: how many orders have lost something, how many versions, and of which versions corrections.

    `published` is how many events were copied to `…-gjeldende`.
    """
    corrected = [f"{key.decode()}/{number}" for key, each in lost.items() for number, _ in each.corrections]
    names = ", ".join(corrected[:NAMED_MAX])
    if len(corrected) > NAMED_MAX:
        names += f" and {len(corrected) - NAMED_MAX} more"
    copied = sum(each.behind is not None for each in lost.values())
    request = msgspec.structs.replace(request, orders_read=len(lost), published=copied)
    return RequestResult(request, "done", names, vanished=sum(each.versions_count for each in lost.values()))
