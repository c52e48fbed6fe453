"""Operator requests for one trekkpliktig, their results, and the requests that a lane has completed. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

BACKFILL: Final = "backfill"
RECONCILE: Final = "reconcile"
SUSPEND: Final = "suspend"
RESUME: Final = "resume"
SET: Final = "set"
FORGET: Final = "forget"
RELEASE: Final = "release"
REPAIR: Final = "repair"
"""Concerns no trekkpliktig but a lane: to compare what it has published with the history."""

KINDS: Final = frozenset({BACKFILL, RECONCILE, SUSPEND, RESUME, SET, FORGET, RELEASE})
READINGS: Final = frozenset({BACKFILL, RECONCILE})
"""Kinds that read everything again. A release needs the quarantine; all other kinds are done at once."""

NEED_THE_SOURCE: Final = READINGS | {RELEASE}

Outcome = Literal["done", "failed", "refused"]


class OperatorRequest(msgspec.Struct, frozen=True, gc=False):
    """What an operator has requested. `asked_at` is in microseconds since 1970, `position` is the position to set.

    `record` is what to release, as partition/offset in the quarantine; `correction` allows it to replace a published
    version. These two are not kept in `…-positions`.

    `orders_read`, `published` and `quarantined` are its progress. `asked` says that its reading has ended, so that it
    waits for the homes of the orders alone; `answered` are the lanes whose homes have answered, `vanished` is how many
    known orders the list lacked, and `position_lowered` whether the position was above everything in it.
    """

    id: str
    kind: str
    asked_at: int
    position: int | None = None
    orders_read: int = 0
    published: int = 0
    quarantined: int = 0
    record: str | None = None
    correction: bool = False
    asked: bool = False
    answered: tuple[int, ...] = ()
    vanished: int = 0
    position_lowered: bool = False


class RequestState(msgspec.Struct, frozen=True, gc=False):
    """What one home has published and quarantined so far for an operator request of this trekkpliktig."""

    trekkpliktig: str
    published: int = 0
    quarantined: int = 0


class RequestResult(msgspec.Struct, frozen=True, gc=False):
    """How a request ended. `detail` says why it was not done, or names what a release published."""

    request: OperatorRequest
    outcome: Outcome
    detail: str = ""
    vanished: int = 0
    position_lowered: bool = False


class WakeUp(msgspec.Struct, frozen=True, gc=False):
    """Something may have changed. `notification` is the id of the event that says so, None if there was none."""

    notification: str | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The home of this lane has decided on all that was handed over for a request, with these figures."""

    request: str
    lane: int
    published: int
    quarantined: int


class Show(msgspec.Struct, frozen=True, gc=False):
    """All lists are to be handed over completely that were not since then, in microseconds since 1970."""

    since: int


REMEMBERED_MAX = 10_000


class CompletedRequests:
    """The operator requests that one lane has completed last, to recognise a signal that arrives twice.

    A lane forwards a signal in a transaction, and again if that was aborted. Signals are read uncommitted, so the owner
    receives both, moments apart. A `suspend` done twice would undo a `resume` between the two. A request is identified
    by id, kind and time, since people who write one by hand may reuse an id.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        self._requests: dict[tuple[str, str, str, int], None] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def has(self, trekkpliktig: str, request: OperatorRequest) -> bool:
        """Whether this request was completed."""
        return _name(trekkpliktig, request) in self._requests

    def add(self, trekkpliktig: str, request: OperatorRequest) -> None:
        """Remember this request as completed."""
        name = _name(trekkpliktig, request)
        self._requests.pop(name, None)
        self._requests[name] = None
        if len(self._requests) > self._remembered_max:
            del self._requests[next(iter(self._requests))]


def _name(trekkpliktig: str, request: OperatorRequest) -> tuple[str, str, str, int]:
    return trekkpliktig, request.id, request.kind, request.asked_at
