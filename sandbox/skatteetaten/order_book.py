"""The orders that the simulated Skatteetaten holds, as pages of newest versions and as single versions.

Kept for speed: each employer's list holds its newest visible versions sorted by sekvensnummer, each with its JSON
text ready, so that a page is a search and a slice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Version(msgspec.Struct, gc=False):
    """One version of one order. `owner` is the organisation whose list it is in, `body` its JSON text."""

    owner: str
    trekkid: str
    trekkversjon: int
    sekvensnummer: int
    body: bytes


class _Listing:
    """One employer's list: versions in rising sekvensnummer. Appending is the rule, inserting the exception."""

    __slots__ = ("numbers", "versions")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.versions: list[Version] = []

    def insert(self, version: Version) -> None:
        if not self.numbers or self.numbers[-1] <= version.sekvensnummer:
            self.numbers.append(version.sekvensnummer)
            self.versions.append(version)
            return
        place = bisect_right(self.numbers, version.sekvensnummer)
        self.numbers.insert(place, version.sekvensnummer)
        self.versions.insert(place, version)

    def remove(self, version: Version) -> None:
        place = bisect_left(self.numbers, version.sekvensnummer)
        while self.versions[place] is not version:
            place += 1
        del self.numbers[place], self.versions[place]


class OrderBook:
    """All orders. Not safe for several threads: the state around it holds the lock."""

    def __init__(self) -> None:
        self._orders: dict[str, tuple[Version, ...]] = {}
        self._listings: dict[str, _Listing] = {}
        self._hidden: set[tuple[str, int]] = set()
        self._gone: set[tuple[str, int]] = set()
        self._units: dict[str, set[str]] = {}
        """Sub-units by the organisation whose list shows their orders too."""
        self.highest_sekvensnummer = 0
        self.on_change: Callable[[Version, bool], None] = lambda _version, _visible: None
        """Called with each version that is added or revealed, and whether it can be seen."""

    def add(self, version: Version, *, visible: bool = True) -> None:
        """Store a version; ValueError if that order has this trekkversjon already."""
        versions = self._orders.get(version.trekkid)
        if versions is None:
            self._orders[version.trekkid] = (version,)
        elif any(stored.trekkversjon == version.trekkversjon for stored in versions):
            raise ValueError(f"{version.trekkid} has version {version.trekkversjon} already")
        else:
            ordered = sorted((*versions, version), key=lambda stored: stored.trekkversjon)
            self._orders[version.trekkid] = tuple(ordered)
        self.highest_sekvensnummer = max(self.highest_sekvensnummer, version.sekvensnummer)
        self.on_change(version, visible)
        if not visible:
            self._hidden.add((version.trekkid, version.trekkversjon))
            return
        self._list_newest(version, versions or ())

    def reveal(self, trekkid: str, trekkversjon: int) -> Version:
        """Make a hidden version visible, with the sekvensnummer it was given; KeyError if it is not hidden."""
        self._hidden.remove((trekkid, trekkversjon))
        version = self.stored(trekkid, trekkversjon)
        others = tuple(other for other in self._orders[trekkid] if other is not version)
        self.on_change(version, True)  # noqa: FBT003 - a callback
        self._list_newest(version, others)
        return version

    def forget(self, trekkid: str, trekkversjon: int) -> None:
        """From now on this version is not found by number; a list that holds it still does."""
        self._gone.add((trekkid, trekkversjon))

    def restore(self, trekkid: str, trekkversjon: int) -> None:
        """Undo `forget`."""
        self._gone.discard((trekkid, trekkversjon))

    def remove(self, trekkid: str) -> None:
        """Remove the whole order, from the list and by number."""
        newest = self.newest(trekkid)
        if newest is not None:
            self._listings[newest.owner].remove(newest)
        del self._orders[trekkid]

    def plant(self, version: Version) -> None:
        """Put anything in the list of `version.owner`; it belongs to no order and is not found by number."""
        self._listings.setdefault(version.owner, _Listing()).insert(version)
        self.highest_sekvensnummer = max(self.highest_sekvensnummer, version.sekvensnummer)

    def uproot(self, version: Version) -> None:
        """Remove what `plant` put there."""
        self._listings[version.owner].remove(version)

    def add_unit(self, owner: str, unit: str) -> None:
        """From now on the orders of this sub-unit are `owner`'s to see too, in its list and by number."""
        self._units.setdefault(owner, set()).add(unit)

    def remove_unit(self, owner: str, unit: str) -> None:
        """Undo `add_unit`."""
        self._units[owner].remove(unit)

    def page(self, owner: str, after: int, limit: int | None) -> list[Version]:
        """The newest versions of `owner`'s orders with sekvensnummer above `after`, at most `limit`, rising."""
        pages = [self._page(each, after, limit) for each in self._seen_by(owner)]
        return pages[0] if len(pages) == 1 else list(islice(merge(*pages, key=lambda each: each.sekvensnummer), limit))

    def _page(self, owner: str, after: int, limit: int | None) -> list[Version]:
        listing = self._listings.get(owner)
        if listing is None:
            return []
        start = bisect_right(listing.numbers, after)
        return listing.versions[start : None if limit is None else start + limit]

    def _seen_by(self, party: str) -> set[str]:
        """Whose orders this organisation sees: its own, and those of its sub-units."""
        return {party, *self._units.get(party, ())}

    def visible_to(self, party: str, trekkid: str, trekkversjon: int) -> Version | None:
        """One version by number, if `party` may see it: it owns the order now, or owned that version."""
        key = (trekkid, trekkversjon)
        newest = self.newest(trekkid)
        if newest is None or key in self._hidden or key in self._gone:
            return None
        version = self._find(trekkid, trekkversjon)
        if version is None or self._seen_by(party).isdisjoint((newest.owner, version.owner)):
            return None
        return version

    def newest(self, trekkid: str) -> Version | None:
        """The newest visible version, or None."""
        for version in reversed(self._orders.get(trekkid, ())):
            if not self._hidden or (trekkid, version.trekkversjon) not in self._hidden:
                return version
        return None

    def last(self, trekkid: str) -> Version:
        """The newest version, visible or not; KeyError if there is no such order."""
        return self._orders[trekkid][-1]

    def stored(self, trekkid: str, trekkversjon: int) -> Version:
        """One version, visible or not; KeyError if there is none."""
        version = self._find(trekkid, trekkversjon)
        if version is None:
            raise KeyError(f"{trekkid} version {trekkversjon}")
        return version

    def newest_of_all(self) -> list[Version]:
        """The newest visible version of every order, by employer and sekvensnummer; planted elements included."""
        return [version for listing in self._listings.values() for version in listing.versions]

    def every_version(self) -> Iterator[Version]:
        """Every version of every order, hidden and forgotten ones too, planted elements not."""
        for versions in self._orders.values():
            yield from versions

    def is_visible(self, version: Version) -> bool:
        """Whether it is neither hidden nor forgotten."""
        key = (version.trekkid, version.trekkversjon)
        return key not in self._hidden and key not in self._gone

    def is_hidden(self, version: Version) -> bool:
        """Whether the book has it but hides it."""
        return (version.trekkid, version.trekkversjon) in self._hidden

    def _find(self, trekkid: str, trekkversjon: int) -> Version | None:
        for version in self._orders.get(trekkid, ()):
            if version.trekkversjon == trekkversjon:
                return version
        return None

    def _list_newest(self, version: Version, others: tuple[Version, ...]) -> None:
        visible = [other for other in others if (other.trekkid, other.trekkversjon) not in self._hidden]
        newest = visible[-1] if visible else None
        if newest is not None and newest.trekkversjon > version.trekkversjon:
            return
        if newest is not None:
            self._listings[newest.owner].remove(newest)
        self._listings.setdefault(version.owner, _Listing()).insert(version)
