"""The state of a home made again from the history: from the events and quarantine records of its partition. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from producer.detect.decide import REJECTED, VERSION_JUMP_MAX
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import NO_ORDER, REJECTED_MAX, OrderBook, OrderState, with_missing, without

if TYPE_CHECKING:
    from producer.domain.state import Missing
    from producer.domain.trekkpaalegg import Trekkpaalegg

UNKNOWN = "unknown"
"""The reason for which a version is missing that the history lacks."""


class RebuiltOrders:
    """The orders of one partition, from its events in the order of the topic, and its quarantine records in any order.

    Versions that the history lacks below the newest one are missing. `is_whole` says that the history still begins with
    its first record. If not, what it lacks below the first version of an order counts as published, and the events of
    `…-gjeldende` are to be added last.
    """

    def __init__(self, *, is_whole: bool = True) -> None:
        self._is_whole = is_whole
        self._book = OrderBook()
        self._rejected: dict[bytes, dict[int, str]] = {}

    def add_former(self, key: bytes, former: OrderState) -> None:
        """Add what a former state of the order with this key recorded as open, before any event of the order.

        What it says is published does not count. Its missing versions stay missing, and what it waits for is waited
        for, unless the history has it. Its rejected hashes stay, as quarantine records are kept for a time only, and so
        do its corrections if the history is not whole.
        """
        order = self._book.order(key)
        missing, corrections = order.missing, dict(order.corrections)
        for each in former.missing:
            missing = with_missing(missing, each.first, each.last, each.reason)
        for trekkversjon, number in () if self._is_whole else former.corrections:
            corrections[trekkversjon] = max(number, order.corrections_of(trekkversjon))
        order = replace(
            order,
            missing=missing,
            rejected=tuple(dict.fromkeys((*order.rejected, *former.rejected)))[-REJECTED_MAX:],
            corrections=tuple(sorted(corrections.items())),
            seen=max(order.seen, former.seen),
            failing=order.failing or former.failing,
            readers=tuple(dict.fromkeys((*order.readers, *former.readers))),
            tried_at=former.tried_at,
        )
        if order != NO_ORDER:
            self._book.remember(key, order)

    def add_event(self, trekkpaalegg: Trekkpaalegg, correction: int | None) -> None:
        """Add one event: the version, and the number of the correction if it is one."""
        key, number = trekkpaalegg.trekkid.encode(), trekkpaalegg.trekkversjon
        order = self._book.order(key)
        if correction is not None:
            corrections = {**dict(order.corrections), number: max(correction, order.corrections_of(number))}
            order = replace(order, corrections=tuple(sorted(corrections.items())))
        missing = without(order.missing, number, number)
        if number > order.trekkversjon:
            if self._is_whole or order.trekkversjon:
                missing = _with_unknown(missing, order.trekkversjon + 1, number - 1)
            order = replace(order, trekkversjon=number)
        if number == order.trekkversjon:
            order = replace(order, content_hash=content_hash(trekkpaalegg), content_hash_version=CONTENT_HASH_VERSION)
        order = _with_open(order, missing, trekkpaalegg.trekkpliktig)
        self._book.remember(key, order)

    def add_rejected(self, key: bytes, raw_hash: bytes, trekkversjon: int | None, trekkpliktig: str) -> None:
        """Add one quarantine record of the order with this key, which the list of this trekkpliktig showed.

        `trekkversjon` is None where the record does not show that such a version exists: if it is not known, and for a
        jump, which was not believed.
        """
        order = self._book.order(key)
        if raw_hash not in order.rejected:
            self._book.remember(key, order.with_rejected(raw_hash))
        if trekkversjon is not None:
            self._rejected.setdefault(key, {})[trekkversjon] = trekkpliktig

    def orders(self) -> OrderBook:
        """The state of every order. Nothing may be added after it."""
        for key, rejected in self._rejected.items():
            order = self._book.order(key)
            for number, trekkpliktig in sorted(rejected.items()):
                order = _with_rejected_version(order, number, trekkpliktig)
            self._book.remember(key, order)
        self._rejected.clear()
        return self._book


def _with_open(order: OrderState, missing: tuple[Missing, ...], trekkpliktig: str) -> OrderState:
    """The order's state with these versions missing, and what goes with that: who may be able to read them.

    If they are others than before they are asked for at once.
    """
    if not (missing or order.missing or order.seen):
        return order
    seen = order.seen if order.seen > order.trekkversjon else 0
    if not (missing or seen):
        return replace(order, missing=(), seen=0, failing=(), readers=(), tried_at=None)
    return replace(
        order,
        missing=missing,
        seen=seen,
        failing=without(order.failing, 1, order.trekkversjon),
        readers=tuple(dict.fromkeys((*order.readers, trekkpliktig))),
        tried_at=order.tried_at if missing == order.missing else None,
    )


def _with_unknown(missing: tuple[Missing, ...], first: int, last: int) -> tuple[Missing, ...]:
    """The ranges with the versions first to last, for an unknown reason where they were not missing before."""
    if first > last:
        return missing
    added = with_missing(missing, first, last, UNKNOWN)
    for each in missing:
        if each.first <= last and first <= each.last:
            added = with_missing(added, max(each.first, first), min(each.last, last), each.reason)
    return added


def _with_rejected_version(order: OrderState, number: int, trekkpliktig: str) -> OrderState:
    """The state of an order of which this version is in quarantine; it may have been published since."""
    newest, missing = order.trekkversjon, order.missing
    if number - newest > VERSION_JUMP_MAX or (number <= newest and not order.is_missing(number)):
        return order
    missing = _with_unknown(missing, max(newest, missing[-1].last if missing else 0) + 1, number - 1)
    return _with_open(order, with_missing(missing, number, number, REJECTED), trekkpliktig)
