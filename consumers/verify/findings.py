"""What a proof has found: named checks, how much each has looked at, and every difference exactly. Pure.

No difference holds a value of an event; a trekkid that holds a national id is masked before it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MASKED = "***"

ONCE = "once"
ORDER = "order"
COMPLETE = "complete"
CORRECTIONS = "corrections"
GJELDENDE = "gjeldende"
HEADERS = "headers"
POSITIONS = "positions"
LEDGER_OFFSETS = "ledger_offsets"
LEDGER_HISTORY = "ledger_history"
LEDGER_NEWEST = "ledger_newest"
LEDGER_PERIODS = "ledger_periods"
LEDGER_REPLACED = "ledger_replaced"
LEDGER_CONFLICTS = "ledger_conflicts"
SOURCE_NEWEST = "source_newest"
SOURCE_VERSIONS = "source_versions"

PROMISES = {
    ONCE: "each (trekkid, trekkversjon) stands once in versjoner",
    ORDER: "versions of an order rise, in one partition",
    COMPLETE: "no version is missing, save those known to be missing at the source",
    CORRECTIONS: "corrections 1..n of a version each stand once, after it",
    GJELDENDE: "gjeldende holds the newest of versjoner, the same bytes, never an older one after a newer",
    HEADERS: "headers and keys agree with values; no key holds a national id",
    POSITIONS: "what positions says is published stands in versjoner",
    LEDGER_OFFSETS: "the ledger's offsets lie within the topic",
    LEDGER_HISTORY: "the ledger's history equals the topic, field by field",
    LEDGER_NEWEST: "the ledger's newest version of each order is the topic's",
    LEDGER_PERIODS: "the ledger's periods are those of the newest versions",
    LEDGER_REPLACED: "the ledger keeps what corrections replaced",
    LEDGER_CONFLICTS: "no event came into the ledger with other content than the same version before",
    SOURCE_NEWEST: "the newest version of each order is the source's, field by field",
    SOURCE_VERSIONS: "every version is the source's, field by field",
}
"""Every check by name, in the order in which they are shown, and what holds where it is good."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not as promised. `place` is topic/partition/offset where one message is meant."""

    what: str
    trekkid: str | None = None
    trekkversjon: int | None = None
    correction: int | None = None
    fields: tuple[str, ...] = ()
    place: str | None = None


class Check(msgspec.Struct):
    """One check: how many messages, orders or rows it has examined, what it found, and what else is worth saying."""

    name: str
    unit: str
    examined: int = 0
    differences: list[Difference] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.differences

    def add(self, difference: Difference) -> None:
        """One more difference."""
        self.differences.append(difference)


class Proof(msgspec.Struct):
    """All checks that were made, in their order, and how long it took."""

    checks: list[Check]
    events: int = 0
    """Messages read from the event topics."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all hold."""
        return all(check.ok for check in self.checks)


def masked(checks: Iterable[Check], national: Collection[str]) -> None:
    """Mask those trekkid in all differences, which hold a national id."""
    if not national:
        return
    for check in checks:
        check.differences = [
            msgspec.structs.replace(each, trekkid=MASKED) if each.trekkid in national else each
            for each in check.differences
        ]
