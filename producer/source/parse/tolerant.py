"""The tolerant parser of one element: it keeps unknown fields, and names the field that breaks a rule.

It reads field by field. `page.py` has the fast parser, for elements that hold the known fields and no others; for those
both give the same result.

Mandatory are the fields of the hard rules (source/README.md) and those without which no event can be written. A
`trekkstatus` that is missing or unknown is kept as `UKJENT`, a `saksnummer` that is not a text as an unknown field.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Rejected,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.errors import RejectedTrekkpaaleggError
from trekkpaalegg.identifiers import FOEDSELSNUMMER_DIGITS, ORGANISASJONSNUMMER_DIGITS, Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Element


Fields = dict[str, msgspec.Raw]
Text = TypeVar("Text", str, bytes)
Value = TypeVar("Value")

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
_ELEVEN_DIGITS: Final = re.compile(r"(?<!\d)\d{11}(?!\d)", re.ASCII)
_RAW_HASH_BYTES: Final = 16
_IDENTITY_DIGITS_MAX: Final = 20

NULL: Final = b"null"
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for text that is not the expected JSON."""

_KNOWN: Final = frozenset(
    {
        "trekkid",
        "trekkversjon",
        "sekvensnummer",
        "opprettet",
        "saksnummer",
        "trekkpliktig",
        "skyldner",
        "trekkstatus",
        "trekkstoerrelseForPeriode",
        "betalingsinformasjon",
    },
)
_KNOWN_PERIODE: Final = frozenset({"startdato", "sluttdato", "trekkbeloep", "trekkprosent"})
_KNOWN_BETALINGSINFORMASJON: Final = frozenset({"betalingsmottaker", "kidnummer", "kontonummer"})
TREKKSTATUS_OF_TEXT: Final = {"aktiv": Trekkstatus.AKTIV, "avsluttet": Trekkstatus.AVSLUTTET}

_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class FieldFaultError(RejectedTrekkpaaleggError):
    """One field breaks a hard rule. `detail` is a sentence without a value; `field_path` is in wire names."""

    def __init__(self, rejection: RejectionReason, detail: str, field_path: str = "$") -> None:
        self.rejection = rejection
        self.detail = detail
        super().__init__(rejection.value, field_path)

    def at(self, field_path: str) -> FieldFaultError:
        """The same fault, at `field_path`."""
        return FieldFaultError(self.rejection, self.detail, field_path)


def read_tolerantly(raw: bytes, trekkpliktig: str) -> Element:
    """One element of an answer about `trekkpliktig`. Never raises, whatever the bytes are."""
    try:
        fields = read_object(raw)
    except FieldFaultError as fault:
        return reject(raw, trekkpliktig, fault, read_loosely(raw))
    try:
        return _read_trekkpaalegg(raw, fields)
    except FieldFaultError as fault:
        return reject(raw, trekkpliktig, fault, fields)


def _read_trekkpaalegg(raw: bytes, fields: Fields) -> Trekkpaalegg:
    check_identity_is_not_personal(fields)
    ukjente_felter = unknown_fields(fields)
    return Trekkpaalegg(
        trekkid=_field(check_trekkid, text_at(fields, "trekkid"), "trekkid"),
        trekkversjon=_field(read_number, present(fields, "trekkversjon"), "trekkversjon"),
        sekvensnummer=_field(read_number, present(fields, "sekvensnummer"), "sekvensnummer"),
        opprettet=_field(read_instant, text_at(fields, "opprettet"), "opprettet"),
        saksnummer=_saksnummer(fields, ukjente_felter),
        trekkpliktig=_field(check_trekkpliktig, text_at(fields, "trekkpliktig"), "trekkpliktig"),
        skyldner=Foedselsnummer(_field(check_skyldner, text_at(fields, "skyldner"), "skyldner")),
        trekkstatus=_trekkstatus(fields, ukjente_felter),
        trekkstoerrelse_for_periode=_periode_list(fields),
        betalingsinformasjon=_betalingsinformasjon(fields),
        ukjente_felter=ukjente_felter,
        raw=raw,
    )


def _saksnummer(fields: Fields, ukjente_felter: dict[str, str]) -> str | None:
    text = bytes(fields.get("saksnummer", NULL))
    if text == NULL:
        return None
    try:
        return _decode_text(text)
    except NOT_JSON:
        ukjente_felter["saksnummer"] = text.decode(errors="replace")
        return None


