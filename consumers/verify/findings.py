"""The findings of a proof: named checks, how much each has examined, and every difference. Pure.

No difference contains a value of an event; a trekkid that contains a national id is masked before it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
PLACES = "places"
IDENTITY = "identity"
LEDGER_OFFSETS = "ledger_offsets"
LEDGER_HISTORY = "ledger_history"
LEDGER_NEWEST = "ledger_newest"
LEDGER_PERIODS = "ledger_periods"
LEDGER_REPLACED = "ledger_replaced"
LEDGER_CONFLICTS = "ledger_conflicts"
SOURCE_NEWEST = "source_newest"
SOURCE_VERSIONS = "source_versions"

PROMISES = {
    ONCE: "each (trekkid, trekkversjon) is in versjoner exactly once",
    ORDER: "versions of an order rise, in one partition",
    COMPLETE: "no version is missing, except those known to be missing at the source",
    CORRECTIONS: "corrections 1..n of a version follow it, each exactly once",
    GJELDENDE: "gjeldende has the newest version of versjoner, with equal bytes, and never an older one after a newer",
    HEADERS: "headers and keys agree with values; no key contains a national id",
    POSITIONS: "every version that positions lists as published is in versjoner, and the other way round",
    PLACES: "each order is in one partition number in all topics: the one of its key by murmur2",
    IDENTITY: "application, cluster, topics and number of partitions are those that positions records",
    LEDGER_OFFSETS: "the ledger's offsets are within the topic",
    LEDGER_HISTORY: "the ledger's history equals the topic, field by field",
    LEDGER_NEWEST: "the ledger's newest version of each order is the topic's",
    LEDGER_PERIODS: "the ledger's periods are those of the newest versions",
    LEDGER_REPLACED: "the ledger keeps what corrections replaced",
    LEDGER_CONFLICTS: "no event reached the ledger with content that contradicts the same version",
    SOURCE_NEWEST: "the newest version of each order is the source's, field by field",
    SOURCE_VERSIONS: "every version is the source's, field by field",
}
"""Every check by name, in the order of display, and the promise that it verifies."""


class Progress(Protocol):
    """Receives the progress of a proof."""

    def expect(self, messages: int) -> None:
        """This number of further messages will be read."""

    def advance(self, messages: int) -> None:
        """This number of further messages has been read."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One violation of a promise. `place` is topic/partition/offset if it concerns one message, or what it concerns."""

    what: str
    trekkid: str | None = None
    trekkversjon: int | None = None
    correction: int | None = None
    fields: tuple[str, ...] = ()
    place: str | None = None


class Check(msgspec.Struct):
    """One check: how many messages, orders or rows it has examined, the differences, and further notes."""

    name: str
    unit: str
    examined: int = 0
    differences: list[Difference] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    def add(self, difference: Difference) -> None:
        """Add a difference."""
        self.differences.append(difference)


class Proof(msgspec.Struct):
    """All checks, in order, and how long they took."""

    checks: list[Check]
    events: int = 0
    """Messages read from the event topics."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all checks hold."""
        return all(check.ok for check in self.checks)


def masked(checks: Iterable[Check], national: Collection[str]) -> None:
    """Mask the trekkid in `national`, which contain a national id, in all differences."""
    if not national:
        return
    for check in checks:
        check.differences = [
            msgspec.structs.replace(each, trekkid=MASKED) if each.trekkid in national else each
            for each in check.differences
        ]
