"""How much to withhold from one person's pay for each order. Pure.

Sources: Skatteetaten's page on trekkpålegg: the period is chosen by the date of the payout; a percentage applies to the
gross pay of every payout, an amount once a calendar month; 0 is a pause. `consumers/payout/README.md` lists the
questions that no source answers, and our choices.
"""

from __future__ import annotations

import decimal
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.payroll import Order, OrderPeriod
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


ZERO = Decimal(0)
_HUNDRED = Decimal(100)
_KRONE = Decimal(1)


class Rounding(StrEnum):
    """How amounts are rounded to whole kroner. `down` never withholds more than the order says."""

    DOWN = "down"
    HALF_UP = "half-up"
    HALF_EVEN = "half-even"
    UP = "up"


_MODES = {
    Rounding.DOWN: decimal.ROUND_DOWN,
    Rounding.HALF_UP: decimal.ROUND_HALF_UP,
    Rounding.HALF_EVEN: decimal.ROUND_HALF_EVEN,
    Rounding.UP: decimal.ROUND_UP,
}


class Rules(msgspec.Struct, frozen=True):
    """Settings for what no source decides. `follow_ended`: withhold for `avsluttet` orders until their periods end."""

    rounding: Rounding = Rounding.DOWN
    follow_ended: bool = False


class Payout(msgspec.Struct, frozen=True):
    """One payout and its rules. `name` distinguishes payouts of one date; an empty `trekkpliktig` means all employers.

    `accepted`: the orders (trekkid) whose changed payee a person has approved.
    """

    utbetalingsdato: date
    name: str
    forfallsdato: date
    rules: Rules
    trekkpliktig: frozenset[str]
    accepted: frozenset[str]
    now: datetime


class Pay(msgspec.Struct, frozen=True, gc=False):
    """One line of the gross pay file, in kroner, with its line number.

    `allerede_trukket` was withheld from the person in this calendar month without being recorded in the ledger.
    """

    skyldner: Foedselsnummer
    brutto: Decimal
    allerede_trukket: Decimal
    line: int


class Deduction(msgspec.Struct, frozen=True, gc=False):
    """What to withhold for one order, in whole kroner, with the reason and warnings."""

    order: Order
    beloep: Decimal
    periode: OrderPeriod | None
    allerede_trukket: Decimal
    grunnlag: str
    varsler: tuple[str, ...]


class _Demand(msgspec.Struct, frozen=True, gc=False):
    """What an order demands, before it is known whether the pay is sufficient."""

    order: Order
    periode: OrderPeriod | None
    beloep: Decimal
    allerede_trukket: Decimal
    grunnlag: str
    varsler: tuple[str, ...] = ()


def deductions_of(
    pay: Pay, orders: Iterable[Order], withheld: Mapping[str, Decimal], day: date, rules: Rules
) -> list[Deduction]:
    """What to withhold from one person at the payout on `day`, oldest sekvensnummer first.

    `withheld`: by trekkid, what earlier payouts of the calendar month withheld as part of a monthly amount. Orders
    without a period on that day are left out.

    Steps: 1. what each order demands; 2. as much of it as the pay covers, in that order.
    """
    in_order = sorted(orders, key=lambda order: (order.sekvensnummer, order.trekkid))
    demands = _demands(pay, in_order, withheld, day, rules)
    left = pay.brutto.quantize(_KRONE, rounding=decimal.ROUND_DOWN)
    deductions = []
    for demand in demands:
        beloep = min(demand.beloep, left)
        left -= beloep
        varsler = demand.varsler if beloep == demand.beloep else (*demand.varsler, _not_enough(demand, beloep))
        deductions.append(
            Deduction(demand.order, beloep, demand.periode, demand.allerede_trukket, demand.grunnlag, varsler),
        )
    return deductions


def periods_on(periods: Iterable[OrderPeriod], day: date) -> list[OrderPeriod]:
    """The periods that contain the day, first and last day included, by rising startdato.

    Skatteetaten's periods do not overlap. Where some do, the last one applies, with a warning.
    """
    found = [each for each in periods if each.startdato <= day and (each.sluttdato is None or day <= each.sluttdato)]
    return sorted(found, key=lambda each: each.startdato)


def has_size(periode: OrderPeriod | None) -> bool:
    """Whether the period withholds anything: false for None and for a pause."""
    return periode is not None and bool(periode.trekkbeloep or periode.trekkprosent)


