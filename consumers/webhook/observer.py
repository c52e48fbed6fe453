"""What a forwarder tells about itself while it runs; whoever counts it, and says whether it is well, listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from consumers.observe.port import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.observe.port import Look, Other
    from consumers.webhook.answer import Meaning
    from consumers.webhook.kept import Kept


class Observer(Asked, Protocol):
    """Told by one thread; must neither block nor raise. No argument holds a value from an event."""

    def beat(self) -> None:
        """The loop has turned, or waits and knows that it does."""

    def looked(self, look: Look) -> None:
        """What Kafka looks like from here, every time that it is read."""

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """So far the state has come in these partitions."""

    def taken(self, count: int) -> None:
        """So many messages were read and are kept now."""

    def attempted(self, meaning: Meaning) -> None:
        """An event was sent, and this came of it."""

    def undecodable(self) -> None:
        """An event was not sent, as it cannot be decoded."""

    def waits(self, count: int) -> None:
        """So many are to be sent, those on their way among them: every time that the loop turns."""

    def kept(self, kept: Kept, parked_max: int) -> None:
        """What the state holds; with more than `parked_max` parked ones the forwarder ends."""


class NullObserver:
    """Listens to nothing."""

    def beat(self) -> None:
        """Ignore."""

    def looked(self, look: Look) -> None:
        """Ignore."""

    def read_to(self, next_offsets: Mapping[int, int]) -> None:
        """Ignore."""

    def taken(self, count: int) -> None:
        """Ignore."""

    def attempted(self, meaning: Meaning) -> None:
        """Ignore."""

    def undecodable(self) -> None:
        """Ignore."""

    def waits(self, count: int) -> None:
        """Ignore."""

    def kept(self, kept: Kept, parked_max: int) -> None:
        """Ignore."""

    def call_begins(self, other: Other) -> None:
        """Ignore."""

    def call_failed(self, other: Other, reason: str) -> None:
        """Ignore."""

    def call_ended(self, other: Other) -> None:
        """Ignore."""
