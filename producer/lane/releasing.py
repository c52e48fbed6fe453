"""Release of quarantined records at an operator's request: read again, decided on, and published with the result.

A release needs the quarantine and, where versions are missing before it, the source. Both are called in the pool while
the lane continues. The signal stays open until the result is committed, so if the lane ends meanwhile, its next owner
starts the release again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from producer.detect.detect import Context, Detection, UnencodableError, needed_versions
from producer.detect.release import release
from producer.detect.requests import RequestDecision
from producer.domain.requests import RequestResult
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected
from producer.errors import RejectedTrekkpaaleggError
from producer.publish.quarantine_log import read_one
from producer.source.parse.page import read_trekkpaalegg
from trekkpaalegg.errors import FatalError, RetryableError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from producer.domain.requests import OperatorRequest
    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Fetched, Trekkpaalegg
    from producer.lane.calls import Calls
    from producer.lane.commit import Committer, RecordBuilder
    from producer.lane.reading import LaneOptions
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
        element: Trekkpaalegg | Rejected | Gone | Failed = read_trekkpaalegg(record.raw, trekkpliktig)
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

    def __init__(self, trekkpliktig: str, offset: int, request: OperatorRequest) -> None:
        self.trekkpliktig = trekkpliktig
        self.offsets = [offset]
        self.request = request
        self.element: Trekkpaalegg | None = None
        self.versions: dict[tuple[str, int], Fetched] = {}
        self.under_way = 0
        self.failure: str | None = None


class Releasing:
    """See the module. Only the lane's thread may use it."""

    def __init__(  # what it works with
        self,
        lane: int,
        committer: Committer,
        records: RecordBuilder,
        calls: Calls,
        source: TrekkpaaleggSource,
        options: LaneOptions,
        understand: Understand | None,
    ) -> None:
        self._lane = lane
        self._committer = committer
        self._records = records
        self._calls = calls
        self._source = source
        self._options = options
        self._understand = understand
        self._pending: list[_PendingRelease] = []

    def receive(self, trekkpliktig: str, offset: int, request: OperatorRequest) -> None:
        """Receive a request whose signal is held by the caller."""
        if self._committer.is_completed(trekkpliktig, request):
            self._committer.signals.release([offset])
            return
        for each in self._pending:
            if (each.trekkpliktig, each.request) == (trekkpliktig, request):
                each.offsets.append(offset)
                return
        pending = _PendingRelease(trekkpliktig, offset, request)
        self._pending.append(pending)
        if self._understand is None:
            pending.failure = "nothing can be released here"
            return
        pending.under_way = 1
        self._calls.request(
            lambda done: self._understood(pending, done), self._understand, trekkpliktig, request.record or ""
        )

    def commit(self) -> None:
        """Publish the releases that can be decided. Raises as `Committer.write`; then the next turn tries again."""
        for pending in list(self._pending):
            if pending.under_way == 0 and not self._request_versions(pending):
                self._complete(pending)
                self._pending.remove(pending)

    def _understood(self, pending: _PendingRelease, done: Future[Any]) -> None:
        pending.under_way -= 1
        error = done.exception()
        if error is None:
            pending.element = done.result()
        else:
            self._fail(pending, error)

    def _request_versions(self, pending: _PendingRelease) -> bool:
        """Fetch the versions that are needed by the present state, which may have changed. False if none is needed."""
        if pending.element is None or pending.failure is not None:
            return False
        wanted = [
            each for each in needed_versions(self._state(pending), [pending.element]) if each not in pending.versions
        ]
        pending.under_way = len(wanted)
        for each in wanted:
            self._calls.request(
                lambda done, each=each: self._fetched(pending, each, done),  # type: ignore[misc]  # its default binds it
                self._source.fetch_trekkpaalegg,
                pending.trekkpliktig,
                *each,
            )
        return bool(wanted)

    def _fetched(self, pending: _PendingRelease, wanted: tuple[str, int], done: Future[Any]) -> None:
        pending.under_way -= 1
        error = done.exception()
        if isinstance(error, RetryableError):
            pending.versions[wanted] = Failed(str(error))
        elif error is not None:
            self._fail(pending, error)
        else:
            pending.versions[wanted] = done.result()

    def _fail(self, pending: _PendingRelease, error: BaseException) -> None:
        pending.failure = str(error) if isinstance(error, TrekkpaaleggError) else f"it broke: {type(error).__name__}"
        if not isinstance(error, TrekkpaaleggError):  # unexpected, but no reason to keep the others from being served
            _log.error("release crashed", lane=self._lane, trekkpliktig=pending.trekkpliktig, exc_info=error)

    def _complete(self, pending: _PendingRelease) -> None:
        """Publish the decision and the result in one transaction."""
        trekkpliktig, state = pending.trekkpliktig, self._committer.state.get(pending.trekkpliktig)
        position = self._committer.position_of(trekkpliktig)
        try:
            detection, records = self._decide(pending)
        except RejectedTrekkpaaleggError as error:
            pending.failure = str(error)
        if pending.failure is not None:
            result = RequestResult(pending.request, "failed", pending.failure)
            records = self._records.of_decision(self._lane, trekkpliktig, RequestDecision(position, (result,)), state)
            self._committer.write(records, {}, (), pending.offsets)
            self._committer.mark_completed([(trekkpliktig, pending.request)])
            return
        result = _done(pending.request, detection)
        records += self._records.of_position(self._lane, trekkpliktig, position, [result])
        self._committer.write(records, {}, (), pending.offsets, {trekkpliktig: detection})
        self._committer.mark_completed([(trekkpliktig, pending.request)])
        _log.info(
            "released",
            lane=self._lane,
            trekkpliktig=trekkpliktig,
            record=pending.request.record,
            request=pending.request.id,
        )

    def _decide(self, pending: _PendingRelease) -> tuple[Detection, list[Record]]:
        state = self._state(pending)
        nothing = Detection(state.position.position)
        if pending.element is None or pending.failure is not None:
            return nothing, []
        options = self._options
        context = Context(pending.trekkpliktig, options.served, Origin.RELEASE, options.now(), moves_position=False)
        detection = release(state, pending.element, pending.versions, context, correction=pending.request.correction)
        if detection.stopped is not None:
            reason = detection.stopped.reason
            pending.failure = f"a version before it cannot be fetched now ({reason}); try again later"
            return nothing, []
        try:
            return detection, self._records.of_detection(self._lane, state, context, detection)
        except UnencodableError as error:
            raise error.cause from error

    def _state(self, pending: _PendingRelease) -> TrekkpliktigState:
        return self._committer.state.of(pending.trekkpliktig)


def _done(request: OperatorRequest, detection: Detection) -> RequestResult:
    published = [f"{each.trekkpaalegg.trekkid}/{each.trekkpaalegg.trekkversjon}" for each in detection.publications]
    names = ", ".join(published[:NAMED_MAX])
    if len(published) > NAMED_MAX:
        names += f" and {len(published) - NAMED_MAX} more"
    return RequestResult(msgspec.structs.replace(request, published=len(published)), "done", names)
