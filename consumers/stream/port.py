"""What a worker reads from: batches of messages, each with how far it moves the ledger's offsets, and their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from confluent_kafka import Message

from consumers.ledger.port import Advance, Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from consumers.observe.port import Look


class Batch(msgspec.Struct):
    """Messages, in order within each partition, and the offsets that they move, by partition."""

    messages: list[Message]
    advances: dict[Partition, Advance]

    @property
    def written_at(self) -> float | None:
        """When the last message was written to Kafka, in seconds since 1970, if it says so."""
        milliseconds = self.messages[-1].timestamp()[1] if self.messages else 0
        return milliseconds / 1000 if milliseconds > 0 else None


class Owner(Protocol):
    """Who reads: knows the ledger, and is told what happens. Called within `Subscription.read` and `close`."""

    def next_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Where to read these partitions from, which are this member's from now on. 0: nothing was read yet."""

    def hand_over(self, topic: str, partitions: Collection[int]) -> None:
        """Bring to an end what is under way, as these partitions are another member's from now on."""

    def tell(self, event: str, **details: object) -> None:
        """Something that people may want to know."""

    def is_stopping(self) -> bool:
        """Whether it is no use to wait for Kafka any longer."""


class Subscription(Protocol):
    """What batches come from; see `consumers.stream.subscription.Subscription`."""

    topic: str

    def read(self, records_max: int, seconds_max: float) -> Batch:
        """What has come."""

    def place_anew(self) -> None:
        """Go on where the ledger says."""

    def ends(self) -> dict[int, int]:
        """The offset after the last committed message of every partition."""

    def look(self) -> Look:
        """Kafka as it looks from here, without asking it."""

    def lag(self) -> int:
        """How many offsets are still ahead."""

    def show_progress(self, advances: Mapping[Partition, Advance]) -> None:
        """Tell the group how far the ledger has come."""

    def close(self) -> None:
        """Leave."""
