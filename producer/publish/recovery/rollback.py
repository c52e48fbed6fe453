"""Correct a lane's state after a broken Kafka, so that it agrees with the events that are committed. Pure.

An event that the state records but that is not committed is removed from the state: the next reading from the source
finds its version again and publishes it. An event that is committed but not recorded is added, so that it is not
published a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from producer.domain.state import NO_ORDER, OrderState, with_missing, without_missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producer.domain.state import LaneState, TrekkpliktigState


class PublishedEvent(NamedTuple):
    """An event, or a record of the quarantine, by its identity. `order` is the key of its order in the lane's state.

    `correction` is the number of a correction, `rejected` the hash of a quarantined record.
    """

    trekkpliktig: str
    order: bytes
    trekkversjon: int = 0
    late: bool = False
    correction: int | None = None
    rejected: bytes | None = None


class Rollback(NamedTuple):
    """The state that one trekkpliktig returns to: its position, and the orders that change, None for one to forget."""

    position: int
    orders: dict[bytes, OrderState | None]


def is_recorded(state: LaneState, event: PublishedEvent) -> bool:
    """Whether the lane's state records this event as published, so that the lane would not publish it again."""
    known = state.get(event.trekkpliktig)
    return known is not None and _is_recorded(known.order(event.order), event)


def events_between(trekkpliktig: str, key: bytes, before: OrderState, after: OrderState) -> list[PublishedEvent]:
    """The events that a transaction published if it changed an order's state from `before` to `after`.

    Of several new versions only the newest is named: those between may have been left to another lane.
    """
    events = [
        PublishedEvent(trekkpliktig, key, trekkversjon, late=True)
        for first, last in before.missing
        for trekkversjon in range(first, min(last, before.trekkversjon, after.trekkversjon) + 1)
        if not after.is_missing(trekkversjon)
    ]
    events += [
        PublishedEvent(trekkpliktig, key, trekkversjon, correction=number)
        for trekkversjon, number in after.corrections
        if number > before.corrections_of(trekkversjon)
    ]
    if after.trekkversjon > before.trekkversjon:
        events.append(PublishedEvent(trekkpliktig, key, after.trekkversjon))
    return events


def with_events(state: LaneState, events: Iterable[PublishedEvent]) -> dict[str, dict[bytes, OrderState]]:
    """The orders that change, by trekkpliktig, when these events, which are committed, are added to the state.

    Events that the state records already change nothing. Content hashes are adopted from the next reading, and versions
    that were skipped count as missing.
    """
    changed: dict[str, dict[bytes, OrderState]] = {}
    for event in events:
        orders = changed.get(event.trekkpliktig, {})
        known = state.get(event.trekkpliktig)
        order = orders.get(event.order) or (NO_ORDER if known is None else known.order(event.order))
        if not _is_recorded(order, event):
            changed.setdefault(event.trekkpliktig, orders)[event.order] = _with(order, event)
    return changed


def without_events(state: LaneState, before: LaneState, events: Iterable[PublishedEvent]) -> dict[str, Rollback]:
    """What changes, by trekkpliktig, when these events, which are not committed, are removed from the state.

    Events that the state does not record change nothing. `before` is the state before any of them was written: the
    source is read again from its positions. The content hash of the version before is not known, so it is adopted from
    the next reading.
    """
    rollbacks: dict[str, Rollback] = {}
    for event in events:
        known = state.get(event.trekkpliktig)
        if known is None:
            continue
        earlier = before.get(event.trekkpliktig)
        change = rollbacks.get(event.trekkpliktig)
        order = _order(known, change, event.order)
        if not _is_recorded(order, event):
            continue
        if change is None:
            position = min(known.position.position, earlier.position.position if earlier is not None else 0)
            change = rollbacks[event.trekkpliktig] = Rollback(position, {})
        left = _without(order, earlier.order(event.order) if earlier is not None else NO_ORDER, event)
        change.orders[event.order] = None if left == NO_ORDER else left
    return rollbacks


def _order(known: TrekkpliktigState, change: Rollback | None, key: bytes) -> OrderState:
    if change is not None and key in change.orders:
        return change.orders[key] or NO_ORDER
    return known.order(key)


def _is_recorded(order: OrderState, event: PublishedEvent) -> bool:
    if event.rejected is not None:
        return event.rejected in order.rejected
    if event.correction is not None:
        return order.corrections_of(event.trekkversjon) >= event.correction
    return event.trekkversjon <= order.trekkversjon and not order.is_missing(event.trekkversjon)


def _without(order: OrderState, before: OrderState, event: PublishedEvent) -> OrderState:
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
    """Restore the content hash from before the correction, if `before` is about the same version."""
    corrections = {**dict(order.corrections), trekkversjon: number - 1}
    left = msgspec.structs.replace(
        order, corrections=tuple(sorted(each for each in corrections.items() if each[1] > 0))
    )
    if trekkversjon != order.trekkversjon or before.trekkversjon != trekkversjon:
        return left
    return msgspec.structs.replace(
        left, content_hash=before.content_hash, content_hash_version=before.content_hash_version
    )


def _with(order: OrderState, event: PublishedEvent) -> OrderState:
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
