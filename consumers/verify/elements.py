"""One version as the source sends it, or as the topic has it, in; its content in a form that both share out. Pure.

Rules of the wire: Skatteetaten, "API for trekkpålegg", and the names in `schemas/README.md`.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from consumers.verify.content import Content, Period, hundredths, micros_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUSES = frozenset({"aktiv", "avsluttet"})
_PAYMENT = ("betalingsmottaker", "kidnummer", "kontonummer")
_PERIODE = frozenset({"startdato", "sluttdato", "trekkbeloep", "trekkprosent"})
_ORDER = frozenset(
    {
        *("trekkid", "trekkversjon", "sekvensnummer", "opprettet", "saksnummer", "trekkpliktig", "skyldner"),
        *("trekkstatus", "trekkstoerrelseForPeriode", "betalingsinformasjon"),
    }
)


class UnreadableElementError(ValueError):
    """What the source sent is no version that we understand; says which field, and never its value."""


def content_of_element(element: Mapping[str, Any]) -> Content:
    """From wire names and JSON's values, numbers with a fraction as `Decimal`. Raises `UnreadableElementError`."""
    name = "$"
    try:
        unknown = {key: element[key] for key in element.keys() - _ORDER}
        name = "trekkstatus"
        status = element.get(name, "ukjent")
        if status not in _STATUSES:
            if name in element:
                unknown[name] = status
            status = "ukjent"
        name = "saksnummer"
        saksnummer = element.get(name)
        if saksnummer is not None and not isinstance(saksnummer, str):
            unknown[name], saksnummer = saksnummer, None
        name = "trekkstoerrelseForPeriode"
        periods = tuple(_periode(each) for each in element[name])
        name = "betalingsinformasjon"
        payment = element[name]
        of_payment = {key: payment[key] for key in payment.keys() - set(_PAYMENT)}
        named = [payment[each] for each in _PAYMENT]
        name = "opprettet"
        opprettet = micros_of(element[name].upper())
        name = "$"
        return Content(
            (
                element["trekkid"],
                int(element["trekkversjon"]),
                int(element["sekvensnummer"]),
                opprettet,
                saksnummer,
                element["trekkpliktig"],
                element["skyldner"],
                status,
                *named,
                _canonical(of_payment),
                _canonical(unknown),
                0,
            ),
            periods,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Not chained: the error may show a value.
        raise UnreadableElementError(f"{name} ({type(error).__name__})") from None


def comparable(content: Content) -> Content:
    """What the topic has, in the form that `content_of_element` gives: its JSON texts rewritten in one way."""
    *first, of_payment, own, _ = content.order
    periods = tuple((*each[:4], _rewritten(each[4])) for each in content.periods)
    return Content((*first, _rewritten(of_payment), _rewritten(own), 0), periods)


def _periode(wire: Mapping[str, Any]) -> Period:
    unknown = {key: wire[key] for key in wire.keys() - _PERIODE}
    sizes: list[int | None] = []
    for name in ("trekkbeloep", "trekkprosent"):
        wrapper = wire.get(name)
        sizes.append(None if wrapper is None else hundredths(Decimal(wrapper[name])))
        if wrapper is not None:
            unknown |= {f"{name}.{key}": each for key, each in wrapper.items() if key != name}
    sluttdato = wire.get("sluttdato")
    start = date.fromisoformat(wire["startdato"]).isoformat()
    slutt = None if sluttdato is None else date.fromisoformat(sluttdato).isoformat()
    return start, slutt, sizes[0], sizes[1], _canonical(unknown)


def _canonical(values: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    return frozenset((name, _text(value)) for name, value in values.items()) if values else None


def _rewritten(pairs: frozenset[tuple[str, str]] | None) -> frozenset[tuple[str, str]] | None:
    """The same with each JSON text in canonical form; a text that is no JSON stays."""
    if pairs is None:
        return None
    rewritten = []
    for name, text in pairs:
        try:
            rewritten.append((name, _text(json.loads(text, parse_float=Decimal))))
        except ValueError:
            rewritten.append((name, text))
    return frozenset(rewritten)


def _text(value: Any) -> str:  # noqa: ANN401 - JSON may be anything
    return json.dumps(value, sort_keys=True, default=str)
