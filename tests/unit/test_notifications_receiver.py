"""The gate of the receiver: allow-list, rate, and secret."""

from __future__ import annotations

import pytest

from producer.notifications.receiver import Gate, Refusal

SECRET = "k" * 40
ALTINN = "51.120.0.0/17"


def test_everybody_with_the_secret_is_admitted_without_an_allow_list() -> None:
    gate = Gate(SECRET, [], 10)
    assert gate.refusal("203.0.113.9", SECRET) is None
    assert gate.refusal("2001:db8::1", SECRET) is None


@pytest.mark.parametrize("guess", ["", "k" * 39, "k" * 41, "K" * 40, "é" * 40, "\udcff" * 40])
def test_another_secret_is_refused(guess: str) -> None:
    assert Gate(SECRET, [], 10).refusal("203.0.113.9", guess) is Refusal.SECRET


@pytest.mark.parametrize(
    ("address", "is_let_in"),
    [
        ("51.120.0.7", True),
        ("::ffff:51.120.0.7", True),
        ("2001:db8::7", True),
        ("51.121.0.7", False),
        ("2001:db9::7", False),
        ("", False),
        ("no address", False),
    ],
)
def test_the_allow_list_holds_for_both_kinds_of_address(address: str, is_let_in: bool) -> None:
    gate = Gate(SECRET, [ALTINN, "2001:db8::/32"], 10)
    assert gate.refusal(address, SECRET) is (None if is_let_in else Refusal.ADDRESS)


def test_one_address_that_calls_too_often_does_not_keep_out_another() -> None:
    gate = Gate(SECRET, [], 5)
    refused = [gate.refusal("203.0.113.9", SECRET) for _ in range(50)].count(Refusal.RATE)
    assert 40 <= refused <= 45  # the window may end while the calls come, and then five more are let in
    assert gate.refusal("203.0.113.10", SECRET) is None


def test_guesses_count_as_calls() -> None:
    gate = Gate(SECRET, [], 5)
    assert Refusal.RATE in {gate.refusal("203.0.113.9", f"guess {number}") for number in range(50)}
