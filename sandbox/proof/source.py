"""The simulated source in, the event that each of its versions must become out; by a plain JSON parser."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.event import Betalingsinformasjon, Foedselsnummer, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.skatteetaten.state import Skatteetaten

_KNOWN_STATUSES = frozenset({"aktiv", "avsluttet"})
_PERIODE_FIELDS = frozenset({"startdato", "sluttdato", "trekkbeloep", "trekkprosent"})


def versions_of_source(
    skatteetaten: Skatteetaten, trekkpliktige: Iterable[str] | None = None
) -> dict[tuple[str, int], TrekkpaaleggVersjon]:
    """Every version that can be had from the simulated source now, as the event it must become.

    `trekkpliktige` narrows it to orders that stand in the lists of these.
    """
    return {
        identity: version_from_json(body) for identity, body in bodies_of_source(skatteetaten, trekkpliktige).items()
    }


def bodies_of_source(
    skatteetaten: Skatteetaten, trekkpliktige: Iterable[str] | None = None
) -> dict[tuple[str, int], bytes]:
    """As `versions_of_source`, but as the source sends them: to tell which there are, and no more."""
    wanted = None if trekkpliktige is None else set(trekkpliktige)
    with skatteetaten.lock:
        return {
            (each.trekkid, each.trekkversjon): each.body
            for each in skatteetaten.book.every_version()
            if skatteetaten.book.is_visible(each) and (wanted is None or each.owner in wanted)
        }


def version_from_json(body: bytes) -> TrekkpaaleggVersjon:
    """The event that one version of the source must become."""
    wire: dict[str, Any] = json.loads(body, parse_float=Decimal)
    unknown = wire.keys() - {_wire_name(name) for name in TrekkpaaleggVersjon.__struct_fields__}
    ukjente_felter = {name: _canonical(wire[name]) for name in unknown}
    trekkstatus = wire["trekkstatus"]
    if trekkstatus not in _KNOWN_STATUSES:
        ukjente_felter["trekkstatus"] = _canonical(trekkstatus)
        trekkstatus = "ukjent"
    payment = wire["betalingsinformasjon"]
    payment_fields = ("betalingsmottaker", "kidnummer", "kontonummer")
    return TrekkpaaleggVersjon(
        trekkid=wire["trekkid"],
        trekkversjon=wire["trekkversjon"],
        sekvensnummer=wire["sekvensnummer"],
        opprettet=datetime.fromisoformat(wire["opprettet"]),
        saksnummer=wire.get("saksnummer"),
        trekkpliktig=wire["trekkpliktig"],
        skyldner=Foedselsnummer(wire["skyldner"]),
        trekkstatus=trekkstatus,
        trekkstoerrelse_for_periode=tuple(_periode(each) for each in wire["trekkstoerrelseForPeriode"]),
        betalingsinformasjon=Betalingsinformasjon(
            **{name: payment[name] for name in payment_fields},
            ukjente_felter={name: _canonical(payment[name]) for name in payment.keys() - set(payment_fields)},
        ),
        ukjente_felter=ukjente_felter,
    )


def with_canonical_json(event: TrekkpaaleggVersjon) -> TrekkpaaleggVersjon:
    """The event with the JSON text of its unknown fields written in one way, so that only the meaning is compared."""
    return msgspec.structs.replace(
        event,
        ukjente_felter=_canonical_texts(event.ukjente_felter),
        betalingsinformasjon=msgspec.structs.replace(
            event.betalingsinformasjon, ukjente_felter=_canonical_texts(event.betalingsinformasjon.ukjente_felter)
        ),
        trekkstoerrelse_for_periode=tuple(
            msgspec.structs.replace(each, ukjente_felter=_canonical_texts(each.ukjente_felter))
            for each in event.trekkstoerrelse_for_periode
        ),
    )


def _periode(wire: dict[str, Any]) -> TrekkstoerrelseForPeriode:
    sluttdato = wire.get("sluttdato")
    beloep, prosent = wire.get("trekkbeloep"), wire.get("trekkprosent")
    return TrekkstoerrelseForPeriode(
        startdato=date.fromisoformat(wire["startdato"]),
        sluttdato=date.fromisoformat(sluttdato) if sluttdato else None,
        trekkbeloep=Decimal(beloep["trekkbeloep"]) if beloep else None,
        trekkprosent=Decimal(prosent["trekkprosent"]) if prosent else None,
        ukjente_felter={name: _canonical(wire[name]) for name in wire.keys() - _PERIODE_FIELDS},
    )


def _wire_name(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=float)


def _canonical_texts(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: _canonical(json.loads(text)) for name, text in texts.items()}
