"""What a ledger must hold of some orders and what it holds in, every difference by table, row and field out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from consumers.verify.content import (
    ORDER_FIELDS,
    Content,
    Period,
    UnreadableRowError,
    content_of_row,
    differing,
    differing_periods,
    order_of_row,
    period_of_row,
)
from consumers.verify.findings import (
    LEDGER_HISTORY,
    LEDGER_NEWEST,
    LEDGER_PERIODS,
    LEDGER_REPLACED,
    Difference,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Found = tuple[str, Difference]
"""Name of the check, and what it found."""

Version = tuple[int, int]
"""trekkversjon and correction."""


class Wanted(msgspec.Struct):
    """One order as the topic has it, filled message by message. Of equal (version, correction) the first counts."""

    versions: dict[Version, tuple[Content, bool]] = {}
    """By version the content, and whether it came late."""

    def take(self, content: Content, correction: int, *, late: bool) -> None:
        """One message."""
        self.versions.setdefault((content.order[1], correction), (content, late))

    def newest(self) -> Content:
        """The newest version in its last correction."""
        return self.versions[max(self.versions)][0]

    def history(self) -> dict[Version, tuple[Content, bool]]:
        """What must stand in the history: of each version the last correction."""
        last: dict[int, int] = {}
        for version, correction in self.versions:
            last[version] = max(last.get(version, 0), correction)
        return {version: each for version, each in self.versions.items() if last[version[0]] == version[1]}


class Stored(msgspec.Struct):
    """One order as the ledger has it: rows as the database gave them."""

    newest: list[Any] = []
    periods: list[Any] = []
    history: list[Any] = []
    replaced: list[Any] = []


def differences_of(trekkid: str, wanted: Wanted | None, stored: Stored, *, history: bool) -> Iterator[Found]:
    """Every difference of one order; `wanted` is None where the topic has no such order."""
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
            yield LEDGER_NEWEST, Difference("in the ledger and not in the topic", trekkid, row[1])
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
        yield LEDGER_NEWEST, Difference("otherwise than in the topic", trekkid, version, correction, fields)


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
            yield LEDGER_PERIODS, Difference("in the ledger and not in the topic", trekkid, version, fields=(name,))
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
                yield LEDGER_PERIODS, Difference("otherwise than in the topic", trekkid, version, fields=fields)


def _of_versions(
    check: str, trekkid: str, wanted: dict[Version, tuple[Content, bool]], rows: Iterable[Any]
) -> Iterator[Found]:
    """Rows of the history are known by their trekkversjon alone: their correction is a field that may differ."""
    by_version: dict[Any, Version] = {
        (version[0] if check == LEDGER_HISTORY else version): version for version in wanted
    }
    seen = set()
    for row in rows:
        version: Version | None = by_version.get(row[1] if check == LEDGER_HISTORY else (row[1], row[13]))
        if version is None:
            yield check, Difference("in the ledger and not in the topic", trekkid, row[1], row[13] or None)
            continue
        seen.add(version)
        fields = _fields(*wanted[version], row)
        if fields:
            yield check, Difference("otherwise than in the topic", trekkid, version[0], version[1] or None, fields)
    for trekkversjon, correction in sorted(wanted.keys() - seen):
        yield check, Difference("missing from the ledger", trekkid, trekkversjon, correction or None)


def _fields(content: Content, late: bool, row: Any) -> tuple[str, ...]:  # noqa: ANN401, FBT001 - as the database gave it; a pair's second
    try:
        found, found_late = content_of_row(row)
    except UnreadableRowError as error:
        return (str(error),)
    fields = differing(content.order, found.order, ORDER_FIELDS) + differing_periods(content.periods, found.periods)
    return fields if late == found_late else (*fields, "late")
