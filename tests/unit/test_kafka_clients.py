"""A call that never returns is given up in time; one that returns gives what it gives."""

from __future__ import annotations

import threading

import pytest

from trekkpaalegg.kafka.clients import UnansweredError, call_bounded


def test_a_call_that_returns_has_been_made() -> None:
    made: list[int] = []
    call_bounded(lambda: made.append(1), 60)
    assert made == [1]


def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        call_bounded(lambda: 1 // 0, 60)


def test_a_call_that_does_not_return_is_given_up() -> None:
    answered = threading.Event()
    with pytest.raises(UnansweredError):
        call_bounded(answered.wait, 0.05)
    answered.set()
