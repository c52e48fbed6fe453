"""Retry calls that fail temporarily: backoff with jitter, `Retry-After`, limits, and an end when the program stops."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    wait_random_exponential,
)

from trekkpaalegg.errors import RetryableError, release_frames

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Retry:
    """Calls again while `RetryableError` is raised; other errors, and the last one, are raised as they are.

    With `retried` only errors of that class are retried. The pause before each attempt is what the error's
    `retry_after_seconds` asks for, else random, up to a limit that doubles from `first_pause_seconds_max` to
    `pause_seconds_max`. An error that asks for a pause longer than `retry_after_seconds_max` is raised at once.
    Attempts end after `attempts_max` of them, after `seconds_max` (which may be a function), or once `stopping` is set,
    which also cuts a pause short; without any of these, never.

    `report(event, **details)` is called after the first failure of a call and when a later attempt succeeds,
    `failed(reason)` before every pause. Safe for several threads.
    """

    def __init__(  # noqa: PLR0913 - each limit and each listener may be left out
        self,
        *,
        retried: type[RetryableError] = RetryableError,
        stopping: threading.Event | None = None,
        attempts_max: int | None = None,
        seconds_max: float | Callable[[], float] = math.inf,
        first_pause_seconds_max: float = 0.2,
        pause_seconds_max: float = 5.0,
        retry_after_seconds_max: float = math.inf,
        report: Callable[..., None] | None = None,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        self._retried = retried
        self._stopping = stopping
        self._attempts_max = math.inf if attempts_max is None else attempts_max
        self._seconds_max = seconds_max
        self._retry_after_seconds_max = retry_after_seconds_max
        self._random_pause = wait_random_exponential(multiplier=first_pause_seconds_max, max=pause_seconds_max)
        self._report = report
        self._failed = failed

    def __call__(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The result of the call, or the error that ended the attempts."""
        retrying = Retrying(
            retry=retry_if_exception(self._is_retried),
            wait=self._pause_seconds,
            stop=self._has_ended,
            sleep=sleep_using_event(self._stopping) if self._stopping else time.sleep,
            before_sleep=self._before_pause,
            reraise=True,
        )
        try:
            result = retrying(call, *arguments, **named)
        except BaseException as error:
            release_frames(error)  # tenacity keeps the error in a frame of its own traceback
            raise
        finally:
            retrying.iter_state.reset()  # of methods of its own: another cycle, with all that this object holds
        attempts = retrying.statistics["attempt_number"]
        if attempts > 1 and self._report is not None:
            self._report("retry succeeded", attempts=attempts)
        return result

    def _is_retried(self, error: BaseException) -> bool:
        return isinstance(error, self._retried) and (error.retry_after_seconds or 0.0) <= self._retry_after_seconds_max

    def _has_ended(self, state: RetryCallState) -> bool:
        seconds_max = self._seconds_max() if callable(self._seconds_max) else self._seconds_max
        is_late = state.attempt_number >= self._attempts_max or (state.seconds_since_start or 0.0) >= seconds_max
        return is_late or (self._stopping is not None and self._stopping.is_set())

    def _pause_seconds(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        requested = error.retry_after_seconds if isinstance(error, RetryableError) else None
        return self._random_pause(state) if requested is None else requested

    def _before_pause(self, state: RetryCallState) -> None:
        reason = str(state.outcome.exception()) if state.outcome is not None else ""
        if state.attempt_number == 1 and self._report is not None:
            self._report("call failed; retrying", reason=reason)
        if self._failed is not None:
            self._failed(reason)


SHORT_ATTEMPTS_MAX: Final = 3


def short_retry(stopping: threading.Event) -> Retry:
    """Up to three attempts within seconds, for calls whose longer pauses are up to a schedule, which serves others."""
    return Retry(
        stopping=stopping,
        attempts_max=SHORT_ATTEMPTS_MAX,
        first_pause_seconds_max=0.5,
        pause_seconds_max=4.0,
        retry_after_seconds_max=5.0,
    )


class Service(Enum):
    """What a consumer calls, and waits for while it does not answer. The value is the label in metrics."""

    KAFKA = "kafka"
    REGISTRY = "registry"
    LEDGER = "ledger"
    """The database that events are written to."""
    STATE = "state"
    """The database of a webhook forwarder."""
    RECEIVER = "receiver"
    """The receiver of a webhook forwarder."""


class CallObserver:
    """Follows calls to services. Subclasses override; they must neither block nor raise."""

    def call_begins(self, service: Service) -> None:
        """It is called, which may take its time. One call at a time to each service."""

    def call_failed(self, service: Service, reason: str) -> None:
        """The call failed; it is repeated after a pause."""

    def call_ended(self, service: Service) -> None:
        """The call succeeded, or is not repeated any more."""


class ServiceRetry:
    """Retries calls to services until they succeed or `stopping` is set.

    Safe for several threads, as long as each service is called by one thread at a time.
    """

    def __init__(self, stopping: threading.Event, report: Callable[..., None], observer: CallObserver) -> None:
        self._observer = observer
        self._retries = {
            service: Retry(stopping=stopping, report=report, failed=partial(observer.call_failed, service))
            for service in Service
        }

    def call(self, service: Service, call: Callable[[], T]) -> T:
        """The result of the call. Raises its error if that is not temporary, or if it is time to stop."""
        self._observer.call_begins(service)
        try:
            return self._retries[service](call)
        finally:
            self._observer.call_ended(service)


RETRY_AFTER_SECONDS_MAX: Final = 3600.0
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after_seconds(
    header: str | None, now_seconds: float, seconds_max: float = RETRY_AFTER_SECONDS_MAX
) -> float | None:
    """The pause that a header `Retry-After` asks for, at most `seconds_max`; None if it is missing or invalid.

    Both forms, seconds and date (RFC 9110 §10.2.3), and fractions of a second. `now_seconds` is the time since 1970.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), seconds_max)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - now_seconds, 0.0), seconds_max)
