"""The state of a lane: the position of each trekkpliktig, and the newest published version and open ends of each order.

It is compact because a lane may hold a million orders in memory. An order without open ends is packed into a bytes
object of 13 bytes, which takes 48 with Python's overhead; one of 16 bytes would take 64.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from producer.domain.requests import CompletedRequests, OperatorRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PACKED = struct.Struct("<IB8s")
_PACKED_TREKKVERSJON_MAX = 2**32 - 1
REJECTED_MAX = 16
"""Hashes of rejected records kept per order; an older one may be quarantined a second time."""


class OrderState(msgspec.Struct, frozen=True, gc=False):
    """What has been published of one order.

    `trekkversjon` is the newest published version (0: none), `content_hash` the hash of its content by the method
    numbered `content_hash_version`. `missing` are ranges (first, last) of versions that exist but are not published.
    `rejected` are the hashes of quarantined records, `corrections` pairs (trekkversjon, number of published
    corrections). `failing_since` is when fetching a missing version first failed, in microseconds since 1970.
    """

    trekkversjon: int = 0
    content_hash: bytes = bytes(8)
    content_hash_version: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    rejected: tuple[bytes, ...] = ()
    corrections: tuple[tuple[int, int], ...] = ()
    failing_since: int | None = None

    def is_missing(self, trekkversjon: int) -> bool:
        """Whether this version is known to exist and has not been published."""
        return any(first <= trekkversjon <= last for first, last in self.missing)

    def with_rejected(self, raw_hash: bytes) -> OrderState:
        """This state, remembering that a record with this hash is in quarantine."""
        return msgspec.structs.replace(self, rejected=(*self.rejected, raw_hash)[-REJECTED_MAX:])

    def corrections_of(self, trekkversjon: int) -> int:
        """How many corrections of this version have been published."""
        return dict(self.corrections).get(trekkversjon, 0)


class TrekkpliktigPosition(msgspec.Struct, frozen=True, gc=False):
    """How far one trekkpliktig has been published.

    `position` is the sekvensnummer up to which everything has been published or quarantined. `reconciled_at` is when a
    full reading last ended, `suspended_at` since when an operator has suspended it, both in microseconds since 1970.
    `forgotten_by` is the id of the request that last made the state be forgotten. `requests` wait for a full reading.
    """

    position: int = 0
    reconciled_at: int | None = None
    suspended_at: int | None = None
    forgotten_by: str | None = None
    requests: tuple[OperatorRequest, ...] = ()


class EventCursor(msgspec.Struct, frozen=True, gc=False):
    """How far the Altinn events about one trekkpliktig have been read.

    `after` is the id of the last event that was processed, "0" before the first. `newest_at` is the latest time of an
    event, in microseconds since 1970. The repr leaves out the id, which may be any text.
    """

    after: str = "0"
    newest_at: int | None = None

    def __repr__(self) -> str:
        return f"EventCursor(newest_at={self.newest_at})"


NO_ORDER = OrderState()
NO_EVENT = EventCursor()


def with_missing(missing: tuple[tuple[int, int], ...], first: int, last: int) -> tuple[tuple[int, int], ...]:
    """`missing` with the versions first to last added; the ranges stay sorted and merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted((*missing, (first, last))):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def without_missing(missing: tuple[tuple[int, int], ...], trekkversjon: int) -> tuple[tuple[int, int], ...]:
    """`missing` without one version."""
    kept: list[tuple[int, int]] = []
    for first, last in missing:
        if first <= trekkversjon <= last:
            kept += [(low, high) for low, high in ((first, trekkversjon - 1), (trekkversjon + 1, last)) if low <= high]
        else:
            kept.append((first, last))
    return tuple(kept)


class TrekkpliktigState:
    """The state of one trekkpliktig. Only its lane's thread may use it."""

    __slots__ = ("_open_ends", "_orders", "event_cursor", "position")

    def __init__(self, position: TrekkpliktigPosition | None = None) -> None:
        self.position = position or TrekkpliktigPosition()
        self.event_cursor = NO_EVENT
        self._orders: dict[bytes, bytes] = {}
        self._open_ends: dict[bytes, OrderState] = {}

    def __len__(self) -> int:
        return len(self._orders) + len(self._open_ends)

    def order(self, key: bytes) -> OrderState:
        """The state of the order with this key (trekkid in UTF-8); `NO_ORDER` if nothing is known of it."""
        packed = self._orders.get(key)
        if packed is not None:
            trekkversjon, content_hash_version, content_hash = _PACKED.unpack(packed)
            return OrderState(trekkversjon, content_hash, content_hash_version)
        return self._open_ends.get(key, NO_ORDER)

    def newest(self, key: bytes) -> int:
        """The newest published version of the order, 0 if there is none."""
        packed = self._orders.get(key)
        if packed is not None:
            return int.from_bytes(packed[:4], "little")
        return self._open_ends.get(key, NO_ORDER).trekkversjon

    def remember(self, key: bytes, order: OrderState) -> None:
        """Set the state of one order."""
        has_open_ends = order.missing or order.rejected or order.corrections or order.failing_since is not None
        if has_open_ends or order.trekkversjon > _PACKED_TREKKVERSJON_MAX:
            self._orders.pop(key, None)
            self._open_ends[key] = order
        else:
            self._open_ends.pop(key, None)
            self._orders[key] = _PACKED.pack(order.trekkversjon, order.content_hash_version, order.content_hash)

    def drop(self, key: bytes) -> None:
        """Forget one order."""
        self._orders.pop(key, None)
        self._open_ends.pop(key, None)

    def drop_all(self) -> None:
        """Forget all orders."""
        self._orders.clear()
        self._open_ends.clear()

    def remember_all(self, orders: Mapping[bytes, OrderState]) -> None:
        """Set the state of several orders."""
        for key, order in orders.items():
            self.remember(key, order)

    def keys(self) -> Iterable[bytes]:
        """The keys of all known orders."""
        yield from self._orders
        yield from self._open_ends

    def missing(self) -> Iterator[tuple[bytes, int, int]]:
        """Ranges of versions that exist but are not published: (key, first, last)."""
        for key, order in self._open_ends.items():
            for first, last in order.missing:
                yield key, first, last


class LaneState:
    """The state of one lane: that of each trekkpliktig, and the operator requests that it completed last."""

    def __init__(self) -> None:
        self.completed = CompletedRequests()
        self._trekkpliktige: dict[str, TrekkpliktigState] = {}

    def of(self, trekkpliktig: str) -> TrekkpliktigState:
        """The state of one trekkpliktig, to be read; an empty one if nothing is known of it."""
        state = self._trekkpliktige.get(trekkpliktig)
        return TrekkpliktigState() if state is None else state

    def ensure(self, trekkpliktig: str) -> TrekkpliktigState:
        """The state of one trekkpliktig, to be changed; created if nothing is known of it."""
        state = self._trekkpliktige.get(trekkpliktig)
        if state is None:
            state = self._trekkpliktige[trekkpliktig] = TrekkpliktigState()
        return state

    def forget(self, trekkpliktig: str) -> None:
        """Drop all that is known of one trekkpliktig."""
        self._trekkpliktige.pop(trekkpliktig, None)

    def get(self, trekkpliktig: str) -> TrekkpliktigState | None:
        """The state of one trekkpliktig, None if nothing is known of it."""
        return self._trekkpliktige.get(trekkpliktig)

    def __iter__(self) -> Iterator[tuple[str, TrekkpliktigState]]:
        return iter(self._trekkpliktige.items())

    def __len__(self) -> int:
        return len(self._trekkpliktige)
