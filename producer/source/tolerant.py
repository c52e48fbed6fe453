"""Bytes of one element in; the `Trekkpaalegg`, or the `Rejected` that names the field at fault, out. Pure.

Reads field by field, so it keeps unknown fields of every level and can say where a fault is. `wire.py` has the
fast way for elements that hold the known fields and no other.

Mandatory are the fields of the hard rules (README.md in this folder), and those without which no event can be written.
A `trekkstatus` that is missing or unknown is kept as `UKJENT`, a `saksnummer` that is no text as an unknown field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from producer.domain.identifiers import Foedselsnummer
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.source.fields import (
    FieldFaultError,
    check_skyldner,
    check_trekkid,
    check_trekkpliktig,
    read_beloep,
    read_date,
    read_instant,
    read_number,
    read_prosent,
)
from producer.source.objects import (
    NOT_JSON,
    NULL,
    Fields,
    decode_text,
    is_given,
    object_at,
    present,
    read_object,
    text_at,
)
from producer.source.rejection import check_identity_is_not_personal, read_loosely, reject

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from decimal import Decimal

    from producer.domain.trekkpaalegg import Element

Text = TypeVar("Text", str, bytes)
Value = TypeVar("Value")

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

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_tolerantly(raw: bytes, trekkpliktig: str) -> Element:
    """One element of an answer to a question about `trekkpliktig`. Raises nothing, whatever the bytes are."""
    try:
        fields = read_object(raw)
    except FieldFaultError as fault:
        return reject(raw, trekkpliktig, fault, read_loosely(raw))
    try:
        return _read_trekkpaalegg(raw, fields)
    except FieldFaultError as fault:
        return reject(raw, trekkpliktig, fault, fields)


def unknown_fields(fields: Fields, known: frozenset[str] = _KNOWN, prefix: str = "") -> dict[str, str]:
    """The fields whose names are not known, each as the JSON text that was sent."""
    return {f"{prefix}{name}": bytes(raw).decode(errors="replace") for name, raw in fields.items() if name not in known}


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
        return decode_text(text)
    except NOT_JSON:
        ukjente_felter["saksnummer"] = text.decode(errors="replace")
        return None


def _trekkstatus(fields: Fields, ukjente_felter: dict[str, str]) -> Trekkstatus:
    if "trekkstatus" not in fields:
        return Trekkstatus.UKJENT
    text = bytes(fields["trekkstatus"])
    try:
        return TREKKSTATUS_OF_TEXT[decode_text(text)]
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
    """The number inside `{"<name>": {"<name>": number}}`; what else stands beside it goes to `ukjente_felter`."""
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
