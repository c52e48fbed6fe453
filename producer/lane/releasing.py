"""Release of quarantined records at an operator's request: read again, and decided on by the home of the order.

The record is read in the pool while the lane continues. If it turns out that its order is at home in another lane, as
it may when its trekkid could not be understood before, the request is forwarded there. The signal stays open until the
result is committed, so if the lane ends meanwhile, its next owner starts the release again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from producer.detect.release import release
from producer.domain.observation import order_key
from producer.domain.requests import RequestResult
from producer.domain.trekkpaalegg import Failed, Gone, Rejected
from producer.encode.signal import encode_request
from producer.errors import RejectedTrekkpaaleggError
from producer.lane.commit import Part
from producer.lane.home import Task
from producer.publish.quarantine_log import read_one
from producer.publish.topics import home_of
from trekkpaalegg.errors import FatalError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from producer.detect.decide import Decision
    from producer.domain.requests import OperatorRequest
    from producer.domain.state import OrderState
    from producer.domain.trekkpaalegg import Fetched, Trekkpaalegg
    from producer.lane.calls import Calls
    from producer.lane.commit import Committer, RecordBuilder
    from producer.lane.home import Home
    from producer.publish.port import Record
    from producer.source.port import TrekkpaaleggSource

    Understand = Callable[[str, str], Trekkpaalegg]

NAMED_MAX = 20
"""How many of the published versions the result of a release names."""

_log = structlog.get_logger(__name__)


class Quarantine:
    """Reads quarantined records again, by the rules of today. Safe for several threads."""

    def __init__(self, properties: Mapping[str, str], topic: str, source: TrekkpaaleggSource) -> None:
        self._properties = properties
        self._topic = topic
        self._source = source

    def understand(self, trekkpliktig: str, record_id: str) -> Trekkpaalegg:
        """The version in a record, named by partition/offset; fetched from the source if the record was cut off.

        Raises `RejectedTrekkpaaleggError` if it still cannot be understood, `FatalError` if there is no such record of
        this trekkpliktig or the source does not have all of it, and `RetryableError`.
        """
        partition, offset = (int(part) for part in record_id.split("/"))
        record = read_one(self._properties, self._topic, partition, offset)
        if record.trekkpliktig != trekkpliktig:
            raise FatalError(f"the record {record_id} is about another trekkpliktig")
        element: Trekkpaalegg | Rejected | Gone | Failed = self._source.read_element(record.raw, trekkpliktig)
        if record.raw_truncated and record.trekkid and record.trekkversjon:
            element = self._source.fetch_trekkpaalegg(trekkpliktig, record.trekkid, record.trekkversjon)
        if isinstance(element, Rejected):
            raise RejectedTrekkpaaleggError(
                f"it still cannot be understood ({element.reason.value})", element.field_path
            )
        if isinstance(element, Gone | Failed):
            raise FatalError("only a part of it was kept, and the source does not give the whole now; try again later")
        return element


class _PendingRelease:
    """A release that is not completed yet. A second signal for it adds an offset."""

    def __init__(self, releasing: Releasing, trekkpliktig: str, offset: int, request: OperatorRequest) -> None:
        self._releasing = releasing
        self.trekkpliktig = trekkpliktig
        self.offsets = [offset]
        self.request = request
        self.element: Trekkpaalegg | None = None

    def decide(self, order: OrderState, versions: Mapping[int, Fetched], now: int) -> Decision:
        """See `Release`."""
        assert self.element is not None  # noqa: S101 - it was understood
        correction = self.request.correction
        return release(order, self.element, versions, now, trekkpliktig=self.trekkpliktig, correction=correction)

    def results(self, outcome: Decision | RejectedTrekkpaaleggError) -> list[Record]:
        """See `Release`."""
        if isinstance(outcome, RejectedTrekkpaaleggError):
            result = RequestResult(self.request, "failed", str(outcome))
        else:
            result = _done(self.request, outcome)
        return self._releasing.records_of(self, result)

    def committed(self) -> None:
        """See `Release`."""
        self._releasing.completed(self)


class Releasing:
    """See the module. Only the lane's thread may use it."""

    def __init__(
        self,
        lane: int,
        lanes: int,
        committer: Committer,
        records: RecordBuilder,
        calls: Calls,
        understand: Understand | None,
        home: Callable[[], Home],
    ) -> None:
        self._lane = lane
        self._lanes = lanes
        self._committer = committer
        self._records = records
        self._calls = calls
        self._understand = understand
        self._home = home
        self._pending: list[_PendingRelease] = []
        self._failed: list[tuple[_PendingRelease, str]] = []
        self._elsewhere: list[tuple[_PendingRelease, int]] = []
        """Those whose order is at home in another lane."""

    def receive(self, trekkpliktig: str, offset: int, request: OperatorRequest) -> None:
        """Receive a request whose signal is held by the caller."""
        if self._committer.state.completed.has(trekkpliktig, request):
            self._committer.signals.release([offset])
            return
        for each in self._pending:
            if (each.trekkpliktig, each.request) == (trekkpliktig, request):
                each.offsets.append(offset)
                return
        pending = _PendingRelease(self, trekkpliktig, offset, request)
        self._pending.append(pending)
        if self._understand is None:
            self._failed.append((pending, "nothing can be released here"))
            return
        self._calls.request(
            lambda done: self._understood(pending, done), self._understand, trekkpliktig, request.record or ""
        )

    def parts(self) -> list[Part]:
        """The results of releases whose record could not be read or understood, and the requests to be forwarded."""
        parts = []
        for pending, why in self._failed:
            records = self.records_of(pending, RequestResult(pending.request, "failed", why))
            parts.append(self._part(pending, records, pending.committed))
        for pending, home in self._elsewhere:
            record = self._records.of_signal(home, pending.trekkpliktig, encode_request(pending.request))
            parts.append(self._part(pending, [record], partial(self._drop, pending)))
        return parts

    def records_of(self, pending: _PendingRelease, result: RequestResult) -> list[Record]:
        """The records that tell the result of a release."""
        return [self._records.of_results(self._lane, pending.trekkpliktig, [result])]

    def completed(self, pending: _PendingRelease) -> None:
        """The result is committed."""
        self._drop(pending)
        self._committer.state.completed.add(pending.trekkpliktig, pending.request)

    def _drop(self, pending: _PendingRelease) -> None:
        self._pending.remove(pending)
        self._failed = [each for each in self._failed if each[0] is not pending]
        self._elsewhere = [each for each in self._elsewhere if each[0] is not pending]

    def _part(self, pending: _PendingRelease, records: list[Record], committed: Callable[[], None]) -> Part:
        signals = self._committer.signals

        def aborted() -> None:
            for offset in pending.offsets:
                signals.hold(offset)

        return Part(records, committed, lambda: signals.release(pending.offsets), aborted)

    def _understood(self, pending: _PendingRelease, done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self._add(pending, done.result())
            return
        why = str(error) if isinstance(error, TrekkpaaleggError) else f"it broke: {type(error).__name__}"
        if not isinstance(error, TrekkpaaleggError):  # unexpected, but no reason to keep the others from being served
            _log.error("release crashed", lane=self._lane, trekkpliktig=pending.trekkpliktig, exc_info=error)
        self._failed.append((pending, why))

    def _add(self, pending: _PendingRelease, element: Trekkpaalegg) -> None:
        key = order_key(element)
        home = home_of(key, self._lanes)
        if home != self._lane:
            self._elsewhere.append((pending, home))
            return
        pending.element = element
        self._home().add(Task(key, release=pending))


def _done(request: OperatorRequest, decision: Decision) -> RequestResult:
    published = [f"{each.trekkpaalegg.trekkid}/{each.trekkpaalegg.trekkversjon}" for each in decision.publications]
    names = ", ".join(published[:NAMED_MAX])
    if len(published) > NAMED_MAX:
        names += f" and {len(published) - NAMED_MAX} more"
    return RequestResult(msgspec.structs.replace(request, published=len(published)), "done", names)
