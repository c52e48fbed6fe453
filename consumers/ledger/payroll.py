"""What a payout reads from the ledger and records in it: orders with their periods, and postings.

A payout reads and writes in one SQL transaction, so that neither another payout nor a replay's swap can come between.

`gc=False`: no struct here can be part of a cycle, and a payout holds hundreds of thousands.
"""

from __future__ import annotations

import calendar
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.translation import translating
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine


class Payee(msgspec.Struct, frozen=True, gc=False):
    """Where a payment goes."""

    betalingsmottaker: str
    kidnummer: str
    kontonummer: str


class OrderPeriod(msgspec.Struct, frozen=True, gc=False):
    """What to withhold in one period, both days included: kroner a month, or percent of gross pay."""

    startdato: date
    sluttdato: date | None
    trekkbeloep: Decimal | None
    trekkprosent: Decimal | None


class Order(msgspec.Struct, frozen=True, gc=False):
    """The newest version of one order. `periods` are in rising startdato."""

    trekkid: str
    trekkversjon: int
    sekvensnummer: int
    trekkpliktig: str
    skyldner: Foedselsnummer
    trekkstatus: str
    payee: Payee
    periods: tuple[OrderPeriod, ...]


class Postering(msgspec.Struct, frozen=True, gc=False):
    """What one payout withheld for one order; a row of the table `postering`. Amounts in kroner.

    `trekkbeloep` or `trekkprosent` is what the order prescribed; both are None where its status alone decided.
    `betalingsoppdrag` is the number of its payment file, from 1; None if there is nothing to pay, or it is held back
    until the payee is accepted.
    """

    utbetalingsdato: date
    utbetaling: str
    trekkid: str
    trekkversjon: int
    trekkpliktig: str
    skyldner: Foedselsnummer
    brutto: Decimal
    beloep: Decimal
    trekkbeloep: Decimal | None
    trekkprosent: Decimal | None
    allerede_trukket: Decimal
    grunnlag: str
    varsler: tuple[str, ...]
    payee: Payee
    forfallsdato: date
    betalingsoppdrag: int | None
    recorded: datetime


class LastPayment(msgspec.Struct, frozen=True, gc=False):
    """The last payment of an order: the date of its payout, and the payee."""

    utbetalingsdato: date
    payee: Payee


class Recorded(msgspec.Struct, frozen=True):
    """What is recorded of one payout: its postings, the number of files processed, and later payouts.

    `later` has the date and name of every other payout that has recorded postings of the same orders since.
    """

    postings: list[Postering]
    file_count: int
    later: list[tuple[date, str]]


class PayrollView(msgspec.Struct, frozen=True):
    """Everything that a payout needs from the ledger, as of one moment.

    `orders` have only the periods that contain the payout's date; `postings` are those of its calendar month;
    `last_payments` are by trekkid; `is_known_file`: this file was processed for this payout before.
    """

    orders: list[Order]
    postings: list[Postering]
    last_payments: dict[str, LastPayment]
    is_known_file: bool


_ROWS_MAX = 5000
_PAYEE = Payee.__struct_fields__

# Taken before the first read: its snapshot must come after a swap in progress, or the new tables would appear empty.
_LOCK_ORDERS = "LOCK TABLE trekkpaalegg, trekkstoerrelse_for_periode IN ACCESS SHARE MODE"
_LOCK_POSTINGS = "LOCK TABLE postering IN SHARE ROW EXCLUSIVE MODE"


