"""The port through which a consumer reports what it does, to metrics and health."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from trekkpaalegg.exactly_once.worker import WorkerObserver
from trekkpaalegg.retry import Service

if TYPE_CHECKING:
    from consumers.ledger.port import Changes


_LATE, _CORRECTION = attrgetter("late"), attrgetter("correction")


def applied_of(events: int, undecodable: int, changes: Changes, newest_at: float | None) -> Applied:
    """The outcome of a batch of so many events and undecodable messages.

    A version that arrives together with its correction counts as a correction. In a ledger without history a version
    is new if it becomes the newest of its order.
    """
    late = sum(map(_LATE, changes.inserted))
    at_once = sum(map(bool, map(_CORRECTION, changes.inserted)))
    correction, conflict = len(changes.corrected) + at_once, len(changes.conflicts)
    new = len(changes.inserted) - late - at_once
    if not changes.inserted and not changes.corrected:
        new = len(changes.newest)
    known = events - new - late - correction - conflict
    return Applied(new, late, correction, conflict, max(known, 0), undecodable, newest_at)


LEDGER_CONSUMER_SERVICES = (Service.KAFKA, Service.REGISTRY, Service.LEDGER)
FORWARDER_SERVICES = (Service.KAFKA, Service.REGISTRY, Service.STATE, Service.RECEIVER)


class Applied(msgspec.Struct, frozen=True):
    """The outcome of a batch that is committed to the ledger.

    `new`, `late` and `correction` count versions that were added, `conflict` those that contradict the ledger without
    being marked as corrections, `known` those that it already has in this or a newer form. `newest_at` is when the
    last message of the batch was written to Kafka, in seconds since 1970, if that is known.
    """

    new: int = 0
    late: int = 0
    correction: int = 0
    conflict: int = 0
    known: int = 0
    undecodable: int = 0
    newest_at: float | None = None


class LedgerObserver(WorkerObserver):
    """What a ledger consumer reports. Called by any thread; must neither block nor raise. Subclasses override."""

    def ended(self) -> None:
        """The loop has ended normally; no more beats follow."""

    def applied(self, applied: Applied) -> None:
        """A batch is committed to the ledger."""
