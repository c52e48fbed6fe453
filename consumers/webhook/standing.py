"""What a forwarder's loop, Kafka, state and receiver last showed in, what is missing and how far behind out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumers.observe.port import OF_A_FORWARDER
from consumers.observe.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable


class ForwarderStanding(Standing):
    """See `Standing`. Caught up means that all was delivered or parked once that the topic had at the start."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(monotonic, OF_A_FORWARDER)
        self._delivered = False

    @property
    def is_caught_up(self) -> bool:
        """See the class."""
        return self._delivered

    def waits(self, count: int) -> None:
        """See `consumers.webhook.observer.Observer`."""
        self._delivered = self._delivered or (count == 0 and super().is_caught_up)
