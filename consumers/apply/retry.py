"""Retries calls to the ledger, the registry and Kafka for as long as they fail temporarily, and reports that."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from consumers.observe.port import Asked, Observer, Other
from trekkpaalegg.errors import DisplacedError, FencedError, ForgottenError, RefusedError
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from trekkpaalegg.errors import TrekkpaaleggError


T = TypeVar("T")


class ServiceRetry:
    """Retries calls to other services until they succeed or `stopping` is set.

    Safe for several threads, as long as each service is called by one thread at a time.
    """

    def __init__(self, stopping: threading.Event, tell: Callable[..., None], observer: Asked) -> None:
        self._observer = observer
        self._retries = {
            other: Retry(stopping=stopping, report=tell, failed=partial(observer.call_failed, other)) for other in Other
        }

    def call(self, other: Other, call: Callable[[], T]) -> T:
        """The result of the call. Raises its error if that is not temporary, or if it is time to stop."""
        self._observer.call_begins(other)
        try:
            return self._retries[other](call)
        finally:
            self._observer.call_ended(other)


JOINED_AGAIN_SECONDS_MIN = 60.0
"""A member that is fenced again sooner has a rival."""


class ConnectionPolicy:
    """Decides whether a worker connects to Kafka again after an error. Used by one thread."""

    def __init__(
        self, tell: Callable[..., None], observer: Observer, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._observer = observer
        self._monotonic = monotonic
        self._refused = ""
        self._joined_again_at = -math.inf

    def connected(self) -> None:
        """Partitions were assigned to us."""
        if self._refused:
            self._observer.call_ended(Other.KAFKA)
            self._refused = ""

    def failed(self, error: TrekkpaaleggError) -> None:
        """Return if the worker is to connect again after a pause. Raises the error, or `FencedError`, if it is not.

        Once refused, it waits out any error, such as a key that does not match its renewed certificate yet.
        """
        if isinstance(error, DisplacedError):
            self._join_again(error)
            return
        if isinstance(error, ForgottenError):
            self._tell(str(error))
            return
        if not (isinstance(error, RefusedError) or self._refused):
            raise error
        if str(error) != self._refused:
            self._tell("Kafka refuses this client; tried again until it does not", reason=str(error))
        self._refused = str(error)
        self._observer.call_begins(Other.KAFKA)
        self._observer.call_failed(Other.KAFKA, self._refused)

    def _join_again(self, error: DisplacedError) -> None:
        now = self._monotonic()
        if now - self._joined_again_at < JOINED_AGAIN_SECONDS_MIN:
            raise FencedError(str(error)) from error
        self._joined_again_at = now
        self._tell("fenced after the coordinator of the group was away: joining again", reason=str(error))
