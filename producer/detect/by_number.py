"""What is known of a trekkpliktig and what its full list showed in, versions to ask for by number out. Pure.

Two kinds stand in no list: those known to exist that could not be had so far, and those of an order that has gone from
the list. The latter may have been made after the last reading that showed the order: an ended order that is no longer
listed, or one that now belongs to another trekkpliktig, would else keep its last versions to itself.
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

    Where there are more, those that follow a place chosen by `seed`: else many that are gone for good would keep all
    others from ever being asked for. Of a long range the newest are taken, as a released jump may span a billion.
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
"""Versions held at once; a source that answers every number must not fill the memory."""

_SEEN_AT_ONCE = 131_072


def vanished(state: TrekkpliktigState, seen: Sequence[int]) -> list[bytes]:
    """Keys of the orders that were published and are not among those `seen`, which are hashes of keys.

    Works through them in parts, so that little memory is needed beside the eight bytes of a hash.
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

    At most `MISSING_MAX`; where there are more, those that `seed` chooses.
    """
    chosen = list(keys)
    if len(chosen) > MISSING_MAX:
        chosen = Random(seed).sample(chosen, MISSING_MAX)  # noqa: S311 - as above
    return [(key.decode(), state.newest(key) + 1) for key in chosen]


class Following:
    """Orders that have gone from the list, each followed by number until nothing more comes of it.

    `elements` are what came. `moved` are the orders (trekkid) that belong to another by now, who may have published
    newer versions already, so that what came here is late: the next version names one of `served`, or the last one that
    we may see still runs, and yet the list lacks it. One that has ended may just be no longer listed.
    """

    def __init__(self, first: list[tuple[str, int]], trekkpliktig: str, served: Container[str]) -> None:
        self.elements: list[Element] = []
        self.moved: set[str] = set()
        self._wanted = first
        self._trekkpliktig = trekkpliktig
        self._served = served

    def pop_wanted(self) -> list[tuple[str, int]]:
        """The versions to ask for now, which then count as asked for; none when all have been followed to the end."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def add(self, wanted: tuple[str, int], fetched: Fetched) -> None:
        """A version came, or did not."""
        trekkid, trekkversjon = wanted
        if isinstance(fetched, Failed):
            # Whether the order has moved is not known now: all of it comes at the next full reading.
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
