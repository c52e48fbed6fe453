"""What a lane holds published, set right by what stands in Kafka: pure.

What it holds published and does not stand is no longer held, and found anew by reading from the source, as whatever
else is lacking. What stands and is not held is held from now on, and not published again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from producer.domain.state import NO_ORDER, OrderState, with_missing, without_missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producer.domain.state import LaneState, TrekkpliktigState


class Told(NamedTuple):
    """What an event, or a record of the quarantine, tells. `order` is the key under which its order is remembered.

    `correction` is the number of a correction, `rejected` the hash of a record for the quarantine.
    """

    trekkpliktig: str
    order: bytes
    trekkversjon: int = 0
    late: bool = False
    correction: int | None = None
    rejected: bytes | None = None


class Undone(NamedTuple):
    """What is to be remembered instead of one trekkpliktig: its position, and its orders, None for one to forget."""

    position: int
    orders: dict[bytes, OrderState | None]


def is_held(state: LaneState, event: Told) -> bool:
    """Whether the lane holds this published, so that it would not publish it again."""
    known = state.get(event.trekkpliktig)
    return known is not None and _is_held(known.order(event.order), event)


def told_between(trekkpliktig: str, key: bytes, before: OrderState, after: OrderState) -> list[Told]:
    """Events by which a lane came from one state of an order to another in a transaction: they stand or fall together.

    Of versions that rose, the newest: some between may have been left to another lane.
    """
    told = [
        Told(trekkpliktig, key, trekkversjon, late=True)
        for first, last in before.missing
        for trekkversjon in range(first, min(last, before.trekkversjon, after.trekkversjon) + 1)
        if not after.is_missing(trekkversjon)
    ]
    told += [
        Told(trekkpliktig, key, trekkversjon, correction=number)
        for trekkversjon, number in after.corrections
        if number > before.corrections_of(trekkversjon)
    ]
    if after.trekkversjon > before.trekkversjon:
        told.append(Told(trekkpliktig, key, after.trekkversjon))
    return told


def hold(state: LaneState, events: Iterable[Told]) -> dict[str, dict[bytes, OrderState]]:
    """What is to be remembered of the orders of these events, which stand; of those held already, nothing.

    Hashes are taken over from the next reading, and versions that were passed over are missing.
    """
    held: dict[str, dict[bytes, OrderState]] = {}
    for event in events:
        orders = held.get(event.trekkpliktig, {})
        known = state.get(event.trekkpliktig)
        order = orders.get(event.order) or (NO_ORDER if known is None else known.order(event.order))
        if not _is_held(order, event):
            held.setdefault(event.trekkpliktig, orders)[event.order] = _with(order, event)
    return held


def undo(state: LaneState, before: LaneState, events: Iterable[Told]) -> dict[str, Undone]:
    """What is to be remembered when none of these events stands, by trekkpliktig; of those not held, nothing.

    `before` is the state before any of them was written: from its positions on the source is read again. The hash of
    what was published before is not known, so it is taken over from the next reading.
    """
    undone: dict[str, Undone] = {}
    for event in events:
        known = state.get(event.trekkpliktig)
        if known is None:
            continue
        earlier = before.get(event.trekkpliktig)
        change = undone.get(event.trekkpliktig)
        order = _order(known, change, event.order)
        if not _is_held(order, event):
            continue
        if change is None:
            position = min(known.position.position, earlier.position.position if earlier is not None else 0)
            change = undone[event.trekkpliktig] = Undone(position, {})
        left = _without(order, earlier.order(event.order) if earlier is not None else NO_ORDER, event)
        change.orders[event.order] = None if left == NO_ORDER else left
    return undone


def _order(known: TrekkpliktigState, change: Undone | None, key: bytes) -> OrderState:
    if change is not None and key in change.orders:
        return change.orders[key] or NO_ORDER
    return known.order(key)


def _is_held(order: OrderState, event: Told) -> bool:
    if event.rejected is not None:
        return event.rejected in order.rejected
    if event.correction is not None:
        return order.corrections_of(event.trekkversjon) >= event.correction
    return event.trekkversjon <= order.trekkversjon and not order.is_missing(event.trekkversjon)


def _without(order: OrderState, before: OrderState, event: Told) -> OrderState:
    if event.rejected is not None:
        kept = tuple(each for each in order.rejected if each != event.rejected)
        return msgspec.structs.replace(order, rejected=kept)
    if event.correction is not None:
        return _without_correction(order, before, event.trekkversjon, event.correction)
    if event.late:
        return msgspec.structs.replace(
            order, missing=with_missing(order.missing, event.trekkversjon, event.trekkversjon)
        )
    newest = event.trekkversjon - 1
    return OrderState(
        newest,
        missing=tuple((first, min(last, newest)) for first, last in order.missing if first <= newest),
        rejected=order.rejected,
        corrections=tuple(each for each in order.corrections if each[0] <= newest),
        failing_since=order.failing_since,
    )


def _without_correction(order: OrderState, before: OrderState, trekkversjon: int, number: int) -> OrderState:
    """Its content is compared anew with what was known before; where that cannot be told, with nothing."""
    corrections = {**dict(order.corrections), trekkversjon: number - 1}
    left = msgspec.structs.replace(
        order, corrections=tuple(sorted(each for each in corrections.items() if each[1] > 0))
    )
    if trekkversjon != order.trekkversjon or before.trekkversjon != trekkversjon:
        return left
    return msgspec.structs.replace(
        left, content_hash=before.content_hash, content_hash_version=before.content_hash_version
    )


def _with(order: OrderState, event: Told) -> OrderState:
    if event.correction is not None:
        corrections = {**dict(order.corrections), event.trekkversjon: event.correction}
        is_newest = event.trekkversjon == order.trekkversjon
        return msgspec.structs.replace(
            order,
            corrections=tuple(sorted(corrections.items())),
            content_hash_version=0 if is_newest else order.content_hash_version,
        )
    if event.trekkversjon <= order.trekkversjon:
        return msgspec.structs.replace(order, missing=without_missing(order.missing, event.trekkversjon))
    missing = order.missing
    if event.trekkversjon > order.trekkversjon + 1:
        missing = with_missing(missing, order.trekkversjon + 1, event.trekkversjon - 1)
    return OrderState(
        event.trekkversjon,
        missing=without_missing(missing, event.trekkversjon),
        rejected=order.rejected,
        corrections=order.corrections,
    )
