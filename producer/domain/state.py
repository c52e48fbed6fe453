"""The state of a lane: as a home, what was published of each order; as a reader, what each employer's list showed.

It is compact because a lane may hold a million orders in memory. An order without open ends is packed into a bytes
object of 13 bytes, which takes 48 with Python's overhead; one of 16 bytes would take 64.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

import msgspec

from producer.domain.requests import CompletedRequests, OperatorRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from producer.domain.identity import Identity
    from producer.domain.requests import RequestState

_PACKED = struct.Struct("<IB8s")
_PACKED_TREKKVERSJON_MAX = 2**32 - 1
_NOTHING = _PACKED.pack(0, 0, bytes(8))
"""That nothing was handed over."""
REJECTED_MAX = 16
"""Hashes of rejected records kept per order; an older one may be quarantined a second time."""


LOST = "lost"
"""Begins the reason for which a version is missing that was published, and that the history has lost."""

LOST_EVERYWHERE = "lost everywhere"
"""That of a version which `…-gjeldende` has not reached either."""


class Missing(msgspec.Struct, frozen=True, gc=False):
    """Versions first to last, which exist and were not published. `reason` says why, such as `HTTP 404`."""

    first: int
    last: int
    reason: str = ""


class Failing(msgspec.Struct, frozen=True, gc=False):
    """Versions first to last, which could not be fetched since then, in microseconds since 1970."""

    first: int
    last: int
    since: int


Range = TypeVar("Range", Missing, Failing)


def without(ranges: tuple[Range, ...], first: int, last: int) -> tuple[Range, ...]:
    """The ranges without the versions first to last."""
    kept: list[Range] = []
    for each in ranges:
        if each.last < first or last < each.first:
            kept.append(each)
            continue
        if each.first < first:
            kept.append(msgspec.structs.replace(each, last=first - 1))
        if last < each.last:
            kept.append(msgspec.structs.replace(each, first=last + 1))
    return tuple(kept)


def with_missing(missing: tuple[Missing, ...], first: int, last: int, reason: str = "") -> tuple[Missing, ...]:
    """The ranges with the versions first to last for this reason; sorted, and merged where the reasons are the same."""
    merged: list[Missing] = []
    for each in sorted((*without(missing, first, last), Missing(first, last, reason)), key=lambda each: each.first):
        if merged and merged[-1].last + 1 == each.first and merged[-1].reason == each.reason:
            merged[-1] = Missing(merged[-1].first, each.last, each.reason)
        else:
            merged.append(each)
    return tuple(merged)


def with_failing(failing: tuple[Failing, ...], trekkversjon: int, now: int) -> tuple[Failing, ...]:
    """The ranges with one more version, which fails since `now` unless it did before."""
    if any(each.first <= trekkversjon <= each.last for each in failing):
        return failing
    merged: list[Failing] = []
    for each in sorted((*failing, Failing(trekkversjon, trekkversjon, now)), key=lambda each: each.first):
        if merged and merged[-1].last + 1 == each.first and merged[-1].since == each.since:
            merged[-1] = Failing(merged[-1].first, each.last, each.since)
        else:
            merged.append(each)
    return tuple(merged)


class OrderState(msgspec.Struct, frozen=True, gc=False):
    """What has been published of one order, and what is open.

    `trekkversjon` is the newest published version (0: none), `content_hash` the hash of its content by the method
    numbered `content_hash_version`. `missing` are versions that exist but are not published, `rejected` the hashes of
    quarantined records, `corrections` pairs (trekkversjon, number of published corrections).

    `seen` is the highest version known to exist, 0 unless it is above `trekkversjon`: those between wait for versions
    that are `failing`. `readers` are the trekkpliktige whose lists showed the order, in that order, while anything is
    open, and `tried_at` is when what is open was last asked for, in microseconds since 1970.
    """

    trekkversjon: int = 0
    content_hash: bytes = bytes(8)
    content_hash_version: int = 0
    missing: tuple[Missing, ...] = ()
    rejected: tuple[bytes, ...] = ()
    corrections: tuple[tuple[int, int], ...] = ()
    seen: int = 0
    failing: tuple[Failing, ...] = ()
    readers: tuple[str, ...] = ()
    tried_at: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether versions are known to exist that are not published."""
        return bool(self.missing) or self.seen > self.trekkversjon

    def is_missing(self, trekkversjon: int) -> bool:
        """Whether this version is recorded as missing."""
        return any(each.first <= trekkversjon <= each.last for each in self.missing)

    def missing_reason(self, trekkversjon: int) -> str:
        """Why this version is missing; empty if it is not, or if that was not recorded."""
        return next((each.reason for each in self.missing if each.first <= trekkversjon <= each.last), "")

    def failing_since(self, trekkversjon: int) -> int | None:
        """Since when this version could not be fetched, in microseconds since 1970; None if it does not fail."""
        return next((each.since for each in self.failing if each.first <= trekkversjon <= each.last), None)

    def with_rejected(self, raw_hash: bytes) -> OrderState:
        """This state, remembering that a record with this hash is in quarantine."""
        return msgspec.structs.replace(self, rejected=(*self.rejected, raw_hash)[-REJECTED_MAX:])

    def corrections_of(self, trekkversjon: int) -> int:
        """How many corrections of this version have been published."""
        return dict(self.corrections).get(trekkversjon, 0)


