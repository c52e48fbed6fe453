"""Bytes of an answer in, its elements out: each a `Trekkpaalegg`, or a `Rejected` where a hard rule is broken. Pure.

The fast way decodes an element straight into strict structs: the known fields, of the right types, and no other.
Whatever it does not take goes the tolerant way (`tolerant.py`), which alone decides what is rejected and why; on
elements that the fast way takes both give the same.

An answer that is no answer to the question (no JSON, cut off, another API's objects) is a `RetryableError` that tells
what came without telling any content: it must never look like "nothing new".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from producer.domain.identifiers import FOEDSELSNUMMER_DIGITS, ORGANISASJONSNUMMER_DIGITS, Foedselsnummer
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Trekkpaalegg,
    TrekkstoerrelseForPeriode,
)
from producer.errors import RejectedTrekkpaaleggError, RetryableError
from producer.source.body import describe_body, split_elements
from producer.source.fields import (
    NUMBER_MAX,
    TREKKID_CHARACTERS_MAX,
    read_beloep,
    read_date,
    read_instant,
    read_prosent,
)
from producer.source.objects import NOT_JSON, read_object
from producer.source.rejection import is_trekkpaalegg_like
from producer.source.tolerant import TREKKSTATUS_OF_TEXT, read_tolerantly, unknown_fields

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Element

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
    """Takes further fields on the outermost level, where new ones are likeliest."""


_NONE: Final[dict[str, str]] = {}
"""No unknown fields: one for all, since a back-fill would else make four for every version. Nobody changes it."""

_decode_strictly = msgspec.json.Decoder(_Trekkpaalegg).decode
_decode_openly = msgspec.json.Decoder(_OpenTrekkpaalegg).decode


class _NotPlainError(Exception):
    """The fast way does not take this element; it says nothing about what is wrong with it, if anything is."""


_NOT_PLAIN: Final = (*NOT_JSON, _NotPlainError, RejectedTrekkpaaleggError)


def read_elements(body: bytes, trekkpliktig: str, content_type: str = "") -> list[Element]:
    """The elements of a list answer, in its order; none for an empty body.

    Raises `RetryableError` if the body is no JSON array, or holds objects of which none is a trekkpålegg.
    """
    elements: list[Element] = []
    for raw in split_elements(body, content_type):
        try:
            elements.append(_build(_decode_strictly(raw), raw, _NONE))
        except _NOT_PLAIN:
            elements.append(_read_other(raw, trekkpliktig))
    if elements and not any(is_trekkpaalegg_like(element) for element in elements):
        raise RetryableError(f"answer holds another API's objects: none has trekkid or sekvensnummer ({len(elements)})")
    return elements


def read_trekkpaalegg(body: bytes, trekkpliktig: str, content_type: str = "") -> Element:
    """The one version in a single answer.

    Raises `RetryableError` if the body is no JSON object, or one without both trekkid and sekvensnummer.
    """
    element = _read_other(body, trekkpliktig)
    if not is_trekkpaalegg_like(element):
        raise RetryableError(f"answer is no trekkpålegg: {describe_body(body, content_type)}")
    return element


def _read_other(raw: bytes, trekkpliktig: str) -> Element:
    """An element that may hold further fields, or break a rule: the quick way once more without the former."""
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