def _demands(pay: Pay, orders: list[Order], withheld: Mapping[str, Decimal], day: date, rules: Rules) -> list[_Demand]:
    demands = []
    others = pay.allerede_trukket
    for order in orders:
        found = periods_on(order.periods, day)
        periode = found[-1] if found else None
        before = withheld.get(order.trekkid, ZERO)
        if order.trekkstatus == "ukjent":
            varsel = f"{order.trekkid}: trekkstatus ukjent: nothing is withheld; ask Skatteetaten for the status"
            demand = _Demand(order, None, ZERO, ZERO, "trekkstatus ukjent: nothing is withheld", (varsel,))
        elif order.trekkstatus == "avsluttet" and not rules.follow_ended:
            stopped = _stopped(order, periode, pay, before, rules)
            if stopped is None:
                continue
            demand = stopped
        elif periode is None:
            continue
        else:
            demand = _demand_of(order, periode, pay.brutto, before, others, rules)
            others -= demand.allerede_trukket
            if order.trekkstatus == "avsluttet" and demand.beloep:
                varsel = f"{order.trekkid}: avsluttet, but its period continues: withheld by --follow-ended-periods"
                demand = msgspec.structs.replace(demand, varsler=(*demand.varsler, varsel))
        if len(found) > 1 and demand.periode is not None:
            varsel = (
                f"{order.trekkid}: {len(found)} periods contain the day; the one from {found[-1].startdato} applies"
            )
            demand = msgspec.structs.replace(demand, varsler=(*demand.varsler, varsel))
        demands.append(demand)
    return _with_leftover(demands, others, pay)


def _demand_of(
    order: Order, periode: OrderPeriod, brutto: Decimal, before: Decimal, others: Decimal, rules: Rules
) -> _Demand:
    """The period's demand. `others`: the part of `allerede_trukket` that no order has accounted for yet."""
    if periode.trekkprosent is not None:
        exact = brutto * periode.trekkprosent / _HUNDRED
        beloep = exact.quantize(_KRONE, rounding=_MODES[rules.rounding])
        grunnlag = f"{plain(periode.trekkprosent)} % of {plain(brutto)} kr"
        if not periode.trekkprosent:
            grunnlag = "pause: 0 %"
        elif beloep != exact:
            grunnlag += f" is {plain(exact)} kr, rounded {rules.rounding}"
        return _Demand(order, periode, beloep, ZERO, grunnlag)
    month = periode.trekkbeloep or ZERO
    if not month:
        return _Demand(order, periode, ZERO, ZERO, "pause: 0 kr a month")
    share = min(others, max(month - before, ZERO))
    beloep = max(month - before - share, ZERO).quantize(_KRONE, rounding=_MODES[rules.rounding])
    grunnlag = f"{plain(month)} kr a month"
    if before + share:
        grunnlag += f", {plain(before + share)} kr already withheld in the month"
    return _Demand(order, periode, beloep, share, grunnlag)


def _stopped(order: Order, periode: OrderPeriod | None, pay: Pay, before: Decimal, rules: Rules) -> _Demand | None:
    """The demand of an ended order: None if its periods withhold nothing either."""
    if periode is None:
        return None
    followed = _demand_of(order, periode, pay.brutto, before, ZERO, rules)
    if not followed.beloep:
        return None
    varsel = (
        f"{order.trekkid}: avsluttet, so nothing is withheld, but its period would have {followed.beloep} kr withheld; "
        "--follow-ended-periods follows the periods"
    )
    return _Demand(order, None, ZERO, ZERO, "avsluttet: nothing is withheld", (varsel,))


def _with_leftover(demands: list[_Demand], leftover: Decimal, pay: Pay) -> list[_Demand]:
    """Add a warning if it is uncertain which orders `allerede_trukket` belongs to."""
    by_amount = [n for n, demand in enumerate(demands) if demand.periode is not None and demand.periode.trekkbeloep]
    if not pay.allerede_trukket or not by_amount:
        return demands
    last = demands[by_amount[-1]]
    if any(demand.periode is not None and demand.periode.trekkprosent for demand in demands):
        text = "allerede_trukket counts for amounts only, although the person has a percentage too"
    elif leftover > 0:
        text = f"allerede_trukket is {plain(leftover)} kr more than the month's amounts leave to withhold"
    else:
        return demands
    noted = msgspec.structs.replace(last, varsler=(*last.varsler, f"{last.order.trekkid}: {text}"))
    return [noted if n == by_amount[-1] else demand for n, demand in enumerate(demands)]


def _not_enough(demand: _Demand, beloep: Decimal) -> str:
    rest = ""
    if demand.periode is not None and demand.periode.trekkbeloep:
        rest = "; a later payout of the month withholds the rest"
    return f"{demand.order.trekkid}: not enough pay: {demand.beloep} kr to withhold, {beloep} kr withheld{rest}"


def plain(number: Decimal) -> str:
    """`17` and `12.5` instead of `17.00` and `12.50`, never with an exponent."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
