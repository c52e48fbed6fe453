"""The state of a home made again from the history: from the events and quarantine records of its partition. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from producer.detect.decide import REJECTED, VERSION_JUMP_MAX
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderBook, OrderState, with_missing, without

if TYPE_CHECKING:
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
        self._rejected_versions: dict[bytes, set[int]] = {}

    def add_event(self, trekkpaalegg: Trekkpaalegg, correction: int | None) -> None:
        """Add one event: the version, and the number of the correction if it is one."""
        key, number = trekkpaalegg.trekkid.encode(), trekkpaalegg.trekkversjon
        order = self._book.order(key)
        if correction is not None:
            corrections = {**dict(order.corrections), number: max(correction, order.corrections_of(number))}
            order = replace(order, corrections=tuple(sorted(corrections.items())))
        if number > order.trekkversjon:
            missing = order.missing
            if number > order.trekkversjon + 1 and (self._is_whole or order.trekkversjon):
                missing = with_missing(missing, order.trekkversjon + 1, number - 1, UNKNOWN)
            order = replace(order, trekkversjon=number, missing=missing)
        elif correction is None:
            order = replace(order, missing=without(order.missing, number, number))
        if number == order.trekkversjon:
            order = replace(order, content_hash=content_hash(trekkpaalegg), content_hash_version=CONTENT_HASH_VERSION)
        self._book.remember(key, order)

    def add_rejected(self, key: bytes, raw_hash: bytes, trekkversjon: int | None) -> None:
        """Add one quarantine record of the order with this key.

        `trekkversjon` is None where the record does not show that such a version exists: if it is not known, and for a
        jump, which was not believed.
        """
        order = self._book.order(key)
        if raw_hash not in order.rejected:
            self._book.remember(key, order.with_rejected(raw_hash))
        if trekkversjon is not None:
            self._rejected_versions.setdefault(key, set()).add(trekkversjon)

    def orders(self) -> OrderBook:
        """The state of every order. Nothing may be added after it."""
        for key, numbers in self._rejected_versions.items():
            order = self._book.order(key)
            for number in sorted(numbers):
                order = _with_rejected_version(order, number)
            self._book.remember(key, order)
        self._rejected_versions.clear()
        return self._book


def _with_rejected_version(order: OrderState, number: int) -> OrderState:
    """The state of an order of which this version is in quarantine; it may have been published since."""
    newest = order.trekkversjon
    if number <= newest:
        if not order.is_missing(number):
            return order
        return replace(order, missing=with_missing(order.missing, number, number, REJECTED))
    if number - newest > VERSION_JUMP_MAX:
        return order
    missing = order.missing
    first = max(newest, missing[-1].last if missing else 0) + 1
    if first < number:
        missing = with_missing(missing, first, number - 1, UNKNOWN)
    return replace(order, missing=with_missing(missing, number, number, REJECTED))
