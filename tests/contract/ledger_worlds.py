"""Two worlds for the suite of ledgers: one in memory, and one that is read as a database."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.opening import open_engine, open_ledger
from consumers.ledger.port import StoredVersion
from tests.kit.fakes.ledger import FakeDatabase, FakeLedger
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from consumers.ledger.port import Ledger


class World(Protocol):
    """One ledger, and the eyes of a reader."""

    def open(self) -> Ledger: ...
    def newest(self) -> dict[str, StoredVersion]: ...
    def replaced(self) -> list[StoredVersion]: ...
    def conflicts(self) -> list[tuple[Coordinates, StoredVersion]]: ...


class FakeWorld:
    def __init__(self) -> None:
        self._database = FakeDatabase()

    def open(self) -> Ledger:
        return FakeLedger(self._database)

    def newest(self) -> dict[str, StoredVersion]:
        return {
            trekkid: msgspec.structs.replace(stored, late=False)
            for trekkid, stored in self._database.tables.newest.items()
        }

    def replaced(self) -> list[StoredVersion]:
        return list(self._database.tables.replaced.values())

    def conflicts(self) -> list[tuple[Coordinates, StoredVersion]]:
        return [
            (at, StoredVersion(incoming.event, incoming.late, incoming.correction))
            for at, incoming in self._database.tables.conflicts.items()
        ]


class SqlWorld:
    """Reads the tables as any other program would, by their definition."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened = ExitStack()

    def open(self) -> Ledger:
        ledger = open_ledger(self.url)
        self._opened.callback(ledger.close)
        return ledger

    def close(self) -> None:
        self._opened.close()

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with open_engine(self.url, read_only=True).connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

    def newest(self) -> dict[str, StoredVersion]:
        periods: dict[str, list[tuple[int, TrekkstoerrelseForPeriode]]] = {}
        for row in self.rows(tables.trekkstoerrelse_for_periode):
            trekkid, nummer = row.pop("trekkid"), row.pop("nummer")
            periods.setdefault(trekkid, []).append((nummer, TrekkstoerrelseForPeriode(**row)))
        newest = {}
        for row in self.rows(tables.trekkpaalegg):
            of_order = sorted(periods.pop(row["trekkid"], []), key=lambda pair: pair[0])
            assert [nummer for nummer, _ in of_order] == list(range(1, len(of_order) + 1))
            newest[row["trekkid"]] = stored_of(row, tuple(periode for _, periode in of_order))
        assert periods == {}
        return newest

    def replaced(self) -> list[StoredVersion]:
        return [stored_of(row) for row in self.rows(tables.trekkpaalegg_versjon_replaced)]

    def conflicts(self) -> list[tuple[Coordinates, StoredVersion]]:
        return [
            (Coordinates(row["topic"], row["partition"], row["offset"]), stored_of(row))
            for row in self.rows(tables.trekkpaalegg_conflict)
        ]


def stored_of(row: dict[str, Any], periods: tuple[TrekkstoerrelseForPeriode, ...] | None = None) -> StoredVersion:
    if periods is None:
        periods = msgspec.convert(row["trekkstoerrelse_for_periode"], tuple[TrekkstoerrelseForPeriode, ...])
    payment = Betalingsinformasjon(
        *(row[name] for name in ("betalingsmottaker", "kidnummer", "kontonummer")),
        row["betalingsinformasjon_ukjente_felter"],
    )
    given = {"skyldner": Foedselsnummer(row["skyldner"]), "betalingsinformasjon": payment}
    given["trekkstoerrelse_for_periode"] = periods
    fields = {name: given.get(name, row.get(name)) for name in TrekkpaaleggVersjon.__struct_fields__}
    return StoredVersion(TrekkpaaleggVersjon(**fields), row.get("late", False), row["correction"])
