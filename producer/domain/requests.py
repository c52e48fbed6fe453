"""Operator requests for one employer: what is asked, what it is answered, and what stands meanwhile. Pure."""

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

KINDS: Final = frozenset({BACKFILL, RECONCILE, SUSPEND, RESUME, SET, FORGET, RELEASE})
READINGS: Final = frozenset({BACKFILL, RECONCILE})
"""Kinds that are done by reading everything again; a release needs the quarantine, all others are done at once."""

NEED_THE_SOURCE: Final = READINGS | {RELEASE}

Outcome = Literal["done", "failed", "refused"]


class OperatorRequest(msgspec.Struct, frozen=True, gc=False):
    """One request. `asked_at` is in microseconds, `position` is what to set; the figures tell how far it has come.

    `record` is what to release, as partition/offset in the quarantine, and `correction` whether it may replace what was
    published. Both are part of the question alone: they do not stand in `…-positions`.

    `published` and `quarantined` change in the very transaction that publishes, so they are exact whatever happens.
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


class RequestResult(msgspec.Struct, frozen=True, gc=False):
    """How a request ended. `detail` says why it was not done, or names what a release published."""

    request: OperatorRequest
    outcome: Outcome
    detail: str = ""
    vanished: int = 0
    position_lowered: bool = False


class WakeUp(msgspec.Struct, frozen=True, gc=False):
    """Something may have changed. `notification` is the id of the event that says so, None for a bare wake-up."""

    notification: str | None = None


REMEMBERED_MAX = 10_000


class CompletedRequests:
    """The operator requests of one lane that were completed last.

    A lane forwards a signal in a transaction, and forwards it again when that was aborted. Signals are read
    uncommitted, so the owner gets both, moments apart. Done again, a `suspend` would undo the `resume` that came
    between. A request is told by its id, kind and time: who writes one by hand may use an id again.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        self._requests: dict[tuple[str, str, str, int], None] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def has(self, trekkpliktig: str, request: OperatorRequest) -> bool:
        """Whether it was answered."""
        return _name(trekkpliktig, request) in self._requests

    def add(self, trekkpliktig: str, request: OperatorRequest) -> None:
        """Its result stands."""
        name = _name(trekkpliktig, request)
        self._requests.pop(name, None)
        self._requests[name] = None
        if len(self._requests) > self._remembered_max:
            del self._requests[next(iter(self._requests))]


def _name(trekkpliktig: str, request: OperatorRequest) -> tuple[str, str, str, int]:
    return trekkpliktig, request.id, request.kind, request.asked_at
