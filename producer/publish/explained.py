"""A lane's publisher in; one out whose errors say why Kafka takes nothing and what to do, where Kafka tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producer.errors import AbortedError, NotPermittedError, OutcomeUnknownError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.domain.state import LaneState
    from producer.publish.port import LanePublisher, Record

ABORTED_SECONDS_MIN = 5.0
"""What is aborted sooner was so by the group, which gives the lane to another, not by a Kafka that takes nothing."""


class ExplainedPublisher:
    """Raises what `publisher` raises. `explain` asks Kafka, in the lane's thread: a reason, or nothing to say."""

    def __init__(self, publisher: LanePublisher, explain: Callable[[], str | None]) -> None:
        self._publisher = publisher
        self._explain = explain

    def take(self, is_stopping: Callable[[], bool] = lambda: False) -> LaneState:
        """See `LanePublisher.take`."""
        try:
            return self._publisher.take(is_stopping)
        except NotPermittedError:
            raise
        except RetryableError as error:
            if is_stopping():
                raise
            words = self._explained(error)
            raise RetryableError(words, retry_after_seconds=error.retry_after_seconds) from error

    def publish(self, records: Sequence[Record], signal_offset: int) -> None:
        """See `LanePublisher.publish`."""
        began = time.monotonic()
        try:
            self._publisher.publish(records, signal_offset)
        except OutcomeUnknownError as error:
            raise OutcomeUnknownError(self._explained(error)) from error
        except AbortedError as error:
            if time.monotonic() - began < ABORTED_SECONDS_MIN:
                raise
            raise AbortedError(self._explained(error)) from error

    def look(self) -> None:
        """See `LanePublisher.look`."""
        self._publisher.look()

    def close(self) -> None:
        """See `LanePublisher.close`."""
        self._publisher.close()

    def _explained(self, error: Exception) -> str:
        reason = self._explain()
        return str(error) if reason is None else f"{error}: {reason}"
