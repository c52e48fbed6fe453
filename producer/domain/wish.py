"""What operators ask of a lane for one trekkpliktig, and what became of it."""

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
