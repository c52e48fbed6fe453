"""The event as a consumer works with it: one version of one trekkpålegg.

Field names are those of `schemas/trekkpaalegg_versjon.avsc`; the glossary in `schemas/README.md` explains them.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from trekkpaalegg.identifiers import Foedselsnummer


class TrekkstoerrelseForPeriode(msgspec.Struct, frozen=True, gc=False):
    """What to withhold in one period, both days included: an amount (NOK a month) or a percentage (of gross pay)."""

    startdato: date
    sluttdato: date | None
    trekkbeloep: Decimal | None
    trekkprosent: Decimal | None
    ukjente_felter: dict[str, str]


class Betalingsinformasjon(msgspec.Struct, frozen=True, gc=False):
    """Where the employer pays what was withheld."""

    betalingsmottaker: str
    kidnummer: str
    kontonummer: str
    ukjente_felter: dict[str, str]


class TrekkpaaleggVersjon(msgspec.Struct, frozen=True, gc=False):
    """One version of one order. `opprettet` is in UTC; `trekkstatus` is aktiv, avsluttet or ukjent."""

    trekkid: str
    trekkversjon: int
    sekvensnummer: int
    opprettet: datetime
    saksnummer: str | None
    trekkpliktig: str
    skyldner: Foedselsnummer
    trekkstatus: str
    trekkstoerrelse_for_periode: tuple[TrekkstoerrelseForPeriode, ...]
    betalingsinformasjon: Betalingsinformasjon
    ukjente_felter: dict[str, str]


def trekkpaalegg_versjon_from(datum: dict[str, Any]) -> TrekkpaaleggVersjon:
    """The version that a decoded record of the current schema holds. Raises KeyError or TypeError for any other."""
    typed = {
        "skyldner": Foedselsnummer(datum["skyldner"]),
        "trekkstoerrelse_for_periode": tuple(
            [TrekkstoerrelseForPeriode(**periode) for periode in datum["trekkstoerrelse_for_periode"]]
        ),
        "betalingsinformasjon": Betalingsinformasjon(**datum["betalingsinformasjon"]),
    }
    return TrekkpaaleggVersjon(**(datum | typed))
