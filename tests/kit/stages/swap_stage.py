"""A live ledger and replay targets beside it, with orders to write to each: for tests of the swap."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import msgspec

from consumers.ledger.opening import open_ledger
from consumers.ledger.port import Changes
from consumers.replay.replay import open_replay_target
from tests.kit.stages.ledger_stage import by_hand, every_row
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Advance, Coordinates, IncomingEvent, Partition, UndecodableMessage

if TYPE_CHECKING:
    import sqlalchemy as sa

    from consumers.ledger.port import Ledger
    from consumers.replay.target import ReplayTarget

TOPIC = "orders-versjoner"
PLAN = "orders-versjoner from the beginning"
EVENT = TrekkpaaleggVersjon(
    trekkid="order",
    trekkversjon=1,
    sekvensnummer=1,
    opprettet=datetime(2026, 1, 1, tzinfo=UTC),
    saksnummer=None,
    trekkpliktig="312345678",
    skyldner=Foedselsnummer("01810112345"),
    trekkstatus="aktiv",
    trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal("5000.00"), None, {}),),
    betalingsinformasjon=Betalingsinformasjon("314159265", "1234567897", "99990512345", {}),
    ukjente_felter={"nytt": "1"},
)


class SwapStage:
    """One live ledger, and targets beside it, all closed at the end. `schema` is where it lies on PostgreSQL."""

    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.schema = schema
        self._opened = ExitStack()
        self.live = self.open()

    def open(self) -> Ledger:
        """The live ledger once more, with connections of its own."""
        ledger = open_ledger(self.url)
        self._opened.callback(ledger.close)
        return ledger

    def target(self, plan: str = PLAN, *, copy: bool = False) -> ReplayTarget:
        """The fresh ledger of this plan, begun or continued."""
        target = open_replay_target(self.url, plan, copy=copy)
        self._opened.callback(target.close)
        return target

    def rows(self, table: sa.Table) -> list[sa.Row[Any]]:
        """All of the live ledger, by key."""
        return every_row(self.url, table)

    def execute(self, *statements: sa.Executable) -> None:
        """Change the live ledger by hand."""
        by_hand(self.url, *statements)

    def close(self) -> None:
        """Close the live ledger and all targets."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(ledger: Ledger, before: int, after: int, **changed: Any) -> None:
    """Version 1 of as many orders as there are offsets."""
    incomings = [
        IncomingEvent(
            Coordinates(TOPIC, 0, offset), msgspec.structs.replace(EVENT, **({"trekkid": f"order-{offset}"} | changed))
        )
        for offset in range(before, after)
    ]
    with ledger.transaction({Partition(TOPIC, 0): Advance(before, after)}) as transaction:
        transaction.write(Changes(inserted=incomings, newest={each.event.trekkid: each for each in incomings}))


def undecodable(ledger: Ledger, offset: int) -> UndecodableMessage:
    """Keep a message that could not be decoded; returns it."""
    message = UndecodableMessage(Coordinates(TOPIC, 0, offset), b"key", b"\x00", {}, "cut off")
    with ledger.transaction({}) as transaction:
        transaction.keep_undecodable([message])
    return message
