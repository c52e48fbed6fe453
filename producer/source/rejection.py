"""One element and its fault in; the `Rejected`, with as much of its identity as may be shown, out. Pure."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from producer.domain.identifiers import FOEDSELSNUMMER_DIGITS
from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkpaalegg
from producer.source.fields import FieldFaultError, check_trekkid, is_digits, read_number
from producer.source.objects import NOT_JSON, Fields, present, read_object, text_at

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Element

_ELEVEN_DIGITS: Final = re.compile(r"(?<!\d)\d{11}(?!\d)", re.ASCII)
_RAW_HASH_BYTES: Final = 16
_IDENTITY_DIGITS_MAX: Final = 20

_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def reject(raw: bytes, trekkpliktig: str, fault: FieldFaultError, fields: Fields) -> Rejected:
    """`trekkpliktig` is the one that the answer was asked for; `fields` is what could be read of the element."""
    personal = fault.rejection is RejectionReason.PERSONAL_DATA_IN_IDENTITY
    return Rejected(
        trekkpliktig=trekkpliktig,
        raw=raw,
        raw_hash=hash_raw(raw),
        reason=fault.rejection,
        field_path=fault.field_path,
        detail=fault.detail,
        trekkid=None if personal else _readable_trekkid(fields),
        trekkversjon=_number_if_readable(fields, "trekkversjon"),
        sekvensnummer=_number_if_readable(fields, "sekvensnummer"),
    )


def _number_if_readable(fields: Fields, name: str) -> int | None:
    try:
        return read_number(present(fields, name))
    except FieldFaultError:
        return None


def _text_if_readable(fields: Fields, name: str) -> str:
    try:
        return text_at(fields, name)
    except FieldFaultError:
        return ""


def _readable_trekkid(fields: Fields) -> str | None:
    """The trekkid, if it can be a key. One that may be the skyldner's number is no identity."""
    try:
        trekkid = check_trekkid(text_at(fields, "trekkid"))
    except FieldFaultError:
        return None
    skyldner = _text_if_readable(fields, "skyldner")
    is_personal = skyldner in trekkid if is_digits(skyldner, FOEDSELSNUMMER_DIGITS) else _ELEVEN_DIGITS.search(trekkid)
    return None if is_personal else trekkid


def check_identity_is_not_personal(fields: Fields) -> None:
    """Refuse an element whose trekkid or trekkpliktig holds the national id: both become keys, labels and log lines."""
    skyldner = _text_if_readable(fields, "skyldner")
    if not is_digits(skyldner, FOEDSELSNUMMER_DIGITS):
        return
    for name in ("trekkid", "trekkpliktig"):
        if skyldner in _text_if_readable(fields, name):
            raise FieldFaultError(RejectionReason.PERSONAL_DATA_IN_IDENTITY, "Holds the skyldner's number.", name)


def is_trekkpaalegg_like(element: Element) -> bool:
    """Whether it was at least an object that holds a field named trekkid or sekvensnummer."""
    if isinstance(element, Trekkpaalegg) or element.trekkid is not None or element.sekvensnummer is not None:
        return True
    try:
        fields = read_object(element.raw)
    except FieldFaultError:
        fields = read_loosely(element.raw)
    return "trekkid" in fields or "sekvensnummer" in fields


def hash_raw(raw: bytes) -> bytes:
    """16 bytes that are the same for the same JSON value, whatever its field order and white space."""
    try:
        canonical = _encode_sorted(_decode_exactly(raw))
    except (*NOT_JSON, ValueError, ArithmeticError):  # e.g. numbers beyond what Python's types hold
        canonical = raw
    return blake2b(canonical, digest_size=_RAW_HASH_BYTES).digest()


def read_loosely(raw: bytes) -> Fields:
    """What can be had of an object that is not well-formed, such as one with half a surrogate pair in a text."""
    try:
        value = json.loads(raw.decode(errors="replace"), strict=False, parse_int=_read_short_int)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: msgspec.Raw(json.dumps(inner).encode()) for name, inner in value.items()}


def _read_short_int(text: str) -> int:
    return int(text) if len(text) < _IDENTITY_DIGITS_MAX else 0
