"""Numbers of persons, accounts, organisations and payments in, whether their check digits hold out. Pure.

A failed check is a warning and never a refusal: official test data fails them.
"""

from __future__ import annotations

from operator import mul

_FOEDSELSNUMMER_K1 = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_FOEDSELSNUMMER_K2 = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_ORGANISASJONSNUMMER = (3, 2, 7, 6, 5, 4, 3, 2, 1)
_KONTONUMMER = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_K1_REMAINDERS = frozenset({0, 1, 2, 3})
_KIDNUMMER_DIGITS = range(2, 26)


def is_valid_foedselsnummer(text: str) -> bool:
    """Eleven digits whose check digits hold, by the rule in force from 2032 (a superset of today's).

    Source: Skatteetaten, "Fødselsnummer og D-nummer".
    """
    return (
        is_digits(text, 11)
        and _weighted_sum(text, _FOEDSELSNUMMER_K1) % 11 in _K1_REMAINDERS
        and _weighted_sum(text, _FOEDSELSNUMMER_K2) % 11 == 0
    )


def is_valid_organisasjonsnummer(text: str) -> bool:
    """Nine digits, modulus 11."""
    return is_digits(text, 9) and _weighted_sum(text, _ORGANISASJONSNUMMER) % 11 == 0


def is_valid_kontonummer(text: str) -> bool:
    """Eleven digits, modulus 11."""
    return is_digits(text, 11) and _weighted_sum(text, _KONTONUMMER) % 11 == 0


def is_valid_kidnummer(text: str) -> bool:
    """2 to 25 digits whose last is the check digit, modulus 10 or 11; a modulus 11 digit of ten is written `-`.

    Source: Mastercard Payment Services (Nets), "OCR giro".
    """
    body, check = text[:-1], text[-1:]
    if len(text) not in _KIDNUMMER_DIGITS or not (body.isascii() and body.isdigit()):
        return False
    return _modulus_10_digit(body) == check or _modulus_11_digit(body) == check


def is_digits(text: str, length: int) -> bool:
    """So many ASCII digits and nothing else."""
    return len(text) == length and text.isascii() and text.isdigit()


def _weighted_sum(text: str, weights: tuple[int, ...]) -> int:
    # Foedselsnummer masks itself in str(), not in its characters.
    return sum(map(mul, map(int, text), weights))


def _modulus_10_digit(body: str) -> str:
    doubled = (int(digit) * 2 for digit in body[::-2])
    total = sum(each - 9 if each > 9 else each for each in doubled)  # noqa: PLR2004 - the sum of two digits
    return str(-(total + sum(int(digit) for digit in body[-2::-2])) % 10)


def _modulus_11_digit(body: str) -> str:
    weighted = sum((int(digit) * (2 + place % 6)) for place, digit in enumerate(reversed(body)))
    return "0123456789-"[-weighted % 11]
