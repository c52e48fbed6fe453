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

ASKING_THE_SOURCE: Final = READINGS | {RELEASE}

Outcome = Literal["done", "failed", "refused"]


class Wish(msgspec.Struct, frozen=True, gc=False):
    """One wish. `asked_at` is in microseconds, `position` is what to set; the figures tell how far it has come.

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


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What became of a wish; `detail` is a sentence for a person where it is not done, or what a release published."""

    wish: Wish
    outcome: Outcome
    detail: str = ""
    vanished: int = 0
    position_lowered: bool = False


class WakeUp(msgspec.Struct, frozen=True, gc=False):
    """Something may have changed. `notification` is the id of the event that says so, None for a bare wake-up."""

    notification: str | None = None


REMEMBERED_MAX = 10_000


class AnsweredWishes:
    """The last wishes of one lane that were answered.

    A lane forwards a signal in a transaction, and forwards it again when that was aborted. Signals are read
    uncommitted, so the owner gets both, moments apart. Done again, a `suspend` would undo the `resume` that came
    between. A wish is told by its id, kind and time: who writes one by hand may use an id again.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        self._wishes: dict[tuple[str, str, str, int], None] = {}

    def __len__(self) -> int:
        return len(self._wishes)

    def has(self, trekkpliktig: str, wish: Wish) -> bool:
        """Whether it was answered."""
        return _name(trekkpliktig, wish) in self._wishes

    def add(self, trekkpliktig: str, wish: Wish) -> None:
        """Its answer stands."""
        name = _name(trekkpliktig, wish)
        self._wishes.pop(name, None)
        self._wishes[name] = None
        if len(self._wishes) > self._remembered_max:
            del self._wishes[next(iter(self._wishes))]


def _name(trekkpliktig: str, wish: Wish) -> tuple[str, str, str, int]:
    return trekkpliktig, wish.id, wish.kind, wish.asked_at
