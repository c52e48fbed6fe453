"""From a random generator to numbers that look real and belong to nobody: persons, organisations, accounts, KID, UUID.

Every check digit holds. Persons are marked synthetic by month + 80 (Skatteetaten's Tenor), organisations by a first
digit 3, which Brønnøysundregistrene gives to test data only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_K1 = (3, 7, 6, 1, 8, 9, 4, 5, 2)
_K2 = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
_ORGANISASJONSNUMMER = (3, 2, 7, 6, 5, 4, 3, 2)
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_NO_DIGIT = 10
_SYNTHETIC_MONTH = 80
_D_NUMBER_DAY = 40
_D_NUMBER_RATE = 0.1


def _modulus_11(digits: str, weights: tuple[int, ...]) -> int:
    return -sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11


def synthetic_skyldner(random: Random) -> str:
    """A synthetic fødselsnummer, or in one case of ten a synthetic D-number: eleven digits, both check digits valid."""
    while True:
        day = random.randint(1, 28) + (_D_NUMBER_DAY if random.random() < _D_NUMBER_RATE else 0)
        month = random.randint(1, 12) + _SYNTHETIC_MONTH
        digits = f"{day:02}{month:02}{random.randint(40, 99):02}{random.randint(0, 499):03}"
        k1 = _modulus_11(digits, _K1)
        if k1 == _NO_DIGIT:
            continue
        k2 = _modulus_11(f"{digits}{k1}", _K2)
        if k2 != _NO_DIGIT:
            return f"{digits}{k1}{k2}"


def synthetic_organisasjonsnummer(random: Random) -> str:
    """Nine digits, the first a 3, with a valid check digit."""
    while True:
        digits = f"3{random.randrange(10**7):07}"
        check = _modulus_11(digits, _ORGANISASJONSNUMMER)
        if check != _NO_DIGIT:
            return f"{digits}{check}"


def synthetic_kontonummer(random: Random) -> str:
    """Eleven digits with a valid check digit."""
    while True:
        digits = f"{random.randrange(10**9, 10**10):010}"
        check = _modulus_11(digits, _K2)
        if check != _NO_DIGIT:
            return f"{digits}{check}"


def synthetic_kidnummer(number: int) -> str:
    """The KID of a running number: that number with its modulus 10 check digit, at least ten digits."""
    digits = f"{number:09}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += int(digit) if place % 2 else _LUHN_DOUBLED[int(digit)]
    return f"{digits}{-total % 10}"


def synthetic_uuid(random: Random) -> str:
    """A version 4 UUID."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
