"""Which versions a full reading fetches by number, because the source's list does not contain them. Pure.

There are two kinds: versions that exist but could not be fetched so far, and versions of an order that has vanished
from the list. The latter may have been created after the last reading that showed the order: without this, the last
versions of an order that has ended, or that now belongs to another trekkpliktig, would never be published.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from producer.detect.detect import is_left
from producer.domain.trekkpaalegg import Failed, Rejected, Trekkpaalegg, Trekkstatus

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Element, Fetched

MISSING_PER_RANGE_MAX = 100
MISSING_MAX = 1000


def some_missing(state: TrekkpliktigState, seed: int) -> list[tuple[str, int]]:
    """At most `MISSING_MAX` missing versions (trekkid, trekkversjon), at most `MISSING_PER_RANGE_MAX` of a range.

    If there are more, the selection starts at a position chosen by `seed`: otherwise many that are gone for good would
    keep the others from ever being fetched. Of a long range only the newest count: a released jump may span a billion.
    """
    ranges = [(key, max(first, last - MISSING_PER_RANGE_MAX + 1), last) for key, first, last in state.missing()]
    total = sum(last - first + 1 for _, first, last in ranges)
    skipped = Random(seed).randrange(total) if total > MISSING_MAX else 0  # noqa: S311 - spreads calls, guards nothing
    wanted: list[tuple[str, int]] = []
    for key, first, last in (*ranges, *ranges):
        begin = min(first + skipped, last + 1)
        skipped -= begin - first
        end = min(last + 1, begin + min(MISSING_MAX, total) - len(wanted))
        wanted += [(key.decode(), trekkversjon) for trekkversjon in range(begin, end)]
    return wanted


FOLLOWED_MAX = 5000
"""Versions held at once, so that a source that returns every number does not fill the memory."""

_SEEN_AT_ONCE = 131_072


def vanished(state: TrekkpliktigState, seen: Sequence[int]) -> list[bytes]:
    """The keys of published orders whose hashes are not in `seen`.

    It works in parts, so that it needs little memory besides the eight bytes of each hash.
    """
    parts = 1 + len(seen) // _SEEN_AT_ONCE
    found: list[bytes] = []
    for part in range(parts):
        here = {each for each in seen if each % parts == part}
        for key in state.keys():  # noqa: SIM118  a state is no mapping
            if hash(key) % parts == part and hash(key) not in here and state.newest(key) > 0:
                found.append(key)  # noqa: PERF401  a comprehension over two lines of condition is harder to read
    return found


def next_versions(state: TrekkpliktigState, keys: Iterable[bytes], seed: int) -> list[tuple[str, int]]:
    """The version (trekkid, trekkversjon) after the newest published one of each of these orders.

    At most `MISSING_MAX`; if there are more, a selection by `seed`.
    """
    chosen = list(keys)
    if len(chosen) > MISSING_MAX:
        chosen = Random(seed).sample(chosen, MISSING_MAX)  # noqa: S311 - as above
    return [(key.decode(), state.newest(key) + 1) for key in chosen]


class Following:
    """Orders that have vanished from the list, each followed by number until no further version is found.

    `elements` are the versions found. `moved` are the orders (trekkid) that now belong to another trekkpliktig, whose
    lane may have published newer versions already, so that those found here are late. An order has moved if its next
    version names another of `served`, or if its last version here is in force although the list lacks it. An order that
    has ended may simply no longer be listed.
    """

    def __init__(self, first: list[tuple[str, int]], trekkpliktig: str, served: Container[str]) -> None:
        self.elements: list[Element] = []
        self.moved: set[str] = set()
        self._wanted = first
        self._trekkpliktig = trekkpliktig
        self._served = served

    def pop_wanted(self) -> list[tuple[str, int]]:
        """Remove and return the versions to fetch now; none when every order has been followed to its end."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def add(self, wanted: tuple[str, int], fetched: Fetched) -> None:
        """Add what was fetched for one of the wanted versions."""
        trekkid, trekkversjon = wanted
        if isinstance(fetched, Failed):
            # Whether the order has moved is not known now: the next full reading tries again with all of it.
            self.elements = [each for each in self.elements if each.trekkid != trekkid]
            self.moved.discard(trekkid)
        elif isinstance(fetched, Trekkpaalegg) and is_left(fetched, self._trekkpliktig, self._served):
            self.moved.add(trekkid)
        elif isinstance(fetched, Trekkpaalegg | Rejected):
            self.elements.append(fetched)
            if isinstance(fetched, Trekkpaalegg) and fetched.trekkstatus is Trekkstatus.AVSLUTTET:
                self.moved.discard(trekkid)
            else:
                self.moved.add(trekkid)
            if len(self.elements) < FOLLOWED_MAX:
                self._wanted.append((trekkid, trekkversjon + 1))
