"""Numbers of persons never show; check digits hold by the published rules."""

from __future__ import annotations

import copy
import pickle
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.skatteetaten.generate import synthetic_kidnummer, synthetic_kontonummer, synthetic_skyldner
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.identifiers import (
    Foedselsnummer,
    is_valid_foedselsnummer,
    is_valid_kidnummer,
    is_valid_kontonummer,
    is_valid_organisasjonsnummer,
)

DIGITS = "10898312375"
NUMBER = Foedselsnummer(DIGITS)
VERSION = msgspec.structs.replace(make_trekkpaalegg("311111111", Random(1), sekvensnummer=1), skyldner=NUMBER)


@pytest.mark.parametrize(
    "shown",
    [
        str(NUMBER),
        repr(NUMBER),
        f"{NUMBER}",
        f"{NUMBER:>20}",
        f"{NUMBER!s}",
        f"{NUMBER!r}",
        "%s" % NUMBER,  # noqa: UP031 - each way of formatting is its own
        "{}".format(NUMBER),  # noqa: UP032 - as above
        str([NUMBER]),
        str({"skyldner": NUMBER}),
        repr(VERSION),
        str(ValueError(NUMBER)),
    ],
)
def test_number_of_a_person_is_masked_wherever_it_is_shown(shown):
    assert DIGITS not in shown


def test_number_of_a_person_can_be_revealed_on_purpose():
    assert NUMBER.reveal() == DIGITS
    assert type(NUMBER.reveal()) is str
    assert NUMBER.encode() == DIGITS.encode()
    assert Foedselsnummer(DIGITS) == NUMBER


def test_copies_stay_masked():
    for twin in (copy.copy(NUMBER), copy.deepcopy(NUMBER), pickle.loads(pickle.dumps(NUMBER))):  # noqa: S301 - our own
        assert DIGITS not in f"{twin}"


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("10898312375", None),
        ("1089831237", False),
        ("108983123755", False),
        ("1089831237a", False),
        ("", False),
        ("١٠٨٩٨٣١٢٣٧٥", False),
    ],
)
def test_number_of_a_person_is_eleven_digits(number, valid):
    assert valid is None or is_valid_foedselsnummer(number) is valid


@given(st.integers(0, 10_000))
def test_synthetic_numbers_hold_and_fail_with_another_last_digit(seed):
    random = Random(seed)
    other = str(random.randint(1, 9))
    for number, holds in (
        (synthetic_skyldner(random), is_valid_foedselsnummer),
        (synthetic_kontonummer(random), is_valid_kontonummer),
    ):
        assert holds(number)
        assert not holds(number[:-1] + str((int(number[-1]) + int(other)) % 10))
    assert is_valid_kidnummer(synthetic_kidnummer(seed + 1))


def test_first_check_digit_may_leave_one_to_three_as_from_2032():
    """The first check digit raised by one to three, and the second made to fit."""
    accepted = 0
    for first in range(10):
        for second in range(10):
            accepted += is_valid_foedselsnummer(f"108983123{first}{second}")
    assert 2 <= accepted <= 4


@pytest.mark.parametrize(
    ("number", "valid"), [("971648198", True), ("971648199", False), ("97164819", False), ("97164819x", False)]
)
def test_organisation_number_holds_modulus_11(number, valid):
    assert is_valid_organisasjonsnummer(number) is valid


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("2345676", True),
        ("2345675", False),
        ("12345678903", True),
        ("0", False),
        ("", False),
        ("00", True),
        ("1" * 26, False),
        ("12-4", False),
        ("123456785", True),
        ("²345676", False),
    ],
)
def test_kid_holds_modulus_10_or_11(number, valid):
    assert is_valid_kidnummer(number) is valid


def test_check_digits_follow_the_rules_written_out_digit_by_digit():
    random = Random(8)
    for number in range(2000):
        digits = f"{random.randrange(10**11):011}"
        assert is_valid_kontonummer(digits) == (weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) == 0)
        assert is_valid_organisasjonsnummer(digits[:9]) == (weighted(digits[:9], (3, 2, 7, 6, 5, 4, 3, 2, 1)) == 0)
        kid = synthetic_kidnummer(number) if number % 2 else digits[: 1 + number % 11] + "-0123456789"[number % 11]
        body, check = kid[:-1], kid[-1]
        assert is_valid_kidnummer(kid) == (check in {modulus_10_digit(body), modulus_11_digit(body)})


def weighted(digits, weights):
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11


def modulus_10_digit(body):
    doubled = [int(digit) * 2 for digit in body[::-2]]
    return str(-(sum(each - 9 if each > 9 else each for each in doubled) + sum(map(int, body[-2::-2]))) % 10)


def modulus_11_digit(body):
    weights = [2 + place % 6 for place in range(len(body))]
    return "0123456789-"[-sum(int(digit) * weight for digit, weight in zip(reversed(body), weights, strict=True)) % 11]