class HandedOver(msgspec.Struct, frozen=True, gc=False):
    """What was last handed over of an order: the version, and the hash of its content by the method of this number.

    Version 0 with method 0: only that the list has shown the order is known. An element that was not understood has
    method 0 and the first bytes of its raw hash.
    """

    trekkversjon: int = 0
    content_hash: bytes = bytes(8)
    content_hash_version: int = 0


class TrekkpliktigPosition(msgspec.Struct, frozen=True, gc=False):
    """How far the list of one trekkpliktig has been read.

    `position` is the sekvensnummer up to which everything has been handed over. `reconciled_at` is when a full reading
    last ended, and `shown_at` the `LaneState.show_since` that was last done, by one that handed over every order;
    `suspended_at` is since when an operator has suspended it, all in microseconds since 1970. `forgotten_by` is the id
    of the request that last made the state be forgotten. `requests` wait for a full reading, or for the answers of the
    homes to it. `unidentified` is how many elements without trekkid were handed over on the day since
    `unidentified_since`.
    """

    position: int = 0
    reconciled_at: int | None = None
    suspended_at: int | None = None
    forgotten_by: str | None = None
    requests: tuple[OperatorRequest, ...] = ()
    shown_at: int | None = None
    unidentified: int = 0
    unidentified_since: int | None = None


class EventCursor(msgspec.Struct, frozen=True, gc=False):
    """How far the Altinn events about one trekkpliktig have been read.

    `after` is the id of the last event that was processed, "0" before the first. `newest_at` is the latest time of an
    event, in microseconds since 1970. The repr leaves out the id, which may be any text.
    """

    after: str = "0"
    newest_at: int | None = None

    def __repr__(self) -> str:
        return f"EventCursor(newest_at={self.newest_at})"


class ObservationOffsets(msgspec.Struct, frozen=True, gc=False):
    """The offset of the first observation of each row that a home has not decided on."""

    urgent: int = 0
    bulk: int = 0


NO_ORDER = OrderState()
NOT_HANDED_OVER = HandedOver()
NO_EVENT = EventCursor()


class OrderBook:
    """The orders that are at home in one lane, by key (trekkid in UTF-8)."""

    __slots__ = ("_open_ends", "_orders")

    def __init__(self) -> None:
        self._orders: dict[bytes, bytes] = {}
        self._open_ends: dict[bytes, OrderState] = {}

    def __len__(self) -> int:
        return len(self._orders) + len(self._open_ends)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._orders
        yield from self._open_ends

    def copy(self) -> OrderBook:
        """These orders as they are now, for another thread."""
        copied = OrderBook()
        copied._orders, copied._open_ends = self._orders.copy(), self._open_ends.copy()
        return copied

    def order(self, key: bytes) -> OrderState:
        """The state of the order with this key; `NO_ORDER` if nothing is known of it."""
        packed = self._orders.get(key)
        if packed is not None:
            trekkversjon, content_hash_version, content_hash = _PACKED.unpack(packed)
            return OrderState(trekkversjon, content_hash, content_hash_version)
        return self._open_ends.get(key, NO_ORDER)

    def remember(self, key: bytes, order: OrderState) -> None:
        """Set the state of one order."""
        if _has_open_ends(order):
            self._orders.pop(key, None)
            self._open_ends[key] = order
        else:
            self._open_ends.pop(key, None)
            self._orders[key] = _PACKED.pack(order.trekkversjon, order.content_hash_version, order.content_hash)

    def drop(self, key: bytes) -> None:
        """Forget one order."""
        self._orders.pop(key, None)
        self._open_ends.pop(key, None)

    def open_orders(self) -> Iterator[tuple[bytes, OrderState]]:
        """The orders of which versions are known to exist that are not published."""
        return ((key, order) for key, order in self._open_ends.items() if order.is_open)


