"""What payroll reads of a ledger and writes into it, as types: orders with their periods, and postings. Pure.

`gc=False`: none of them can be part of a cycle, and a payout holds hundreds of thousands.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import msgspec

from consumers.event import Foedselsnummer


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

    `trekkbeloep` or `trekkprosent` is what the order asked for; neither where its status alone decided.
    `betalingsoppdrag` is the file of payments it goes in, from 1; None: nothing to pay, or held back until the payee
    is accepted.
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
    """The last payment of an order: at which payout, and where it went."""

    utbetalingsdato: date
    payee: Payee


class Recorded(msgspec.Struct, frozen=True):
    """What is recorded of one payout: postings, how many files were worked through, and later payouts.

    `later` are the date and name of every other payout that has recorded something of the same orders since.
    """

    postings: list[Postering]
    file_count: int
    later: list[tuple[date, str]]


class PayrollView(msgspec.Struct, frozen=True):
    """All that a payout needs of a ledger, read at one moment.

    `orders` have the periods that contain the payout's date and no others; `postings` are those of its calendar
    month; `last_payments` are by trekkid; `is_known_file`: this file was worked through for this payout before.
    """

    orders: list[Order]
    postings: list[Postering]
    last_payments: dict[str, LastPayment]
    is_known_file: bool
