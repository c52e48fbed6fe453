"""Versions of orders in, from a topic or from a ledger's rows; for each order two numbers that tell equal from other.

One number is the sum over all rows of the history and of what was replaced, the other that over the newest version
and its periods. Sums do not depend on the order of rows, so neither side need be sorted or kept.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from consumers.ledger import tables
from consumers.verify.content import (
    MASK,
    Content,
    UnreadableRowError,
    content_of_row,
    order_of_row,
    period_number,
    period_of_row,
    place_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.ledger.inspection import Inspection

_UNREADABLE = 1


class Sums:
    """By trekkid the two numbers."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._history = array("Q")
        self._newest = array("Q")

    def __len__(self) -> int:
        return len(self._places)

    def place_of(self, trekkid: str) -> int:
        """Where the order's numbers stand; a new order has zeros."""
        place = self._places.get(trekkid)
        if place is None:
            place = self._places[trekkid] = len(self._places)
            self._history.append(0)
            self._newest.append(0)
        return place

    def add_to_history(self, place: int, number: int) -> None:
        """One more row, or with a negative number one less."""
        self._history[place] = (self._history[place] + number) & MASK

    def add_to_newest(self, place: int, number: int) -> None:
        """As `add_to_history`."""
        self._newest[place] = (self._newest[place] + number) & MASK

    def set_newest(self, place: int, number: int) -> None:
        """Another version is the newest."""
        self._newest[place] = number & MASK

    def differing(self, other: Sums, *, history: bool) -> set[str]:
        """The orders whose numbers are not the same in both; those of the history count only if wanted."""
        found = {trekkid for trekkid in other._places if trekkid not in self._places}
        for trekkid, place in self._places.items():
            there = other._places.get(trekkid)
            if (
                there is None
                or self._newest[place] != other._newest[there]
                or (history and self._history[place] != other._history[there])
            ):
                found.add(trekkid)
        return found


class ExpectedSums(Sums):
    """What the sums of a ledger must be, that has taken these versions."""

    def __init__(self) -> None:
        super().__init__()
        self._newest_version = array("q")
        self._newest_correction: dict[int, int] = {}
        self._corrections: dict[tuple[int, int], int] = {}
        """By place and trekkversjon the highest correction so far, where there is any."""

    def take(self, content: Content, correction: int, *, late: bool, has_original: bool = True) -> None:
        """One version, or one correction, that comes for the first time. Whichever order they come in, the end is one.

        `has_original` says of a correction whether the version itself has come before.
        """
        trekkid, version = content.order[0], content.order[1]
        place = self.place_of(trekkid)
        where = self._where(place, version, correction, has_original=has_original)
        self.add_to_history(place, content.row_number(late=late) + where)
        self.take_newest(content, correction)

    def take_newest(self, content: Content, correction: int) -> None:
        """One version or correction for a ledger that keeps no history: it counts if it is the newest."""
        place, version = self.place_of(content.order[0]), content.order[1]
        if place == len(self._newest_version):
            self._newest_version.append(0)
        newest = self._newest_version[place]
        if version > newest or (version == newest and correction > self._newest_correction.get(place, 0)):
            self._newest_version[place] = version
            if correction or self._newest_correction:
                self._newest_correction[place] = correction
            self.set_newest(place, content.order_number() + content.periods_number())

    def _where(self, place: int, version: int, correction: int, *, has_original: bool) -> int:
        """Where this one comes to stand, and where that goes which it replaces."""
        highest = self._corrections.get((place, version)) if self._corrections else None
        if highest is None:
            if correction == 0:
                return place_number(version, 0, replaced=False)
            highest = 0 if has_original else -1
        if correction < highest:
            return place_number(version, correction, replaced=True)
        self._corrections[place, version] = correction
        number = place_number(version, correction, replaced=False)
        if highest >= 0:
            number += place_number(version, highest, replaced=True) - place_number(version, highest, replaced=False)
        return number


def sums_of_ledger(inspection: Inspection, advance: Callable[[int], object]) -> Sums:
    """The sums of a ledger's rows; `advance` is told how many more rows have been read.

    A row that cannot be understood makes the numbers of its order other than any topic's.
    """
    sums = Sums()
    for table, replaced in ((tables.trekkpaalegg_versjon, False), (tables.trekkpaalegg_versjon_replaced, True)):
        for rows in inspection.rows(table):
            for row in rows:
                place = sums.place_of(row[0])
                try:
                    content, late = content_of_row(row)
                except UnreadableRowError:
                    sums.add_to_history(place, _UNREADABLE)
                    continue
                where = place_number(row[1], row[13], replaced=replaced)
                sums.add_to_history(place, content.row_number(late=late) + where)
            advance(len(rows))
    for rows in inspection.rows(tables.trekkpaalegg):
        for row in rows:
            sums.add_to_newest(sums.place_of(row[0]), _number(lambda row: hash(order_of_row(row)), row))
        advance(len(rows))
    for rows in inspection.rows(tables.trekkstoerrelse_for_periode):
        for row in rows:
            sums.add_to_newest(sums.place_of(row[0]), _number(lambda row: period_number(*period_of_row(row)), row))
        advance(len(rows))
    return sums


def _number(number_of: Callable[[Any], int], row: Any) -> int:  # noqa: ANN401 - a database's row of any driver
    try:
        return number_of(row)
    except UnreadableRowError:
        return _UNREADABLE
