"""Orders as payroll sees them, or a ledger that holds them, made from versions in wire names without Kafka."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from consumers.apply.worker import apply
from consumers.ledger.opening import open_ledger
from consumers.ledger.payroll import Order, OrderPeriod, Payee
from sandbox.skatteetaten.examples import official_examples
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Advance, Coordinates, IncomingEvent, Partition

if TYPE_CHECKING:
    from consumers.ledger.port import Ledger

Wire = dict[str, Any]

_TOPIC = "payroll-desk-versjoner"


def example(trekkid: str, trekkversjon: int, **changes: Any) -> Wire:
    """One of Skatteetaten's examples, with these wire names changed."""
    found = next(
        each for each in official_examples() if (each["trekkid"], each["trekkversjon"]) == (trekkid, trekkversjon)
    )
    return found | changes


def event_of(wire: Wire) -> TrekkpaaleggVersjon:
    """The event that the producer would publish of it."""
    paid = wire["betalingsinformasjon"]
    return TrekkpaaleggVersjon(
        trekkid=wire["trekkid"],
        trekkversjon=wire["trekkversjon"],
        sekvensnummer=wire["sekvensnummer"],
        opprettet=datetime.fromisoformat(wire["opprettet"]),
        saksnummer=wire.get("saksnummer"),
        trekkpliktig=wire["trekkpliktig"],
        skyldner=Foedselsnummer(wire["skyldner"]),
        trekkstatus=wire["trekkstatus"],
        trekkstoerrelse_for_periode=tuple(_period_of(each) for each in wire["trekkstoerrelseForPeriode"]),
        betalingsinformasjon=Betalingsinformasjon(
            paid["betalingsmottaker"], paid["kidnummer"], paid["kontonummer"], {}
        ),
        ukjente_felter={},
    )


def order_of(wire: Wire) -> Order:
    """The order as payroll reads it, with all its periods."""
    event = event_of(wire)
    paid = event.betalingsinformasjon
    return Order(
        trekkid=event.trekkid,
        trekkversjon=event.trekkversjon,
        sekvensnummer=event.sekvensnummer,
        trekkpliktig=event.trekkpliktig,
        skyldner=event.skyldner,
        trekkstatus=event.trekkstatus,
        payee=Payee(paid.betalingsmottaker, paid.kidnummer, paid.kontonummer),
        periods=tuple(
            OrderPeriod(each.startdato, each.sluttdato, each.trekkbeloep, each.trekkprosent)
            for each in event.trekkstoerrelse_for_periode
        ),
    )


class PayrollDesk:
    """A ledger that receives versions one batch at a time, as a consumer would write them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ledger: Ledger = open_ledger(url)
        self._next_offset = 0

    def receive(self, *wires: Wire, correction: int = 0) -> None:
        """Apply these versions in one transaction."""
        batch = [
            IncomingEvent(Coordinates(_TOPIC, 0, offset), event_of(wire), correction=correction)
            for offset, wire in enumerate(wires, start=self._next_offset)
        ]
        advances = {Partition(_TOPIC, 0): Advance(self._next_offset, self._next_offset + len(batch))}
        with self._ledger.transaction(advances) as transaction:
            apply(transaction, batch)
        self._next_offset += len(batch)

    def close(self) -> None:
        """Close the ledger's connections."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _period_of(wire: Wire) -> TrekkstoerrelseForPeriode:
    return TrekkstoerrelseForPeriode(
        startdato=date.fromisoformat(wire["startdato"]),
        sluttdato=date.fromisoformat(wire["sluttdato"]) if "sluttdato" in wire else None,
        trekkbeloep=_decimal(wire, "trekkbeloep"),
        trekkprosent=_decimal(wire, "trekkprosent"),
        ukjente_felter={},
    )


def _decimal(wire: Wire, name: str) -> Decimal | None:
    return Decimal(str(wire[name][name])).quantize(Decimal("0.01")) if name in wire else None
