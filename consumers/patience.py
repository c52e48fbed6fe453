"""A call that may fail in passing in, its result out, after pauses if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from consumers.errors import RetryableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

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
