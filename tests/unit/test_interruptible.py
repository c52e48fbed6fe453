"""Work in a thread of its own: its end and its errors come back, and a signal does not wait for it."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from producer.errors import LaneFencedError
from trekkpaalegg.cli import run_interruptible
from trekkpaalegg.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_SECONDS_MAX = 10.0


@pytest.fixture
def handler() -> Iterator[None]:
    """SIGUSR1 raises `StoppedError` in the main thread, as SIGTERM does in a command."""

    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGUSR1, stop)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_work_that_ends_returns():
    done = []
    run_interruptible(lambda: done.append(threading.current_thread()), threading.Event())
    assert done != [threading.main_thread()]


def test_error_of_the_work_is_raised_as_it_is():
    error = LaneFencedError("taken")

    def work():
        raise error

    with pytest.raises(LaneFencedError) as raised:
        run_interruptible(work, threading.Event())
    assert raised.value is error


@pytest.mark.usefixtures("handler")
def test_signal_asks_the_work_to_stop_and_is_raised_when_it_has():
    stopping, ended = threading.Event(), threading.Event()

    def work():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        if stopping.wait(WAIT_SECONDS_MAX):
            ended.set()

    with pytest.raises(StoppedError):
        run_interruptible(work, stopping)
    assert ended.is_set()
