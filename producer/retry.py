"""A call that may fail in passing in, its result or last error out: how often, after what pauses, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    import threading

CALL_TRIES: Final = 3
_FIRST_PAUSE_SECONDS_MAX: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 4.0
_OBEYED_PAUSE_SECONDS_MAX: Final = 5.0

_jittered_pause = wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS_MAX, max=_PAUSE_SECONDS_MAX)


def call_retries(stop: threading.Event, *, tries: int = CALL_TRIES) -> Retrying:
    """Short retries inside one call to the source, for failures that are gone in seconds.

    Only `RetryableError` is tried again, after the pause that it asks for, or a random one that grows. A longer pause
    than five seconds is for the schedule, which serves others meanwhile. The last error is raised as it is. Once
    `stop` is set no pause lasts and nothing is tried again. Safe for several threads.
    """
    return Retrying(
        retry=retry_if_exception(_is_short),
        wait=_pause_seconds,
        stop=stop_after_attempt(tries) | stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        reraise=True,
    )


def _is_short(error: BaseException) -> bool:
    return isinstance(error, RetryableError) and (error.retry_after_seconds or 0.0) <= _OBEYED_PAUSE_SECONDS_MAX


def _pause_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_seconds if isinstance(error, RetryableError) else None
    return _jittered_pause(state) if asked is None else asked
