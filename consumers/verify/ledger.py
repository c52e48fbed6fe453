"""A ledger and the topic that it was filled from in, every difference between them out.

The ledger's offsets and rows are taken at one moment, and the topic counts up to those offsets, so that a consumer at
work does no harm. First sums of all rows are compared; orders whose sums differ are then read again from both, at one
later moment, and compared field by field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.ledger import tables
from consumers.ledger.inspection import Inspection
from consumers.verify.content import content_of_fields
from consumers.verify.event_topics import without_cycle_collection
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
from consumers.verify.rows import Stored, Wanted, differences_of
from consumers.verify.sums import ExpectedSums, Sums, sums_of_ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.verify.again import SecondReading
    from consumers.verify.event_topics import Progress
    from consumers.verify.history import History, Message

ORDERS_EXPLAINED_MAX = 20_000
"""How many orders are compared field by field; of further ones only that they differ is told."""

_TABLES = {
    LEDGER_HISTORY: (tables.trekkpaalegg_versjon, "history"),
    LEDGER_NEWEST: (tables.trekkpaalegg, "newest"),
    LEDGER_PERIODS: (tables.trekkstoerrelse_for_periode, "periods"),
    LEDGER_REPLACED: (tables.trekkpaalegg_versjon_replaced, "replaced"),
}


class LedgerProof:
    """One ledger against the topics of one prefix: `read_ledger`, then all messages, then `checks`.

    Raises as `Inspection`, as `CommittedReader` and as the schema source.
    """

    def __init__(self, url: str, prefix: str, second: SecondReading, progress: Progress) -> None:
        self._url = url
        self._second = second
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
        """Whether events of `…-versjoner` are in the ledger: after a replay of the current state it goes on there."""
        return self.keeps_history or any(topic == self._versjoner for topic, _ in self._offsets)

    def read_ledger(self) -> None:
        """Take the ledger's offsets, and the sums of all its rows, at one moment; before the topics are read."""
        with without_cycle_collection(), Inspection(self._url) as inspection:
            self._offsets = inspection.offsets
            self._rows = {name: inspection.count(table) for name, (table, _) in _TABLES.items()}
            self._progress.expect(sum(self._rows.values()))
            self._found = sums_of_ledger(inspection, self._progress.advance)
            for rows in inspection.rows(tables.trekkpaalegg_conflict):
                for topic, partition, offset, trekkid, trekkversjon, *_ in rows:
                    place = f"{topic}/{partition}/{offset}"
                    what = "came with other content than the same version before"
                    self._conflicts.add(Difference(what, trekkid, trekkversjon, place=place))
                    self._conflicts.examined += 1

    def on_version(self, history: History, message: Message, fields: dict[str, Any], is_first: bool) -> None:  # noqa: FBT001 - a callback's
        """One message of `…-versjoner`, which `history` has taken; whether that version comes for the first time."""
        if self._is_ahead(self._versjoner, message) or not is_first:
            return
        correction = message.correction or 0
        content = content_of_fields(fields, correction)
        if not self.keeps_history:
            self._expected.take_newest(content, correction)
            return
        has_original = correction == 0 or history.has(history.places[message.key], message.trekkversjon)
        self._expected.take(content, correction, late=message.late, has_original=has_original)

    def on_current(self, message: Message, fields: dict[str, Any]) -> None:
        """One message of `…-gjeldende`."""
        if not self._is_ahead(self._gjeldende, message):
            correction = message.correction or 0
            self._expected.take_newest(content_of_fields(fields, correction), correction)

    def checks(self, ends: Mapping[str, Mapping[int, int]]) -> list[Check]:
        """Compare. `ends` are how far each topic has been read."""
        offsets = self._check_offsets(ends)
        names = [name for name in _TABLES if self.keeps_history or name in {LEDGER_NEWEST, LEDGER_PERIODS}]
        checks = {name: Check(name, "rows", self._rows.get(name, 0)) for name in names}
        suspects = self._expected.differing(self._found, history=self.keeps_history)
        if suspects:
            self._explain(suspects, checks)
        return [offsets, *checks.values(), self._conflicts]

    def _is_ahead(self, topic: str, message: Message) -> bool:
        """Whether the ledger has not come to the message yet."""
        if message.offset < self._offsets.get((topic, message.partition), 0):
            return False
        # A ledger that goes on in versjoner after a replay of the current state never moves on in gjeldende.
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
                check.add(Difference("the ledger has an offset, and the topic no such partition", place=place))
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
        """Compare these orders field by field, as they are at one moment from now on."""
        some = set(sorted(suspects)[:ORDERS_EXPLAINED_MAX])
        stored: dict[str, Stored] = {trekkid: Stored() for trekkid in some}
        with Inspection(self._url) as inspection:
            offsets = inspection.offsets
            for name in checks:
                table, attribute = _TABLES[name]
                for rows in inspection.rows(table, some):
                    for row in rows:
                        getattr(stored[row[0]], attribute).append(row)
        wanted: dict[str, Wanted] = {}
        for filled_from in sorted({topic for topic, _ in offsets} & {self._versjoner, self._gjeldende}):
            limits = {partition: offset for (topic, partition), offset in offsets.items() if topic == filled_from}
            for trekkid, found in self._second.read(filled_from, some, limits).items():
                for version, each in found.versions.items():
                    wanted.setdefault(trekkid, Wanted()).versions.setdefault(version, each)
        for trekkid in sorted(some):
            for name, difference in differences_of(
                trekkid, wanted.get(trekkid), stored[trekkid], history=self.keeps_history
            ):
                checks[name].add(difference)
        for trekkid in sorted(suspects - some):
            checks[LEDGER_NEWEST].add(Difference("differs in one of the tables; see the differences above", trekkid))
