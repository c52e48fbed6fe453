"""Elements as bytes, plain or changed, and each as it is parsed from a page."""

from __future__ import annotations

import json
from typing import Any

from producer.domain.trekkpaalegg import Rejected, Trekkpaalegg
from producer.source.parse.page import read_elements

TREKKPLIKTIG = "312345678"
SKYLDNER = "12345678901"
MISSING = object()
PERIODE: dict[str, Any] = {"startdato": "2026-01-01", "trekkbeloep": {"trekkbeloep": 5000}}
BETALINGSINFORMASJON = {"betalingsmottaker": "971648198", "kidnummer": "0000000018", "kontonummer": "70213997155"}
PLAIN: dict[str, Any] = {
    "trekkid": "10001",
    "trekkversjon": 2,
    "sekvensnummer": 38,
    "opprettet": "2025-08-09T15:00:00.123456Z",
    "saksnummer": "TREKK/2025/1",
    "trekkpliktig": TREKKPLIKTIG,
    "skyldner": SKYLDNER,
    "trekkstatus": "aktiv",
    "trekkstoerrelseForPeriode": [PERIODE],
    "betalingsinformasjon": BETALINGSINFORMASJON,
}
OTHER = {**PLAIN, "trekkid": "10002", "sekvensnummer": 39}


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**PLAIN, **changes}.items() if value is not MISSING}


def with_periode(**changes: Any) -> dict[str, Any]:
    periode = {name: value for name, value in {**PERIODE, **changes}.items() if value is not MISSING}
    return changed(trekkstoerrelseForPeriode=[PERIODE, periode])


def with_number(name: str, number: str) -> bytes:
    """An element whose second period holds the JSON text `number` as its size."""
    element = json.dumps(with_periode(**{"trekkbeloep": MISSING, name: {name: "NUMBER"}}))
    return element.replace('"NUMBER"', number).encode()


def read(element: dict[str, Any] | bytes) -> Trekkpaalegg | Rejected:
    """The element as it comes out of a page, between others that must survive it."""
    raw = element if isinstance(element, bytes) else json.dumps(element).encode()
    first, read_element, last = read_elements(b"[%s, %s,%s]" % (encoded(OTHER), raw, encoded(OTHER)), TREKKPLIKTIG)
    assert isinstance(first, Trekkpaalegg)
    assert isinstance(last, Trekkpaalegg)
    return read_element


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
