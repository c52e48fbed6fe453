"""Split the body of a page into elements; parse each into a `Trekkpaalegg`, or `Rejected` if it breaks a hard rule.

The fast parser decodes an element into strict structs: the known fields, of the right types, and no others. Whatever it
does not accept goes to the tolerant parser (`tolerant.py`), which alone decides what is rejected and why. The two give
the same result for every element that the fast parser accepts.

A body that does not answer the request (no JSON, cut off, another API's objects) is a `RetryableError`, which describes
the body without quoting it. It must never be mistaken for "nothing new".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from producer.domain.trekkpaalegg import Betalingsinformasjon, Trekkpaalegg, TrekkstoerrelseForPeriode
from producer.errors import RejectedTrekkpaaleggError
from producer.source.parse.tolerant import (
    NOT_JSON,
    NUMBER_MAX,
    TREKKID_CHARACTERS_MAX,
    TREKKSTATUS_OF_TEXT,
    is_trekkpaalegg_like,
    read_beloep,
    read_date,
    read_instant,
    read_object,
    read_prosent,
    read_tolerantly,
    unknown_fields,
)
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.identifiers import FOEDSELSNUMMER_DIGITS, ORGANISASJONSNUMMER_DIGITS, Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.domain.trekkpaalegg import Element


_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MEDIA_TYPE: Final = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")
_BEGINNINGS: Final = {b"[": "a JSON array", b"{": "a JSON object", b"<": "markup", b'"': "a JSON text"}
_WHITE_SPACE: Final = " \t\r\n"

_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_scan_one = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str).raw_decode


def split_elements(body: bytes, content_type: str) -> list[bytes]:
    """The elements of a JSON array, each as it was sent; none for an empty body.

    Raises `RetryableError` if the body is not a JSON array or is cut off.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if not body or body.isspace():
        return []
    try:
        return list(map(bytes, _decode_elements(body)))
    except msgspec.ValidationError:
        raise RetryableError(f"answer is no JSON array: {describe_body(body, content_type)}") from None
    except NOT_JSON:
        pass
    try:
        return list(_split_loosely(body))
    except (ValueError, RecursionError):
        raise RetryableError(f"answer is no JSON, or is cut off: {describe_body(body, content_type)}") from None


def describe_body(body: bytes, content_type: str) -> str:
    """The body in words, without any of its content: media type, size, and what the first byte suggests."""
    found = _MEDIA_TYPE.match(content_type.lower())
    beginning = _BEGINNINGS.get(body.lstrip()[:1], "something else") if body.strip() else "nothing"
    return f"{found[0] if found else 'no media type'}, {len(body)} bytes, begins as {beginning}"


def _split_loosely(body: bytes) -> Iterator[bytes]:
    """Split even if an element holds what JSON does not allow (half a surrogate pair, NaN), to keep the others.

    In Latin-1 every byte is one character, so positions in the text are positions in the body.
    Raises ValueError or RecursionError.
    """
    text = body.decode("latin-1")
    place = _expect(text, 0, "[") + 1
    while True:
        place = _skip_white_space(text, place)
        _, end = _scan_one(text, place)
        yield body[place:end]
        place = _skip_white_space(text, end)
        if text[place : place + 1] == "]":
            break
        place = _expect(text, place, ",") + 1
    if _skip_white_space(text, place + 1) != len(text):
        raise ValueError("text after the array")


def _expect(text: str, place: int, character: str) -> int:
    place = _skip_white_space(text, place)
    if text[place : place + 1] != character:
        raise ValueError(f"no {character} where one must be")
    return place