class PayrollTransaction:
    """What a payout reads and writes in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, day: date, name: str, trekkpliktig: Collection[str], file_digest: str) -> PayrollView:
        """The orders with their periods on that day, the month's postings, and the last payment of each order.

        Only orders of the employers in `trekkpliktig`, or of all if it is empty.
        """
        read = tables.utbetaling.c
        known = sa.select(sa.func.count()).where(
            read.utbetalingsdato == day, read.utbetaling == name, read.file_digest == file_digest
        )
        return PayrollView(
            orders=self._orders(day, trekkpliktig),
            postings=self._postings(day),
            last_payments=self._last_payments(),
            is_known_file=bool(self._connection.execute(known).scalar()),
        )

    def write(self, new: Sequence[Postering], released: Iterable[Postering]) -> None:
        """Insert the new postings, and set the payment file of those that were held back."""
        rows = [_row_of(each) for each in new]
        for start in range(0, len(rows), _ROWS_MAX):
            self._connection.execute(sa.insert(tables.postering), rows[start : start + _ROWS_MAX])
        table = tables.postering
        for each in released:
            self._connection.execute(
                sa.update(table)
                .where(
                    table.c.utbetalingsdato == each.utbetalingsdato,
                    table.c.utbetaling == each.utbetaling,
                    table.c.trekkid == each.trekkid,
                    table.c.betalingsoppdrag.is_(None),
                )
                .values(betalingsoppdrag=each.betalingsoppdrag)
            )

    def record_file(self, day: date, name: str, file_digest: str, now: datetime) -> None:
        """Record that this file was processed for this payout."""
        row = {"utbetalingsdato": day, "utbetaling": name, "file_digest": file_digest, "recorded": now}
        self._connection.execute(sa.insert(tables.utbetaling).values(row))

    def recorded(self, day: date, name: str) -> Recorded:
        """What is recorded of this payout, and which other payouts have recorded postings of its orders since."""
        own, other, files = tables.postering.alias("own"), tables.postering.alias("other"), tables.utbetaling.c
        is_own = sa.and_(own.c.utbetalingsdato == day, own.c.utbetaling == name)
        same_order = sa.and_(own.c.trekkid == other.c.trekkid, other.c.recorded > own.c.recorded)
        rows = self._connection.execute(sa.select(own).where(is_own).order_by(own.c.trekkid))
        later = self._connection.execute(
            sa.select(other.c.utbetalingsdato, other.c.utbetaling)
            .select_from(own.join(other, same_order))
            .where(is_own, sa.or_(other.c.utbetalingsdato != day, other.c.utbetaling != name))
            .distinct()
            .order_by(other.c.utbetalingsdato, other.c.utbetaling)
        )
        count = sa.select(sa.func.count()).where(files.utbetalingsdato == day, files.utbetaling == name)
        return Recorded(
            postings=[_postering_of(dict(row)) for row in rows.mappings()],
            file_count=self._connection.execute(count).scalar_one(),
            later=[(row[0], row[1]) for row in later],
        )

    def take_back(self, day: date, name: str, reason: str, now: datetime) -> None:
        """Move this payout's postings to `postering_taken_back`, and delete its files, which may be processed again."""
        own, kept, files = tables.postering, tables.postering_taken_back, tables.utbetaling
        is_own = sa.and_(own.c.utbetalingsdato == day, own.c.utbetaling == name)
        stamp = (sa.literal(now, kept.c.taken_back.type), sa.literal(reason, kept.c.taken_back_reason.type))
        names = [column.name for column in own.columns]
        moved = sa.select(*own.columns, *stamp).where(is_own)
        self._connection.execute(sa.insert(kept).from_select([*names, "taken_back", "taken_back_reason"], moved))
        self._connection.execute(sa.delete(own).where(is_own))
        self._connection.execute(sa.delete(files).where(files.c.utbetalingsdato == day, files.c.utbetaling == name))

    def _orders(self, day: date, trekkpliktig: Collection[str]) -> list[Order]:
        order, periode = tables.trekkpaalegg.c, tables.trekkstoerrelse_for_periode.c
        contains = sa.and_(
            periode.trekkid == order.trekkid,
            periode.startdato <= day,
            sa.or_(periode.sluttdato.is_(None), periode.sluttdato >= day),
        )
        query = (
            sa.select(
                *(order.trekkid, order.trekkversjon, order.sekvensnummer, order.trekkpliktig, order.skyldner),
                *(order.trekkstatus, order.betalingsmottaker, order.kidnummer, order.kontonummer),
                *(periode.startdato, periode.sluttdato, periode.trekkbeloep, periode.trekkprosent),
            )
            .select_from(tables.trekkpaalegg.outerjoin(tables.trekkstoerrelse_for_periode, contains))
            .order_by(order.trekkid, periode.startdato, periode.nummer)
        )
        if trekkpliktig:
            query = query.where(order.trekkpliktig.in_(sorted(trekkpliktig)))
        rows = self._connection.execute(query)
        return [_order_of(list(same)) for _, same in groupby(rows, key=lambda row: row[0])]

    def _postings(self, day: date) -> list[Postering]:
        table = tables.postering.c
        last_day = calendar.monthrange(day.year, day.month)[1]
        query = (
            sa.select(tables.postering)
            .where(table.utbetalingsdato.between(day.replace(day=1), day.replace(day=last_day)))
            .order_by(table.utbetalingsdato, table.utbetaling, table.trekkid)
        )
        return [_postering_of(dict(row)) for row in self._connection.execute(query).mappings()]

    def _last_payments(self) -> dict[str, LastPayment]:
        table = tables.postering.c
        newest_first = sa.func.row_number().over(
            partition_by=table.trekkid, order_by=(table.recorded.desc(), table.utbetalingsdato.desc())
        )
        ranked = (
            sa.select(
                *(table.trekkid, table.utbetalingsdato, table.betalingsmottaker, table.kidnummer, table.kontonummer),
                newest_first.label("rank"),
            )
            .where(table.betalingsoppdrag.is_not(None))
            .subquery()
        )
        rows = self._connection.execute(sa.select(ranked).where(ranked.c.rank == 1))
        return {row[0]: LastPayment(row[1], Payee(row[2], row[3], row[4])) for row in rows}


@contextmanager
def payroll_transaction(engine: Engine, *, read_only: bool = False) -> Iterator[PayrollTransaction]:
    """One transaction, committed at the end of the context, or rolled back by an error.

    A second one waits for the first; with `read_only` it waits for none. Raises `RetryableError` if the wait is too
    long or the database cannot be reached, and `FatalError` if it refuses.
    """
    with translating(), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901 - the same one
        with connection.begin():
            if connection.dialect.name == "postgresql":
                if not read_only:
                    connection.execute(sa.text(_LOCK_POSTINGS))
                connection.execute(sa.text(_LOCK_ORDERS))
            yield PayrollTransaction(connection)


def _order_of(rows: list[Any]) -> Order:
    first = rows[0]
    return Order(
        trekkid=first[0],
        trekkversjon=first[1],
        sekvensnummer=first[2],
        trekkpliktig=first[3],
        skyldner=Foedselsnummer(first[4]),
        trekkstatus=first[5],
        payee=Payee(first[6], first[7], first[8]),
        periods=tuple([OrderPeriod(*row[9:13]) for row in rows if row[9] is not None]),
    )


def _postering_of(row: dict[str, Any]) -> Postering:
    payee = Payee(**{name: row.pop(name) for name in _PAYEE})
    row |= {"payee": payee, "skyldner": Foedselsnummer(row["skyldner"]), "varsler": tuple(row["varsler"])}
    return Postering(**row)


def _row_of(posting: Postering) -> dict[str, Any]:
    row = msgspec.structs.asdict(posting)
    row |= msgspec.structs.asdict(row.pop("payee"))
    return row | {"skyldner": posting.skyldner.reveal(), "varsler": list(posting.varsler)}
