"""What a consumer reports about itself while it runs."""

from __future__ import annotations

from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.ledger.port import Changes
    from trekkpaalegg.kafka.subscription import Look


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


class Other(Enum):
    """What is waited for when it does not answer. Kafka's silence is told by `Look`. `STATE` is a forwarder's."""

    KAFKA = "kafka"
    REGISTRY = "registry"
    LEDGER = "ledger"
    STATE = "state"
    RECEIVER = "receiver"


OF_THE_LEDGER_CONSUMER = (Other.KAFKA, Other.REGISTRY, Other.LEDGER)
OF_A_FORWARDER = (Other.KAFKA, Other.REGISTRY, Other.STATE, Other.RECEIVER)


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


class Asked(Protocol):
    """Told of calls to others; must neither block nor raise."""

    def call_begins(self, other: Other) -> None:
        """It is asked for something, which may take its time. One call at a time of each."""

    def call_failed(self, other: Other, reason: str) -> None:
        """It did not give it; it will be asked again."""

    def call_ended(self, other: Other) -> None:
        """It gave it, or is not asked any more."""


class Observer(Asked, Protocol):
    """Told by any thread; must neither block nor raise. No argument holds a value from an event."""

    def beat(self) -> None:
        """The loop has turned, or waits and knows that it does."""

    def ended(self) -> None:
        """The loop has ended as it should; it need not beat any more."""

    def looked(self, look: Look) -> None:
        """What Kafka looks like from here, every time that the loop turns."""

    def ledger_stands(self, next_offsets: Mapping[int, int]) -> None:
        """So far the ledger has come in these partitions."""

    def applied(self, applied: Applied) -> None:
        """A batch stands in the ledger."""

    def batch_written(self, seconds: float) -> None:
        """It took so long to write, with what was waited for."""

    def overtaken(self) -> None:
        """A batch was not written, as another owner or a replay has moved the ledger's offsets."""

    def undecodable(self, count: int, limit: int) -> None:
        """So many undecodable messages lie in the ledger now; with more than `limit` the consumer ends itself."""


class NullObserver:
    """Listens to nothing."""

    def beat(self) -> None:
        """Ignore."""

    def ended(self) -> None:
        """Ignore."""

    def looked(self, look: Look) -> None:
        """Ignore."""

    def ledger_stands(self, next_offsets: Mapping[int, int]) -> None:
        """Ignore."""

    def applied(self, applied: Applied) -> None:
        """Ignore."""

    def batch_written(self, seconds: float) -> None:
        """Ignore."""

    def overtaken(self) -> None:
        """Ignore."""

    def undecodable(self, count: int, limit: int) -> None:
        """Ignore."""

    def call_begins(self, other: Other) -> None:
        """Ignore."""

    def call_failed(self, other: Other, reason: str) -> None:
        """Ignore."""

    def call_ended(self, other: Other) -> None:
        """Ignore."""