def _skip_white_space(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in _WHITE_SPACE:
        place += 1
    return place


_Number = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
_Trekkid = Annotated[str, msgspec.Meta(min_length=1, max_length=TREKKID_CHARACTERS_MAX)]
_NineDigits = Annotated[str, msgspec.Meta(min_length=ORGANISASJONSNUMMER_DIGITS, max_length=ORGANISASJONSNUMMER_DIGITS)]
_ElevenDigits = Annotated[str, msgspec.Meta(min_length=FOEDSELSNUMMER_DIGITS, max_length=FOEDSELSNUMMER_DIGITS)]


class _Trekkbeloep(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    trekkbeloep: msgspec.Raw


class _Trekkprosent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    trekkprosent: msgspec.Raw


class _Periode(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    startdato: str
    sluttdato: str | None = None
    trekkbeloep: _Trekkbeloep | None = None
    trekkprosent: _Trekkprosent | None = None


class _Betalingsinformasjon(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    betalingsmottaker: str
    kidnummer: str
    kontonummer: str


class _Trekkpaalegg(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename="camel"):
    trekkid: _Trekkid
    trekkversjon: _Number
    sekvensnummer: _Number
    opprettet: str
    trekkpliktig: _NineDigits
    skyldner: _ElevenDigits
    trekkstatus: str
    trekkstoerrelse_for_periode: list[_Periode]
    betalingsinformasjon: _Betalingsinformasjon
    saksnummer: str | None = None


class _OpenTrekkpaalegg(_Trekkpaalegg, forbid_unknown_fields=False, gc=False, rename="camel"):
    """Accepts further fields on the outermost level, where new ones are most likely."""


_NONE: Final[dict[str, str]] = {}
"""No unknown fields. Shared and never changed, since a back-fill would otherwise make four for every version."""

_decode_strictly = msgspec.json.Decoder(_Trekkpaalegg).decode
_decode_openly = msgspec.json.Decoder(_OpenTrekkpaalegg).decode


class _NotPlainError(Exception):
    """The fast parser does not accept this element; that does not mean that anything is wrong with it."""


_NOT_PLAIN: Final = (*NOT_JSON, _NotPlainError, RejectedTrekkpaaleggError)


def read_elements(body: bytes, trekkpliktig: str, content_type: str = "") -> list[Element]:
    """The elements of a page, in its order; none for an empty body.

    Raises `RetryableError` if the body is not a JSON array, or holds objects of which none is a trekkpålegg.
    """
    elements = [read_element(raw, trekkpliktig) for raw in split_elements(body, content_type)]
    if elements and not any(is_trekkpaalegg_like(element) for element in elements):
        raise RetryableError(f"answer holds another API's objects: none has trekkid or sekvensnummer ({len(elements)})")
    return elements


def read_element(raw: bytes, trekkpliktig: str) -> Element:
    """One element of a page."""
    try:
        return _build(_decode_strictly(raw), raw, _NONE)
    except _NOT_PLAIN:
        return _read_other(raw, trekkpliktig)


def read_trekkpaalegg(body: bytes, trekkpliktig: str, content_type: str = "") -> Element:
    """The one version in the answer to a request for it by number.

    Raises `RetryableError` if the body is not a JSON object, or has neither trekkid nor sekvensnummer.
    """
    element = _read_other(body, trekkpliktig)
    if not is_trekkpaalegg_like(element):
        raise RetryableError(f"answer is no trekkpålegg: {describe_body(body, content_type)}")
    return element


def _read_other(raw: bytes, trekkpliktig: str) -> Element:
    """An element with further fields, or one that breaks a rule: try the fast parser again, now with further fields."""
    try:
        wire = _decode_openly(raw)
        return _build(wire, raw, unknown_fields(read_object(raw)))
    except _NOT_PLAIN:
        return read_tolerantly(raw, trekkpliktig)


def _build(wire: _Trekkpaalegg, raw: bytes, ukjente_felter: dict[str, str]) -> Trekkpaalegg:
    trekkid, trekkpliktig, skyldner = wire.trekkid, wire.trekkpliktig, wire.skyldner
    trekkstatus = TREKKSTATUS_OF_TEXT.get(wire.trekkstatus)
    numbers = skyldner + trekkpliktig
    if (
        trekkstatus is None
        or not (numbers.isdigit() and numbers.isascii())
        or skyldner in trekkid
        or not trekkid.isprintable()
    ):
        raise _NotPlainError
    inner = wire.betalingsinformasjon
    return Trekkpaalegg(
        trekkid,
        wire.trekkversjon,
        wire.sekvensnummer,
        read_instant(wire.opprettet),
        wire.saksnummer,
        trekkpliktig,
        Foedselsnummer(skyldner),
        trekkstatus,
        tuple([_build_periode(periode) for periode in wire.trekkstoerrelse_for_periode]),
        Betalingsinformasjon(inner.betalingsmottaker, inner.kidnummer, inner.kontonummer, _NONE),
        ukjente_felter,
        raw,
    )


def _build_periode(wire: _Periode) -> TrekkstoerrelseForPeriode:
    startdato = read_date(wire.startdato)
    sluttdato = None if wire.sluttdato is None else read_date(wire.sluttdato)
    if sluttdato is not None and sluttdato < startdato:
        raise _NotPlainError
    beloep, prosent = wire.trekkbeloep, wire.trekkprosent
    if beloep is None:
        if prosent is None:
            raise _NotPlainError
        return TrekkstoerrelseForPeriode(startdato, sluttdato, None, read_prosent(bytes(prosent.trekkprosent)), _NONE)
    if prosent is not None:
        raise _NotPlainError
    return TrekkstoerrelseForPeriode(startdato, sluttdato, read_beloep(bytes(beloep.trekkbeloep)), None, _NONE)