def _trekkstatus(fields: Fields, ukjente_felter: dict[str, str]) -> Trekkstatus:
    if "trekkstatus" not in fields:
        return Trekkstatus.UKJENT
    text = bytes(fields["trekkstatus"])
    try:
        return TREKKSTATUS_OF_TEXT[_decode_text(text)]
    except (*NOT_JSON, KeyError):
        ukjente_felter["trekkstatus"] = text.decode(errors="replace")
        return Trekkstatus.UKJENT


def _periode_list(fields: Fields) -> tuple[TrekkstoerrelseForPeriode, ...]:
    name = "trekkstoerrelseForPeriode"
    try:
        elements = _decode_list(present(fields, name))
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not an array.", name) from None
    return tuple(_periode(bytes(element), f"{name}[{place}]") for place, element in enumerate(elements))


def _periode(raw: bytes, path: str) -> TrekkstoerrelseForPeriode:
    fields = object_at(raw, path)
    prefix = f"{path}."
    ukjente_felter = unknown_fields(fields, _KNOWN_PERIODE)
    startdato = _field(read_date, text_at(fields, "startdato", prefix), f"{prefix}startdato")
    sluttdato: date | None = None
    if is_given(fields, "sluttdato"):
        sluttdato = _field(read_date, text_at(fields, "sluttdato", prefix), f"{prefix}sluttdato")
        if sluttdato < startdato:
            raise FieldFaultError(RejectionReason.PERIOD_DATES, "Ends before it starts.", f"{prefix}sluttdato")
    has_beloep = is_given(fields, "trekkbeloep")
    if has_beloep is is_given(fields, "trekkprosent"):
        detail = "Holds both an amount and a percentage." if has_beloep else "Holds neither amount nor percentage."
        raise FieldFaultError(RejectionReason.AMOUNT_OR_PERCENT, detail, path)
    name, read = ("trekkbeloep", read_beloep) if has_beloep else ("trekkprosent", read_prosent)
    size = _wrapped(fields, name, prefix, read, ukjente_felter)
    return TrekkstoerrelseForPeriode(
        startdato=startdato,
        sluttdato=sluttdato,
        trekkbeloep=size if has_beloep else None,
        trekkprosent=None if has_beloep else size,
        ukjente_felter=ukjente_felter,
    )


def _wrapped(
    fields: Fields,
    name: str,
    prefix: str,
    read: Callable[[bytes], Decimal],
    ukjente_felter: dict[str, str],
) -> Decimal:
    """The number inside `{"<name>": {"<name>": number}}`; fields beside it are added to `ukjente_felter`."""
    wrapper = object_at(bytes(fields[name]), f"{prefix}{name}")
    ukjente_felter.update(unknown_fields(wrapper, frozenset({name}), f"{name}."))
    return _field(read, present(wrapper, name, f"{prefix}{name}."), f"{prefix}{name}.{name}")


def _betalingsinformasjon(fields: Fields) -> Betalingsinformasjon:
    name = "betalingsinformasjon"
    inner = object_at(present(fields, name), name)
    prefix = f"{name}."
    return Betalingsinformasjon(
        betalingsmottaker=text_at(inner, "betalingsmottaker", prefix),
        kidnummer=text_at(inner, "kidnummer", prefix),
        kontonummer=text_at(inner, "kontonummer", prefix),
        ukjente_felter=unknown_fields(inner, _KNOWN_BETALINGSINFORMASJON),
    )


def _field(read: Callable[[Text], Value], text: Text, path: str) -> Value:
    try:
        return read(text)
    except FieldFaultError as fault:
        raise fault.at(path) from None


# Fields of an object


