"""National ids, organisation numbers, account numbers and KIDs: masking of what is personal, check digits of all.

A failed check digit is a warning to count, never a reason to reject: official test data fails them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import mul

_FOEDSELSNUMMER_K1 = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_FOEDSELSNUMMER_K2 = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_ORGANISASJONSNUMMER = (3, 2, 7, 6, 5, 4, 3, 2, 1)
_KONTONUMMER = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_K1_REMAINDERS = frozenset({0, 1, 2, 3})
_LUHN_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_ASCII_ZERO = 48
_NATIONAL_ID = re.compile(r"(?<![0-9A-Za-z])[0-9]{6}[ -]?[0-9]{5}(?![0-9A-Za-z])")
MASK = "***********"
FOEDSELSNUMMER_DIGITS = 11
ORGANISASJONSNUMMER_DIGITS = 9
KONTONUMMER_DIGITS = 11
KIDNUMMER_DIGITS_MIN = 2
KIDNUMMER_DIGITS_MAX = 25


class Foedselsnummer(str):
    """A national identity number or D-number. Masked wherever it is printed or formatted.

    `reveal()` returns the digits, `encode()` returns them as bytes.
    """

    __slots__ = ()

    def reveal(self) -> str:
        """The eleven digits as an ordinary string, for what must write them: events, ledgers, payout files."""
        return str.__str__(self)

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Foedselsnummer('{MASK}')"

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


def mask_national_ids(text: str) -> str:
    """The text with everything masked that resembles a national id, also one written with a space or a hyphen.

    Eleven digits beside a letter stay, so that the last group of a UUID stays whole.
    """
    return _NATIONAL_ID.sub(MASK, text)


def mask_for_display(text: str) -> str:
    """The text with national ids masked, and without control characters, which a terminal would interpret."""
    return "".join(each if each.isprintable() else "�" for each in mask_national_ids(text))


def is_digits(text: str, length: int) -> bool:
    """Whether the text is exactly `length` ASCII digits."""
    return len(text) == length and text.isascii() and text.isdigit()


def _weighted_sum(text: str, weights: tuple[int, ...]) -> int:
    total: int = sum(map(mul, text.encode(), weights))
    return total - _ASCII_ZERO * sum(weights)


def is_valid_foedselsnummer(text: str) -> bool:
    """Whether both check digits are right, by the rule in force from 2032 (a superset of today's).

    Source: Skatteetaten, "Fødselsnummer og D-nummer": the weighted sum of k1 must be 0, 1, 2 or 3 modulo 11 (only 0
    before 2032), that of k2 must be 0. D-numbers and synthetic numbers follow the same rule.
    """
    return (
        is_digits(text, FOEDSELSNUMMER_DIGITS)
        and _weighted_sum(text, _FOEDSELSNUMMER_K1) % 11 in _K1_REMAINDERS
        and _weighted_sum(text, _FOEDSELSNUMMER_K2) % 11 == 0
    )


@lru_cache(maxsize=4096)
def is_valid_organisasjonsnummer(text: str) -> bool:
    """Whether it is nine digits with a correct check digit (modulus 11)."""
    return is_digits(text, ORGANISASJONSNUMMER_DIGITS) and _weighted_sum(text, _ORGANISASJONSNUMMER) % 11 == 0


@lru_cache(maxsize=4096)
def is_valid_kontonummer(text: str) -> bool:
    """Whether it is eleven digits with a correct check digit (modulus 11)."""
    return is_digits(text, KONTONUMMER_DIGITS) and _weighted_sum(text, _KONTONUMMER) % 11 == 0


def is_valid_kidnummer(text: str) -> bool:
    """Whether it is 2 to 25 digits whose last is a correct check digit, modulus 10 or modulus 11.

    Source: Mastercard Payment Services (Nets), "OCR giro". A modulus 11 check digit of ten is written `-`.
    """
    body, check = text[:-1], text[-1:]
    if not KIDNUMMER_DIGITS_MIN <= len(text) <= KIDNUMMER_DIGITS_MAX or not (body.isascii() and body.isdigit()):
        return False
    return _is_luhn(text) or _modulus_11_digit(body) == check


def _is_luhn(text: str) -> bool:
    if not (text.isascii() and text.isdigit()):
        return False
    digits = text.encode()
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_LUHN_DOUBLED)) - _ASCII_ZERO * len(digits)) % 10 == 0


def _modulus_11_digit(body: str) -> str:
    weighted = sum((int(digit) * (2 + place % 6)) for place, digit in enumerate(reversed(body)))
    return "0123456789-"[-weighted % 11]