def _has_open_ends(order: OrderState) -> bool:
    return bool(
        order.missing
        or order.rejected
        or order.corrections
        or order.seen
        or order.failing
        or order.readers
        or order.tried_at is not None
        or order.trekkversjon > _PACKED_TREKKVERSJON_MAX
    )


class TrekkpliktigState:
    """What is known of the list of one trekkpliktig. Only its lane's thread may use it."""

    __slots__ = ("_handed_over", "event_cursor", "only_known", "position")

    def __init__(self, position: TrekkpliktigPosition | None = None) -> None:
        self.position = position or TrekkpliktigPosition()
        self.event_cursor = NO_EVENT
        self.only_known: set[bytes] = set()
        """Orders that its list has shown, without anything recorded of them one by one."""
        self._handed_over: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        """How many orders its list has shown."""
        return len(self._handed_over)

    def __contains__(self, key: bytes) -> bool:
        """Whether its list has shown this order."""
        return key in self._handed_over

    def keys(self) -> Iterable[bytes]:
        """The keys of all orders that its list has shown."""
        return self._handed_over.keys()

    def handed_over(self, key: bytes) -> HandedOver:
        """What was last handed over of this order; `NOT_HANDED_OVER` if nothing was."""
        packed = self._handed_over.get(key)
        if packed is None:
            return NOT_HANDED_OVER
        trekkversjon, content_hash_version, content_hash = _PACKED.unpack(packed)
        return HandedOver(trekkversjon, content_hash, content_hash_version)

    def know(self, keys: Iterable[bytes]) -> None:
        """Its list has shown these orders. Changes nothing for those that are known."""
        for key in keys:
            if key not in self._handed_over:
                self._handed_over[key] = _NOTHING
                self.only_known.add(key)

    def remember(self, key: bytes, handed_over: HandedOver) -> None:
        """Set what was last handed over of this order."""
        self.only_known.discard(key)
        trekkversjon = min(handed_over.trekkversjon, _PACKED_TREKKVERSJON_MAX)
        self._handed_over[key] = _PACKED.pack(trekkversjon, handed_over.content_hash_version, handed_over.content_hash)

    def remember_all(self, handed_over: Mapping[bytes, HandedOver]) -> None:
        """Set what was last handed over of several orders."""
        for key, each in handed_over.items():
            self.remember(key, each)

    def drop(self, key: bytes) -> None:
        """Forget one order."""
        self.only_known.discard(key)
        self._handed_over.pop(key, None)

    def forget_handed_over(self) -> None:
        """Forget what was handed over. The orders stay known, so that they are followed if the list lacks them."""
        self._handed_over = dict.fromkeys(self._handed_over, _NOTHING)
        self.only_known.clear()


class LaneState:
    """The state of one lane.

    `orders`, `observations` and `requests` (by id) are those of the lane as a home; iterating gives the trekkpliktige
    that the lane reads. `show_since`: lists that were not handed over completely since then are due for that.
    `identity` says whose state this is, None if that was never recorded. `schemas` are the fingerprints of those that
    are recorded beside it.
    """

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.schemas: set[bytes] = set()
        self.orders = OrderBook()
        self.observations = ObservationOffsets()
        self.requests: dict[str, RequestState] = {}
        self.completed = CompletedRequests()
        self.show_since: int | None = None
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