def read_object(raw: bytes) -> Fields:
    """The fields of an element; of a repeated name the last one counts."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        raise FieldFaultError(RejectionReason.NOT_AN_OBJECT, "Not a JSON object.") from None
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Holds text that is not well-formed JSON.") from None


def object_at(raw: bytes, path: str) -> Fields:
    """The fields of an object inside an element, at `path`."""
    try:
        return _decode_fields(raw)
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not an object.", path) from None


def is_given(fields: Fields, name: str) -> bool:
    """Whether the field is there and is not null."""
    return name in fields and bytes(fields[name]) != NULL


def present(fields: Fields, name: str, prefix: str = "") -> bytes:
    """The JSON text of a mandatory field; `prefix` is the path of the object that holds it."""
    if not is_given(fields, name):
        raise FieldFaultError(RejectionReason.MISSING_FIELD, "Missing or null.", f"{prefix}{name}")
    return bytes(fields[name])


def text_at(fields: Fields, name: str, prefix: str = "") -> str:
    """The value of a mandatory text field."""
    try:
        return _decode_text(present(fields, name, prefix))
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a text.", f"{prefix}{name}") from None


def unknown_fields(fields: Fields, known: frozenset[str] = _KNOWN, prefix: str = "") -> dict[str, str]:
    """The fields with unknown names, each as the JSON text that was sent."""
    return {f"{prefix}{name}": bytes(raw).decode(errors="replace") for name, raw in fields.items() if name not in known}


# Values


@lru_cache(maxsize=8192)
def read_date(text: str) -> date:
    """A date written `YYYY-MM-DD` or `YYYYMMDD`; no other form is accepted."""
    found = _DATE.fullmatch(text)
    if found is not None:
        try:
            return date(int(found[1]), int(found[3]), int(found[4]))
        except ValueError:
            pass
    raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a date written YYYY-MM-DD or YYYYMMDD.")


def read_instant(text: str) -> int:
    """An ISO 8601 instant with an offset, as microseconds since 1970 (UTC); further digits are cut off."""
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
    """The trekkid, if it can be a record's key and part of a URL: 1 to 1000 characters, no control characters."""
    if not text or _CONTROL_CHARACTER.search(text):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Empty, or holds a control character.")
    if len(text) > TREKKID_CHARACTERS_MAX:
        raise FieldFaultError(RejectionReason.OUT_OF_RANGE, "Longer than 1000 characters.")
    return text


def is_digits(text: str, digits: int) -> bool:
    """Whether it consists of exactly this many ASCII digits."""
    return len(text) == digits and text.isascii() and text.isdigit()


def check_skyldner(text: str) -> str:
    """Eleven digits. Wrong check digits are only a warning."""
    if not is_digits(text, FOEDSELSNUMMER_DIGITS):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not eleven digits.")
    return text


def check_trekkpliktig(text: str) -> str:
    """Nine digits. A wrong check digit is only a warning."""
    if not is_digits(text, ORGANISASJONSNUMMER_DIGITS):
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not nine digits.")
    return text


# Rejection


def reject(raw: bytes, trekkpliktig: str, fault: FieldFaultError, fields: Fields) -> Rejected:
    """The quarantine record of an element read for `trekkpliktig`; `fields` are those that could be read."""
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
    """The trekkid, if it can be a key. One that may contain the skyldner's number is not used."""
    try:
        trekkid = check_trekkid(text_at(fields, "trekkid"))
    except FieldFaultError:
        return None
    skyldner = _text_if_readable(fields, "skyldner")
    is_personal = skyldner in trekkid if is_digits(skyldner, FOEDSELSNUMMER_DIGITS) else _ELEVEN_DIGITS.search(trekkid)
    return None if is_personal else trekkid


def check_identity_is_not_personal(fields: Fields) -> None:
    """Refuse an element whose trekkid or trekkpliktig contains the national id: both appear in keys and logs."""
    skyldner = _text_if_readable(fields, "skyldner")
    if not is_digits(skyldner, FOEDSELSNUMMER_DIGITS):
        return
    for name in ("trekkid", "trekkpliktig"):
        if skyldner in _text_if_readable(fields, name):
            raise FieldFaultError(RejectionReason.PERSONAL_DATA_IN_IDENTITY, "Holds the skyldner's number.", name)


def is_trekkpaalegg_like(element: Element) -> bool:
    """Whether it was at least an object with a field named trekkid or sekvensnummer."""
    if isinstance(element, Trekkpaalegg) or element.trekkid is not None or element.sekvensnummer is not None:
        return True
    try:
        fields = read_object(element.raw)
    except FieldFaultError:
        fields = read_loosely(element.raw)
    return "trekkid" in fields or "sekvensnummer" in fields


def hash_raw(raw: bytes) -> bytes:
    """16 bytes that are equal for equal JSON values, whatever their field order and white space."""
    try:
        canonical = _encode_sorted(_decode_exactly(raw))
    except (*NOT_JSON, ValueError, ArithmeticError):  # e.g. numbers beyond what Python's types hold
        canonical = raw
    return blake2b(canonical, digest_size=_RAW_HASH_BYTES).digest()


def read_loosely(raw: bytes) -> Fields:
    """The fields of an object that is not well-formed, such as one with half a surrogate pair in a text."""
    try:
        value = json.loads(raw.decode(errors="replace"), strict=False, parse_int=_read_short_int)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: msgspec.Raw(json.dumps(inner).encode()) for name, inner in value.items()}


def _read_short_int(text: str) -> int:
    return int(text) if len(text) < _IDENTITY_DIGITS_MAX else 0
