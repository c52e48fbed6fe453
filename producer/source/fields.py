"""JSON text of one scalar field in; its checked value, or a `FieldFaultError` that holds no value, out. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from producer.domain.identifiers import FOEDSELSNUMMER_DIGITS, ORGANISASJONSNUMMER_DIGITS
from producer.domain.trekkpaalegg import RejectionReason
from producer.errors import RejectedTrekkpaaleggError

NUMBER_MAX: Final = 2**63 - 1
"""Highest trekkversjon and sekvensnummer: what an Avro long holds."""
TREKKID_CHARACTERS_MAX: Final = 1000
_BELOEP_MAX: Final = Decimal("999999999999.99")
_PROSENT_MAX: Final = Decimal(100)
_CENT: Final = Decimal("0.01")
_NUMBER_BYTES_MAX: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY: Final = 86_400
_MICROS_A_SECOND: Final = 1_000_000
_DATE: Final = re.compile(r"(\d{4})(-?)(\d\d)\2(\d\d)", re.ASCII)
_NUMBER: Final = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WHOLE_NUMBER: Final = re.compile(rb"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class FieldFaultError(RejectedTrekkpaaleggError):
    """One field breaks a hard rule. `detail` is a sentence without a value; `field_path` is in wire names."""

    def __init__(self, rejection: RejectionReason, detail: str, field_path: str = "$") -> None:
        self.rejection = rejection
        self.detail = detail
        super().__init__(rejection.value, field_path)

    def at(self, field_path: str) -> FieldFaultError:
        """The same fault, told of the field at `field_path`."""
        return FieldFaultError(self.rejection, self.detail, field_path)


@lru_cache(maxsize=8192)
def read_date(text: str) -> date:
    """A day written `YYYY-MM-DD` or `YYYYMMDD`, and in no other way."""
    found = _DATE.fullmatch(text)
    if found is not None:
        try:
            return date(int(found[1]), int(found[3]), int(found[4]))
        except ValueError:
            pass
    raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a date written YYYY-MM-DD or YYYYMMDD.")


def read_instant(text: str) -> int:
    """Microseconds since 1970 (UTC) of an ISO 8601 instant with an offset; further fraction digits are cut off."""
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH  # RFC 3339 allows a small t and z
    except (ValueError, TypeError):  # TypeError: it has no offset, so it is no instant
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not an instant with an offset.") from None
    return (since.days * _SECONDS_A_DAY + since.seconds) * _MICROS_A_SECOND + since.microseconds


@lru_cache(maxsize=16384)
def read_beloep(text: bytes) -> Decimal:
    """An amount in NOK from a JSON number: 0 or more, at most two decimals by value, with scale 2 as decimal(14,2)."""
    return _read_decimal(text, _BELOEP_MAX)


@lru_cache(maxsize=4096)
def read_prosent(text: bytes) -> Decimal:
    """A percentage from a JSON number: 0 to 100, at most two decimals by value, with scale 2 as decimal(5,2)."""
    return _read_decimal(text, _PROSENT_MAX)


def _read_decimal(text: bytes, highest: Decimal) -> Decimal:
    """Compares before it rounds: rounding a number with a huge exponent would write out all its digits."""
    if len(text) > _NUMBER_BYTES_MAX or not _NUMBER.fullmatch(text):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a JSON number of a sensible length.")
    try:
        number = Decimal(text.decode())
    except InvalidOperation:  # an exponent beyond what Decimal holds
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "The number is beyond the allowed range.") from None
    if not 0 <= number <= highest:
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "The number is negative or above the highest allowed.")
    rounded = abs(number).quantize(_CENT)
    if rounded != number:
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "The number has more than two decimals.")
    return rounded


def read_number(text: bytes) -> int:
    """A trekkversjon or sekvensnummer from a JSON number without a fraction: 1 to 2^63 - 1."""
    found = _WHOLE_NUMBER.fullmatch(text) if len(text) <= _NUMBER_BYTES_MAX else None
    if found is None:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a whole number of a sensible length.")
    number = int(found[1])
    if not 1 <= number <= NUMBER_MAX:
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "The number is below 1 or does not fit in 64 bits.")
    return number


def check_trekkid(text: str) -> str:
    """The trekkid, when it can be a record's key and part of an address: 1 to 1000 characters, none of them control."""
    if not text or _CONTROL_CHARACTER.search(text):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Empty, or holds a control character.")
    if len(text) > TREKKID_CHARACTERS_MAX:
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "Longer than 1000 characters.")
    return text


def is_digits(text: str, digits: int) -> bool:
    """Whether it is exactly so many of the digits 0 to 9."""
    return len(text) == digits and text.isascii() and text.isdigit()


def check_skyldner(text: str) -> str:
    """Eleven digits; whether the check digits hold is a warning, no rule."""
    if not is_digits(text, FOEDSELSNUMMER_DIGITS):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not eleven digits.")
    return text


def check_trekkpliktig(text: str) -> str:
    """Nine digits; whether the check digit holds is a warning, no rule."""
    if not is_digits(text, ORGANISASJONSNUMMER_DIGITS):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not nine digits.")
    return text
