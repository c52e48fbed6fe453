"""Retries: how often, after which pauses, what is reported, and that a stop ends them at once."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import SuspendedError
from trekkpaalegg.errors import RetryableError, TrekkpaaleggError, release_frames
from trekkpaalegg.retry import SHORT_ATTEMPTS_MAX, Retry, retry_after_seconds, short_retry


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


def test_a_temporary_failure_is_retried() -> None:
    troubled = Troubled(at_once(), RetryableError("reset"))
    assert short_retry(threading.Event())(troubled) == "result"
    assert troubled.calls == 3


def test_the_last_error_is_raised_as_it_is() -> None:
    last = at_once()
    troubled = Troubled(*[at_once() for _ in range(SHORT_ATTEMPTS_MAX - 1)], last)
    with pytest.raises(RetryableError) as caught:
        short_retry(threading.Event())(troubled)
    assert caught.value is last
    assert troubled.calls == SHORT_ATTEMPTS_MAX


@pytest.mark.parametrize("error", [SuspendedError("403"), RetryableError("later", retry_after_seconds=60)])
def test_an_error_that_lasts_longer_than_seconds_is_raised_at_once(error: TrekkpaaleggError) -> None:
    troubled = Troubled(error)
    with pytest.raises(type(error)):
        short_retry(threading.Event())(troubled)
    assert troubled.calls == 1


def test_a_requested_pause_is_kept() -> None:
    begun = time.monotonic()
    short_retry(threading.Event())(Troubled(RetryableError("busy", retry_after_seconds=0.05)))
    assert time.monotonic() - begun >= 0.05


def test_a_stop_ends_pause_and_attempts() -> None:
    stop = threading.Event()
    troubled = Troubled(RetryableError("busy", retry_after_seconds=5), RetryableError("busy", retry_after_seconds=5))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(RetryableError):
        short_retry(stop)(troubled)
    timer.join()
    assert time.monotonic() - begun < 2
    assert troubled.calls <= 2


def test_first_failure_and_success_are_reported_and_every_reason_is_passed_on() -> None:
    reports: list[tuple[str, dict[str, object]]] = []
    reasons: list[str] = []
    retry = Retry(report=lambda event, **details: reports.append((event, details)), failed=reasons.append)
    assert retry(Troubled(at_once(), at_once())) == "result"
    assert retry(Troubled()) == "result"
    assert reports == [("call failed; retrying", {"reason": "busy"}), ("retry succeeded", {"attempts": 3})]
    assert reasons == ["busy", "busy"]


def test_attempts_end_when_their_time_is_up() -> None:
    begun = time.monotonic()
    with pytest.raises(RetryableError):
        Retry(seconds_max=lambda: 0.05, first_pause_seconds_max=0.01)(Troubled(*[RetryableError("no")] * 10_000))
    assert time.monotonic() - begun >= 0.05


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((None, None), ("", None), ("soon", None), ("-5", None), ("²", None)),
        *(("0", 0.0), (" 120 ", 120.0), ("1.5", 1.5), ("86400", 3600.0), ("9" * 5000, 3600.0)),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2027 12:00:00 GMT", 3600.0),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_it(text: str) -> None:
    seconds = retry_after_seconds(text, NOW, 60.0)
    assert seconds is None or 0 <= seconds <= 60


# What a call used is given back at once: it may be a Kafka client with four threads


class Used:
    """Something that a call uses; `report` is called before each pause."""

    def report(self, _reason: str) -> None:
        pass


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_nothing_is_kept_of_what_a_call_used(failures: int) -> None:
    def use() -> weakref.ref[Used]:
        used, troubled = Used(), Troubled(*[at_once() for _ in range(failures)])
        with contextlib.suppress(RetryableError):
            Retry(attempts_max=2, failed=used.report)(lambda: (used, troubled()))
        return weakref.ref(used)

    gc.disable()
    try:
        assert use()() is None
    finally:
        gc.enable()


def test_frames_of_an_error_and_of_its_causes_are_released() -> None:
    def fail() -> None:
        used.append(Used())
        held = used[0]
        try:
            int("no number")
        except ValueError as error:
            raise RetryableError(f"{type(held)} failed") from error

    used: list[Used] = []
    with pytest.raises(RetryableError) as raised:
        fail()
    found = weakref.ref(used.pop())
    assert found() is not None
    release_frames(raised.value)
    assert found() is None
