"""Calls that may fail for a while: how often, after which pauses, and what is reported meanwhile."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from consumers.observe.port import Asked, Observer, Other
from trekkpaalegg.errors import DisplacedError, FencedError, ForgottenError, RefusedError, RetryableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from trekkpaalegg.errors import TrekkpaaleggError


T = TypeVar("T")

_FIRST_PAUSE_SECONDS_MAX = 0.2
_PAUSE_SECONDS_MAX = 5.0


class Patience:
    """Calls again while `RetryableError` is raised, for ever, with random pauses that grow to a few seconds.

    The first failure is told, and the end of the trouble; `failed` is called with the reason of each. Once `stopping`
    is set the last error is raised. Safe for several threads.
    """

    def __init__(
        self, stopping: threading.Event, tell: Callable[..., None], failed: Callable[[str], None] | None = None
    ) -> None:
        self._stopping = stopping
        self._tell = tell
        self._failed = failed

    def call(self, call: Callable[[], T]) -> T:
        """What the call gives, or the error that it raises if that does not pass."""
        retrying = Retrying(
            retry=retry_if_exception_type(RetryableError),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS_MAX, max=_PAUSE_SECONDS_MAX),
            sleep=sleep_using_event(self._stopping),
            stop=stop_when_event_set(self._stopping),
            before_sleep=self._tell_trouble,
            reraise=True,
        )
        result = retrying(call)
        attempts = retrying.statistics["attempt_number"]
        if attempts > 1:
            self._tell("goes on", attempts=attempts)
        return result

    def _tell_trouble(self, state: RetryCallState) -> None:
        if state.outcome is None:
            return
        reason = str(state.outcome.exception())
        if state.attempt_number == 1:
            self._tell("in trouble, trying again", reason=reason)
        if self._failed is not None:
            self._failed(reason)


class Asking:
    """Patience with each other service. Safe for several threads, as long as each other is asked by one at a time."""

    def __init__(self, stopping: threading.Event, tell: Callable[..., None], observer: Asked) -> None:
        self._observer = observer
        self._patience = {other: Patience(stopping, tell, partial(observer.call_failed, other)) for other in Other}

    def ask(self, other: Other, call: Callable[[], T]) -> T:
        """What the call gives, or the error that it raises if that does not pass, or if it is time to stop."""
        self._observer.call_begins(other)
        try:
            return self._patience[other].call(call)
        finally:
            self._observer.call_ended(other)


JOINED_AGAIN_SECONDS_MIN = 60.0
"""Who is fenced again sooner has a rival."""


class Admission:
    """How one worker stands at Kafka's door. `tell` as of the worker. Used by one thread."""

    def __init__(
        self, tell: Callable[..., None], observer: Observer, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._observer = observer
        self._monotonic = monotonic
        self._refused = ""
        self._joined_again_at = -math.inf

    def granted(self) -> None:
        """Partitions were given to us."""
        if self._refused:
            self._observer.call_ended(Other.KAFKA)
            self._refused = ""

    def denied(self, error: TrekkpaaleggError) -> None:
        """Returns when it is to be tried again after a pause. Raises the error, or `FencedError`, when it is not.

        Who was refused once waits for whatever passes, such as a key that does not fit its new certificate yet.
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
