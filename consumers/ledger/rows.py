"""Converts events to rows of the ledger's tables, and back. Pure; the order of the fields is that of `tables.py`.

Moments, dates and decimals stay Python's own; each database's adapter turns them into what it stores.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.ledger import tables
from consumers.ledger.port import StoredVersion
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import sqlalchemy as sa

    from trekkpaalegg.incoming import IncomingEvent

OrderRow = tuple[
    *tuple[str, int, int, datetime, str | None, str, str, str, str, str, str, str, str],
    int,
]
"""trekkid, trekkversjon and what the version says, without periods."""

PeriodRow = tuple[str, int, date, date | None, Decimal | None, Decimal | None, str]

# Sorted names make equal contents equal texts, in whichever order they came.
_JSON = msgspec.json.Encoder(order="deterministic")
_PERIODS = msgspec.json.Decoder(tuple[TrekkstoerrelseForPeriode, ...])
_FIELDS = msgspec.json.Decoder(dict[str, str])


def names_of(table: sa.Table) -> tuple[str, ...]:
    """The table's columns, in order."""
    return tuple(column.name for column in table.columns)


ORDER = names_of(tables.trekkpaalegg)
HISTORY = names_of(tables.trekkpaalegg_versjon)
PERIOD = names_of(tables.trekkstoerrelse_for_periode)
CONFLICT = names_of(tables.trekkpaalegg_conflict)
UNDECODABLE = names_of(tables.undecodable_message)


def order_row(event: TrekkpaaleggVersjon, correction: int) -> OrderRow:
    """The row of `trekkpaalegg`."""
    payment = event.betalingsinformasjon
    return (
        event.trekkid,
        event.trekkversjon,
        event.sekvensnummer,
        event.opprettet,
        event.saksnummer,
        event.trekkpliktig,
        event.skyldner.reveal(),
        event.trekkstatus,
        payment.betalingsmottaker,
        payment.kidnummer,
        payment.kontonummer,
        fields_text(payment.ukjente_felter),
        fields_text(event.ukjente_felter),
        correction,
    )


def history_row(order: OrderRow, event: TrekkpaaleggVersjon, *, late: bool) -> tuple[Any, ...]:
    """The row of `trekkpaalegg_versjon`, which begins with that of `trekkpaalegg`."""
    return (*order, late, _JSON.encode(event.trekkstoerrelse_for_periode).decode())


def stored_row(stored: StoredVersion) -> tuple[Any, ...]:
    """The row of `trekkpaalegg_versjon` that this came from."""
    return history_row(order_row(stored.event, stored.correction), stored.event, late=stored.late)


def conflict_row(incoming: IncomingEvent) -> tuple[Any, ...]:
    """The row of `trekkpaalegg_conflict`."""
    at, event = incoming.coordinates, incoming.event
    row = history_row(order_row(event, incoming.correction), event, late=incoming.late)
    return (at.topic, at.partition, at.offset, *row)


def period_rows(events: Iterable[TrekkpaaleggVersjon]) -> Iterator[PeriodRow]:
    """The rows of `trekkstoerrelse_for_periode`."""
    for event in events:
        for nummer, periode in enumerate(event.trekkstoerrelse_for_periode, start=1):
            yield (
                event.trekkid,
                nummer,
                periode.startdato,
                periode.sluttdato,
                periode.trekkbeloep,
                periode.trekkprosent,
                fields_text(periode.ukjente_felter),
            )


def fields_text(fields: dict[str, str]) -> str:
    """Names and texts as JSON; equal ones give equal text."""
    return _JSON.encode(fields).decode() if fields else "{}"


def stored_version_from(row: tuple[Any, ...]) -> StoredVersion:
    """From a row of `trekkpaalegg_versjon`, JSON as text, moments in UTC, to what was stored."""
    event = TrekkpaaleggVersjon(
        trekkid=row[0],
        trekkversjon=row[1],
        sekvensnummer=row[2],
        opprettet=row[3],
        saksnummer=row[4],
        trekkpliktig=row[5],
        skyldner=Foedselsnummer(row[6]),
        trekkstatus=row[7],
        trekkstoerrelse_for_periode=_PERIODS.decode(row[15]),
        betalingsinformasjon=Betalingsinformasjon(row[8], row[9], row[10], _FIELDS.decode(row[11])),
        ukjente_felter=_FIELDS.decode(row[12]),
    )
    return StoredVersion(event, bool(row[14]), row[13])
