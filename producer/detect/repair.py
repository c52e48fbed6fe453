"""What the history has lost of what was published, given the versions that stand in one partition of it. Pure.

The state of an order then follows the history: what it lost is missing. From there on it is as with any missing
version: it is published when a list shows the order and the version can be had, with the origin `repair`.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from producer.domain.content import CONTENT_HASH_VERSION
from producer.domain.state import LOST, LOST_EVERYWHERE, NO_ORDER, Missing, OrderState, with_missing, without

_NEVER_EQUAL = bytes(8)
"""A content hash from which that of any content differs."""


class Lost(NamedTuple):
    """What the topics have lost of one order.

    `versions` the history lacks, with the reason to record. `corrections` says, by trekkversjon, how many corrections
    it still has. `behind` is the newest version if it stands in the history and `…-gjeldende` has not reached it.
    """

    versions: tuple[Missing, ...] = ()
    corrections: tuple[tuple[int, int], ...] = ()
    behind: int | None = None

    @property
    def versions_count(self) -> int:
        """How many versions."""
        return sum(each.last - each.first + 1 for each in self.versions)


class History:
    """Which versions of each order stand in one partition of the history, and how many corrections of each.

    And which one in the same partition of `…-gjeldende`.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, int] = {}
        """By key, for an order of which all versions from 1 stand there, in their order."""
        self._ranges: dict[bytes, tuple[Missing, ...]] = {}
        self._corrections: dict[bytes, dict[int, int]] = {}
        self._current: dict[bytes, tuple[int, int]] = {}

    def add(self, key: bytes, trekkversjon: int, correction: int | None) -> None:
        """Add one event."""
        if correction is not None:
            corrections = self._corrections.setdefault(key, {})
            corrections[trekkversjon] = max(correction, corrections.get(trekkversjon, 0))
            return
        ranges = self._ranges.get(key)
        if ranges is not None:
            self._ranges[key] = with_missing(ranges, trekkversjon, trekkversjon)
            return
        newest = self._newest.get(key, 0)
        if trekkversjon == newest + 1:
            self._newest[key] = trekkversjon
        elif not 0 < trekkversjon <= newest:
            before = (Missing(1, newest),) if newest else ()
            self._ranges[key] = with_missing(before, trekkversjon, trekkversjon)
            self._newest.pop(key, None)

    def add_current(self, key: bytes, trekkversjon: int, correction: int | None) -> None:
        """Add one event of `…-gjeldende`."""
        self._current[key] = max(self._current.get(key, (0, 0)), (trekkversjon, correction or 0))

    def lost(self, key: bytes, order: OrderState, *, is_kept: bool) -> Lost | None:
        """What it has lost of an order with this state; None if nothing.

        If it is not kept for ever, what is older than its first version of an order may just have become too old.
        """
        present = self._ranges.get(key) or ((Missing(1, self._newest[key]),) if key in self._newest else ())
        if not (present or is_kept):
            return None
        begin = 1 if is_kept else present[0].first
        versions: tuple[Missing, ...] = (Missing(begin, order.trekkversjon),) if begin <= order.trekkversjon else ()
        for each in (*order.missing, *present):
            versions = without(versions, each.first, each.last)
        there = self._corrections.get(key, {})
        corrections = tuple(
            [
                (trekkversjon, there.get(trekkversjon, 0))
                for trekkversjon, number in order.corrections
                if there.get(trekkversjon, 0) < number and trekkversjon >= begin and not _has(versions, trekkversjon)
            ]
        )
        newest, current = order.trekkversjon, self._current.get(key, (0, 0))
        stands = newest > 0 and not _has((*order.missing, *versions), newest)
        behind = newest if stands and current < (newest, there.get(newest, 0)) else None
        marked = (*without(versions, current[0] + 1, newest), *without(versions, 1, current[0]))
        found = Lost(
            tuple([replace(each, reason=LOST if each.last <= current[0] else LOST_EVERYWHERE) for each in marked]),
            corrections,
            behind,
        )
        return None if found == Lost() else found


def after_loss(order: OrderState, lost: Lost, now: int) -> OrderState:
    """The state of the order once it follows the history. `now` is in microseconds since 1970.

    The newest version may be lost too. Then the newest is the one before it, whose content is not known here. A lost
    correction of the newest version makes the next observation find changed content, which is held back as usual.
    """
    if order == NO_ORDER:
        return order
    missing = order.missing
    for each in lost.versions:
        missing = with_missing(missing, each.first, min(each.last, order.trekkversjon), each.reason)
    newest = order.trekkversjon
    for each in reversed(missing):
        if each.first <= newest <= each.last:
            newest = each.first - 1
    left = dict(lost.corrections)
    corrections = [(number, left.get(number, count)) for number, count in order.corrections]
    after = replace(
        order,
        trekkversjon=newest,
        missing=missing,
        corrections=tuple([each for each in corrections if each[1] and not _has(missing, each[0])]),
        tried_at=now if missing else order.tried_at,
    )
    if newest != order.trekkversjon:
        return replace(after, content_hash=bytes(8), content_hash_version=0)
    if newest in left:
        return replace(after, content_hash=_NEVER_EQUAL, content_hash_version=CONTENT_HASH_VERSION, rejected=())
    return after


def rebuilt(order: OrderState, former: OrderState, lost: Lost, now: int) -> OrderState:
    """The state of the order made from the history, when it has lost this of what a former state says is published."""
    newest = max(order.trekkversjon, former.trekkversjon)
    after = after_loss(replace(order, trekkversjon=newest), lost, now)
    if after.trekkversjon != order.trekkversjon:
        return after
    return replace(
        after,
        content_hash=order.content_hash,
        content_hash_version=order.content_hash_version,
        rejected=order.rejected,
    )


def _has(ranges: tuple[Missing, ...], trekkversjon: int) -> bool:
    return any(each.first <= trekkversjon <= each.last for each in ranges)
