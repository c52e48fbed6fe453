"""The checks of a ledger against the topic that filled it.

Each order has two sums of hashes: one over its rows of the history and of what was replaced, one over its newest
version and periods. Sums do not depend on the order of rows, so neither side has to be sorted or kept in memory.

The ledger's offsets and rows are read in one snapshot, and the topic is compared up to these offsets, so that a running
consumer causes no differences. Orders whose sums differ are then read again from both sides, in one later snapshot, and
compared field by field.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.ledger import tables
from consumers.ledger.opening import Inspection
from consumers.verify.content import (
    MASK,
    ORDER_FIELDS,
    Content,
    Period,
    PublishedOrder,
    UnreadableRowError,
    Version,
    content_of_fields,
    content_of_row,
    differing,
    differing_periods,
    order_of_row,
    period_number,
    period_of_row,
    place_number,
)
from consumers.verify.findings import (
    LEDGER_CONFLICTS,
    LEDGER_HISTORY,
    LEDGER_NEWEST,
    LEDGER_OFFSETS,
    LEDGER_PERIODS,
    LEDGER_REPLACED,
    Check,
    Difference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from consumers.verify.findings import Progress
    from consumers.verify.history import History, TopicMessage
    from consumers.verify.reading import OrderReader


Found = tuple[str, Difference]
"""Name of the check, and the difference."""


class StoredOrder(msgspec.Struct):
    """One order as the ledger has it: rows as the database returned them."""

    newest: list[Any] = []
    periods: list[Any] = []
    history: list[Any] = []
    replaced: list[Any] = []


def differences_of(
    trekkid: str, wanted: PublishedOrder | None, stored: StoredOrder, *, history: bool
) -> Iterator[Found]:
    """Every difference of one order; `wanted` is None if the topic does not have it."""
    newest = wanted.newest() if wanted else None
    yield from _of_newest(trekkid, newest, stored.newest)
    yield from _of_periods(trekkid, newest, stored.periods)
    if history:
        in_history = wanted.history() if wanted else {}
        others = {
            version: each for version, each in (wanted.versions if wanted else {}).items() if version not in in_history
        }
        yield from _of_versions(LEDGER_HISTORY, trekkid, in_history, stored.history)
        yield from _of_versions(LEDGER_REPLACED, trekkid, others, stored.replaced)


def _of_newest(trekkid: str, wanted: Content | None, rows: list[Any]) -> Iterator[Found]:
    if wanted is None:
        for row in rows:
            yield LEDGER_NEWEST, Difference("in the ledger, but not in the topic", trekkid, row[1])
        return
    version, correction = wanted.order[1], wanted.order[-1] or None
    if not rows:
        yield LEDGER_NEWEST, Difference("missing from the ledger", trekkid, version, correction)
        return
    try:
        fields = differing(wanted.order, order_of_row(rows[0]), ORDER_FIELDS)
    except UnreadableRowError as error:
        fields = (str(error),)
    if fields:
        yield LEDGER_NEWEST, Difference("differs from the topic", trekkid, version, correction, fields)


def _of_periods(trekkid: str, wanted: Content | None, rows: list[Any]) -> Iterator[Found]:
    found: dict[int, Period | str] = {}
    for row in rows:
        try:
            found[row[1]] = period_of_row(row)[2]
        except UnreadableRowError as error:
            found[row[1]] = str(error)
    periods = dict(enumerate(wanted.periods if wanted else (), 1))
    version = wanted.order[1] if wanted else None
    for nummer in sorted(found.keys() | periods.keys()):
        name = f"[{nummer}]"
        if nummer not in found:
            yield LEDGER_PERIODS, Difference("missing from the ledger", trekkid, version, fields=(name,))
        elif nummer not in periods:
            yield LEDGER_PERIODS, Difference("in the ledger, but not in the topic", trekkid, version, fields=(name,))
        else:
            there = found[nummer]
            fields = (
                (f"{name}.{there}",)
                if isinstance(there, str)
                else tuple(
                    f"[{nummer}].{each.split('.')[1]}" for each in differing_periods((periods[nummer],), (there,))
                )
            )
            if fields:
                yield LEDGER_PERIODS, Difference("differs from the topic", trekkid, version, fields=fields)


def _of_versions(
    check: str, trekkid: str, wanted: dict[Version, tuple[Content, bool]], rows: Iterable[Any]
) -> Iterator[Found]:
    """Rows of the history are identified by trekkversjon alone; their correction is a field that may differ."""
    by_version: dict[Any, Version] = {
        (version[0] if check == LEDGER_HISTORY else version): version for version in wanted
    }
    seen = set()
    for row in rows:
        version: Version | None = by_version.get(row[1] if check == LEDGER_HISTORY else (row[1], row[13]))
        if version is None:
            yield check, Difference("in the ledger, but not in the topic", trekkid, row[1], row[13] or None)
            continue
        seen.add(version)
        fields = _fields(*wanted[version], row)
        if fields:
            yield check, Difference("differs from the topic", trekkid, version[0], version[1] or None, fields)
    for trekkversjon, correction in sorted(wanted.keys() - seen):
        yield check, Difference("missing from the ledger", trekkid, trekkversjon, correction or None)


def _fields(content: Content, late: bool, row: Any) -> tuple[str, ...]:  # noqa: ANN401, FBT001 - as the database gave it; a pair's second
    try:
        found, found_late = content_of_row(row)
    except UnreadableRowError as error:
        return (str(error),)
    fields = differing(content.order, found.order, ORDER_FIELDS) + differing_periods(content.periods, found.periods)
    return fields if late == found_late else (*fields, "late")


_UNREADABLE = 1


class Sums:
    """The two sums of each order."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._history = array("Q")
        self._newest = array("Q")

    def __len__(self) -> int:
        return len(self._places)

    def place_of(self, trekkid: str) -> int:
        """The index of the order's sums; a new order has zeros."""
        place = self._places.get(trekkid)
        if place is None:
            place = self._places[trekkid] = len(self._places)
            self._history.append(0)
            self._newest.append(0)
        return place

    def add_to_history(self, place: int, number: int) -> None:
        """Add the hash of a row, or subtract it if negative."""
        self._history[place] = (self._history[place] + number) & MASK

    def add_to_newest(self, place: int, number: int) -> None:
        """As `add_to_history`."""
        self._newest[place] = (self._newest[place] + number) & MASK

    def set_newest(self, place: int, number: int) -> None:
        """Replace the sum: another version is the newest."""
        self._newest[place] = number & MASK

    def differing(self, other: Sums, *, history: bool) -> set[str]:
        """The orders whose sums differ; those of the history are compared only if wanted."""
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
    """The sums that a ledger must have after applying these versions."""

    def __init__(self) -> None:
        super().__init__()
        self._newest_version = array("q")
        self._newest_correction: dict[int, int] = {}
        self._corrections: dict[tuple[int, int], int] = {}
        """By place and trekkversjon, the highest correction so far, if there is one."""

    def add(self, content: Content, correction: int, *, late: bool, has_original: bool = True) -> None:
        """Add a new version or correction. The sums do not depend on the sequence.

        `has_original`: for a correction, whether the version itself was added before.
        """
        trekkid, version = content.order[0], content.order[1]
        place = self.place_of(trekkid)
        where = self._where(place, version, correction, has_original=has_original)
        self.add_to_history(place, content.row_number(late=late) + where)
        self.add_newest(content, correction)

    def add_newest(self, content: Content, correction: int) -> None:
        """Add a version or correction for a ledger without history: it counts only if it is the newest."""
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
        """The hash of the table that this version enters, and of the move of the version that it replaces."""
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
    """The sums of a ledger's rows; `advance` is called with the number of rows read.

    An unreadable row makes its order's sums differ from those of any topic.
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


ORDERS_EXPLAINED_MAX = 20_000
"""How many orders are compared field by field; further ones are only reported as different."""

_TABLES = {
    LEDGER_HISTORY: (tables.trekkpaalegg_versjon, "history"),
    LEDGER_NEWEST: (tables.trekkpaalegg, "newest"),
    LEDGER_PERIODS: (tables.trekkstoerrelse_for_periode, "periods"),
    LEDGER_REPLACED: (tables.trekkpaalegg_versjon_replaced, "replaced"),
}


class LedgerProof:
    """Compares one ledger with the topics: call `read_ledger`, then add all messages, then call `checks`.

    Raises what `Inspection`, `CommittedReader` and the schema source raise.
    """

    def __init__(self, url: str, prefix: str, order_reader: OrderReader, progress: Progress) -> None:
        self._url = url
        self._order_reader = order_reader
        self._progress = progress
        self._versjoner, self._gjeldende = f"{prefix}-versjoner", f"{prefix}-gjeldende"
        self._offsets: dict[tuple[str, int], int] = {}
        self._found = Sums()
        self._expected = ExpectedSums()
        self._rows: dict[str, int] = {}
        self._behind = 0
        self._conflicts = Check(LEDGER_CONFLICTS, "rows")

    @property
    def keeps_history(self) -> bool:
        """Whether the ledger was filled from `…-versjoner`, and not from `…-gjeldende`."""
        return not any(topic == self._gjeldende for topic, _ in self._offsets)

    @property
    def reads_versjoner(self) -> bool:
        """Whether events of `…-versjoner` are in the ledger: it continues there after a replay of the state."""
        return self.keeps_history or any(topic == self._versjoner for topic, _ in self._offsets)

    def read_ledger(self) -> None:
        """Read the ledger's offsets and the sums of its rows in one snapshot, before the topics are read."""
        with Inspection(self._url) as inspection:
            self._offsets = dict(inspection.offsets.items())
            self._rows = {name: inspection.count(table) for name, (table, _) in _TABLES.items()}
            self._progress.expect(sum(self._rows.values()))
            self._found = sums_of_ledger(inspection, self._progress.advance)
            for rows in inspection.rows(tables.trekkpaalegg_conflict):
                for topic, partition, offset, trekkid, trekkversjon, *_ in rows:
                    place = f"{topic}/{partition}/{offset}"
                    what = "arrived with content that contradicts the same version"
                    self._conflicts.add(Difference(what, trekkid, trekkversjon, place=place))
                    self._conflicts.examined += 1

    def on_version(self, history: History, message: TopicMessage, fields: dict[str, Any], is_first: bool) -> None:  # noqa: FBT001 - a callback's
        """Add a message of `…-versjoner`, which is in `history`; `is_first`: the version is new."""
        if self._is_ahead(self._versjoner, message) or not is_first:
            return
        correction = message.correction or 0
        content = content_of_fields(fields, correction)
        if not self.keeps_history:
            self._expected.add_newest(content, correction)
            return
        has_original = correction == 0 or history.has(history.places[message.key], message.trekkversjon)
        self._expected.add(content, correction, late=message.late, has_original=has_original)

    def on_current(self, message: TopicMessage, fields: dict[str, Any]) -> None:
        """Add a message of `…-gjeldende`."""
        if not self._is_ahead(self._gjeldende, message):
            correction = message.correction or 0
            self._expected.add_newest(content_of_fields(fields, correction), correction)

    def checks(self, ends: Mapping[str, Mapping[int, int]]) -> list[Check]:
        """Compare. `ends`: how far each topic has been read."""
        offsets = self._check_offsets(ends)
        names = [name for name in _TABLES if self.keeps_history or name in {LEDGER_NEWEST, LEDGER_PERIODS}]
        checks = {name: Check(name, "rows", self._rows.get(name, 0)) for name in names}
        suspects = self._expected.differing(self._found, history=self.keeps_history)
        if suspects:
            self._explain(suspects, checks)
        return [offsets, *checks.values(), self._conflicts]

    def _is_ahead(self, topic: str, message: TopicMessage) -> bool:
        """Whether the ledger has not reached the message yet."""
        if message.offset < self._offsets.get((topic, message.partition), 0):
            return False
        # After a replay of the current state a ledger continues in versjoner, and its offsets in gjeldende stay.
        if topic == self._versjoner or not self.reads_versjoner:
            self._behind += 1
        return True

    def _check_offsets(self, ends: Mapping[str, Mapping[int, int]]) -> Check:
        check = Check(LEDGER_OFFSETS, "partitions", len(self._offsets))
        for (topic, partition), offset in sorted(self._offsets.items()):
            place = f"{topic}/{partition}"
            if topic not in ends:
                check.add(Difference("the ledger was filled from a topic of another prefix", place=place))
            elif partition not in ends[topic]:
                check.add(
                    Difference("the ledger has an offset of a partition that the topic does not have", place=place)
                )
            elif offset > ends[topic][partition]:
                check.add(
                    Difference(
                        f"the ledger is at {offset}, beyond the topic's end at {ends[topic][partition]}", place=place
                    )
                )
        if self._behind:
            check.notes.append(
                f"{self._behind} events are not in the ledger yet: compared up to the ledger's own offsets"
            )
        if not self.keeps_history:
            check.notes.append("the ledger was filled from gjeldende: only its newest versions are compared")
        return check

    def _explain(self, suspects: set[str], checks: dict[str, Check]) -> None:
        """Compare these orders field by field, in one snapshot of the ledger."""
        some = set(sorted(suspects)[:ORDERS_EXPLAINED_MAX])
        stored: dict[str, StoredOrder] = {trekkid: StoredOrder() for trekkid in some}
        with Inspection(self._url) as inspection:
            offsets = inspection.offsets
            for name in checks:
                table, attribute = _TABLES[name]
                for rows in inspection.rows(table, some):
                    for row in rows:
                        getattr(stored[row[0]], attribute).append(row)
        wanted: dict[str, PublishedOrder] = {}
        for filled_from in sorted({topic for topic, _ in offsets} & {self._versjoner, self._gjeldende}):
            limits = {partition: offset for (topic, partition), offset in offsets.items() if topic == filled_from}
            for trekkid, found in self._order_reader.read(filled_from, some, limits).items():
                for version, each in found.versions.items():
                    wanted.setdefault(trekkid, PublishedOrder()).versions.setdefault(version, each)
        for trekkid in sorted(some):
            for name, difference in differences_of(
                trekkid, wanted.get(trekkid), stored[trekkid], history=self.keeps_history
            ):
                checks[name].add(difference)
        for trekkid in sorted(suspects - some):
            checks[LEDGER_NEWEST].add(Difference("differs in one of the tables; see the differences above", trekkid))
