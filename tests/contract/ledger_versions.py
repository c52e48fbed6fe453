"""The versions that the suite of ledgers writes: an ordinary one, changed as a test says, and awkward ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer


def periode(startdato: date, sluttdato: date | None = None, **size: str) -> TrekkstoerrelseForPeriode:
    sizes = {name: Decimal(text) for name, text in size.items()}
    return TrekkstoerrelseForPeriode(startdato, sluttdato, sizes.get("beloep"), sizes.get("prosent"), {})


PERIODS = (periode(date(2026, 1, 1), date(2026, 6, 30), beloep="5000.00"), periode(date(2026, 7, 1), prosent="12.50"))
EVENT = TrekkpaaleggVersjon(
    trekkid="order-1",
    trekkversjon=1,
    sekvensnummer=7,
    opprettet=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    saksnummer="2026/1",
    trekkpliktig="312345678",
    skyldner=Foedselsnummer("01810112345"),
    trekkstatus="aktiv",
    trekkstoerrelse_for_periode=PERIODS,
    betalingsinformasjon=Betalingsinformasjon("314159265", "1234567897", "99990512345", {}),
    ukjente_felter={},
)


def event(trekkid: str = "order-1", trekkversjon: int = 1, **changed: Any) -> TrekkpaaleggVersjon:
    return msgspec.structs.replace(EVENT, trekkid=trekkid, trekkversjon=trekkversjon, **changed)


AWKWARD = {
    "as usual": EVENT,
    "no case": event(saksnummer=None),
    "an empty case": event(saksnummer=""),
    "no periods": event(trekkstoerrelse_for_periode=()),
    "a pause": event(trekkstoerrelse_for_periode=(periode(date(2026, 1, 1), beloep="0.00"),)),
    "the largest sizes": event(
        trekkstoerrelse_for_periode=(
            periode(date(1, 1, 1), date(9999, 12, 31), beloep="999999999999.99"),
            periode(date(2026, 1, 1), prosent="100.00"),
            periode(date(2026, 1, 1), prosent="0.01"),
        )
    ),
    "the largest numbers": event(trekkversjon=2**63 - 1, sekvensnummer=2**63 - 1),
    "a second without decimals": event(opprettet=datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    "another zone": event(opprettet=datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))),
    "unknown fields": event(
        trekkstatus="ukjent",
        ukjente_felter={"trekkstatus": '"på \\"vent\\""', "nytt": '{"a":[1,2.50,null]}'},
        betalingsinformasjon=Betalingsinformasjon("314159265", "42", "99990512345", {"bic": '"DNBA\\nNOKK"'}),
        trekkstoerrelse_for_periode=(msgspec.structs.replace(PERIODS[0], ukjente_felter={"merknad": '"\\\\ \\t"'}),),
    ),
    "awkward text": event(
        trekkid="tab\tline\nreturn\rback\\slash \\N 'quote' \"double\" æøå \U0001f600 %s {x} \\.", saksnummer="\\N"
    ),
}
