"""What a consumer reports about itself while it runs."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

import msgspec

from trekkpaalegg.exactly_once.worker import NullObserver as NullWorkerObserver
from trekkpaalegg.exactly_once.worker import Observer as WorkerObserver
from trekkpaalegg.retry import Service

if TYPE_CHECKING:
    from consumers.ledger.port import Changes


_LATE, _CORRECTION = attrgetter("late"), attrgetter("correction")


def applied_of(events: int, undecodable: int, changes: Changes, newest_at: float | None) -> Applied:
    """The numbers of a batch of so many events, and messages that are none.

    A version that comes together with its correction enters as a correction. In a ledger without history a version
    enters when it becomes the newest of its order.
    """
    late = sum(map(_LATE, changes.inserted))
    at_once = sum(map(bool, map(_CORRECTION, changes.inserted)))
    correction, conflict = len(changes.corrected) + at_once, len(changes.conflicts)
    new = len(changes.inserted) - late - at_once
    if not changes.inserted and not changes.corrected:
        new = len(changes.newest)
    known = events - new - late - correction - conflict
    return Applied(new, late, correction, conflict, max(known, 0), undecodable, newest_at)


OF_THE_LEDGER_CONSUMER = (Service.KAFKA, Service.REGISTRY, Service.LEDGER)
OF_A_FORWARDER = (Service.KAFKA, Service.REGISTRY, Service.STATE, Service.RECEIVER)


class Applied(msgspec.Struct, frozen=True):
    """What became of the messages of a batch that stands in the ledger.

    `new`, `late` and `correction` are versions that entered it, `conflict` such as contradict it without being marked
    as corrections, `known` all that it had already, or something newer. `newest_at` is when the batch's last message
    was written to Kafka, in seconds since 1970, where that is known.
    """

    new: int = 0
    late: int = 0
    correction: int = 0
    conflict: int = 0
    known: int = 0
    undecodable: int = 0
    newest_at: float | None = None


class Observer(WorkerObserver, Protocol):
    """What a ledger consumer reports. Called by any thread; must neither block nor raise."""

    def ended(self) -> None:
        """The loop has ended as it should; no more beats follow."""

    def applied(self, applied: Applied) -> None:
        """A batch is committed to the ledger."""


class NullObserver(NullWorkerObserver):
    """Ignores everything."""

    def ended(self) -> None:
        """Ignore."""

    def applied(self, applied: Applied) -> None:
        """Ignore."""
