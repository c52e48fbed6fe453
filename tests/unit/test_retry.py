"""Short retries inside one call: how often, how long, and that a stop ends them at once."""

from __future__ import annotations

import threading
import time

import pytest

from producer.errors import SuspendedError
from producer.retry import CALL_TRIES, call_retries
from trekkpaalegg.errors import RetryableError, TrekkpaaleggError


class Troubled:
    """Fails with each error in turn, then gives its result."""

    def __init__(self, *errors: TrekkpaaleggError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "result"


def at_once() -> RetryableError:
    return RetryableError("busy", retry_after_seconds=0)


def test_a_passing_failure_is_bridged() -> None:
    troubled = Troubled(at_once(), RetryableError("reset"))
    assert call_retries(threading.Event())(troubled) == "result"
    assert troubled.calls == 3


def test_the_last_error_is_raised_as_it_is() -> None:
    last = at_once()
    troubled = Troubled(*[at_once() for _ in range(CALL_TRIES - 1)], last)
    with pytest.raises(RetryableError) as caught:
        call_retries(threading.Event())(troubled)
    assert caught.value is last
    assert troubled.calls == CALL_TRIES


@pytest.mark.parametrize("error", [SuspendedError("403"), RetryableError("later", retry_after_seconds=60)])
def test_what_does_not_pass_in_seconds_is_raised_at_once(error: TrekkpaaleggError) -> None:
    troubled = Troubled(error)
    with pytest.raises(type(error)):
        call_retries(threading.Event())(troubled)
    assert troubled.calls == 1


def test_the_pause_asked_for_is_kept() -> None:
    begun = time.monotonic()
    call_retries(threading.Event())(Troubled(RetryableError("busy", retry_after_seconds=0.05)))
    assert time.monotonic() - begun >= 0.05


def test_a_stop_ends_the_pause_and_the_tries() -> None:
    stop = threading.Event()
    troubled = Troubled(RetryableError("busy", retry_after_seconds=5), RetryableError("busy", retry_after_seconds=5))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(RetryableError):
        call_retries(stop)(troubled)
    timer.join()
    assert time.monotonic() - begun < 2
    assert troubled.calls <= 2
