"""What a reader hands over to the homes of the orders: what a list shows otherwise than it was last handed over. Pure.

At the end of a full reading come the orders that the list lacks: their homes ask by number for what came after. Without
this, the last versions of an order that has ended, or that now belongs to another trekkpliktig, would never be
published.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from producer.domain.content import CONTENT_HASH_BYTES, CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.observation import order_key
from producer.domain.state import NOT_HANDED_OVER, HandedOver
from producer.domain.trekkpaalegg import Rejected, Trekkpaalegg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from producer.domain.state import TrekkpliktigPosition, TrekkpliktigState
    from producer.domain.trekkpaalegg import Element

ABSENT_MAX = 1000
"""Orders that one full reading hands over because the list lacks them."""

UNIDENTIFIED_MAX = 100
"""Elements without trekkid that are handed over for one trekkpliktig a day. If the text of one changes at each reading,
each is another, and the quarantine would have no bounds."""

_DAY_MICROSECONDS = 24 * 3600 * 1_000_000
_SEEN_AT_ONCE = 131_072


def digest_of(element: Element) -> HandedOver:
    """What to remember of this element once it is handed over."""
    if isinstance(element, Rejected):
        return HandedOver(element.trekkversjon or 0, element.raw_hash[:CONTENT_HASH_BYTES])
    return HandedOver(element.trekkversjon, content_hash(element), CONTENT_HASH_VERSION)


def differences(state: TrekkpliktigState, elements: Iterable[Element], *, everything: bool = False) -> list[Element]:
    """The elements that differ from what was last handed over of their orders; all of them with `everything`.

    Content is compared by the method that made the hash of what was handed over. By a method that is unknown here, or
    after an element that could not be understood, it differs.
    """
    return [element for element in elements if everything or _differs(state.handed_over(order_key(element)), element)]


def _differs(before: HandedOver, element: Element) -> bool:
    if isinstance(element, Rejected):
        return before != digest_of(element)
    method = before.content_hash_version
    return (
        before.trekkversjon != element.trekkversjon
        or method not in METHODS
        or content_hash(element, method=method) != before.content_hash
    )


def lowered(state: TrekkpliktigState, elements: Iterable[Element]) -> list[Trekkpaalegg]:
    """The elements whose version is below what was last handed over of their orders."""
    return [
        element
        for element in elements
        if isinstance(element, Trekkpaalegg)
        and element.trekkversjon < state.handed_over(order_key(element)).trekkversjon
    ]


def is_unidentified(state: TrekkpliktigState, element: Element) -> bool:
    """Whether it has no trekkid, and was never handed over."""
    return element.trekkid is None and state.handed_over(order_key(element)) == NOT_HANDED_OVER


def within_limit(state: TrekkpliktigState, elements: Sequence[Element], now: int) -> list[Element]:
    """The elements without unidentified ones that are too many for the day; `now` is in microseconds since 1970."""
    room = UNIDENTIFIED_MAX
    if not _begins_day(state.position, now):
        room -= state.position.unidentified
    kept: list[Element] = []
    for element in elements:
        if is_unidentified(state, element):
            room -= 1
            if room < 0:
                continue
        kept.append(element)
    return kept


def with_unidentified(position: TrekkpliktigPosition, count: int, now: int) -> TrekkpliktigPosition:
    """The position once so many unidentified elements were handed over."""
    if count == 0:
        return position
    if _begins_day(position, now):
        return replace(position, unidentified=count, unidentified_since=now)
    return replace(position, unidentified=position.unidentified + count)


def _begins_day(position: TrekkpliktigPosition, now: int) -> bool:
    """Whether the day of the count is over. One in the future was told by a clock that was ahead."""
    since = position.unidentified_since
    return since is None or not 0 <= now - since < _DAY_MICROSECONDS


def absent(state: TrekkpliktigState, seen: Sequence[int], seed: int) -> list[bytes]:
    """The keys of orders that the list has shown before, whose hashes are not in `seen`; known by trekkid only.

    At most `ABSENT_MAX`; if there are more, a selection by `seed`, so that each is handed over some day. It works in
    parts, so that it needs little memory besides the eight bytes of each hash.
    """
    parts = 1 + len(seen) // _SEEN_AT_ONCE
    found: list[bytes] = []
    for part in range(parts):
        here = {each for each in seen if each % parts == part}
        found += [
            key
            for key in state.keys()  # noqa: SIM118 - a state is no mapping
            if hash(key) % parts == part and hash(key) not in here and not key.startswith(b"#")
        ]
    if len(found) > ABSENT_MAX:
        return Random(seed).sample(found, ABSENT_MAX)  # noqa: S311 - spreads calls, guards nothing
    return found
