"""What to withhold from one person for each order, from the pay, the orders, and what the month already took. Pure.

Sources: Skatteetaten's page on trekkpålegg (period by date of payout; percent of gross at every payout; amount once a
calendar month; 0 is a pause). Where no source says, `consumers/payout/README.md` tells what was chosen.
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


def periods_on(periods: Iterable[OrderPeriod], day: date) -> list[OrderPeriod]:
    """Those that contain the day, both ends included, in rising startdato.

    Skatteetaten's periods do not overlap; where some do, the last one decides, and a person is told.
    """
    there = [each for each in periods if each.startdato <= day and (each.sluttdato is None or day <= each.sluttdato)]
    return sorted(there, key=lambda each: each.startdato)


ZERO = Decimal(0)
_HUNDRED = Decimal(100)
_KRONE = Decimal(1)


class Rounding(StrEnum):
    """How whole kroner are made. `down` never takes more than the order says."""

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
    """What no source decides, as settings. `follow_ended`: withhold for `avsluttet` until the last period ends."""

    rounding: Rounding = Rounding.DOWN
    follow_ended: bool = False


class Payout(msgspec.Struct, frozen=True):
    """Which payout, and by which rules. `name` tells several of one date apart; `trekkpliktig`: all when empty.

    `accepted`: the orders (trekkid) whose changed payee a person has looked at.
    """

    utbetalingsdato: date
    name: str
    forfallsdato: date
    rules: Rules
    trekkpliktig: frozenset[str]
    accepted: frozenset[str]
    now: datetime


class Pay(msgspec.Struct, frozen=True, gc=False):
    """One line of the file of gross pay: kroner, and the number of the line.

    `allerede_trukket` is what was withheld from the person in this calendar month outside the ledger's knowledge.
    """

    skyldner: Foedselsnummer
    brutto: Decimal
    allerede_trukket: Decimal
    line: int


class Deduction(msgspec.Struct, frozen=True, gc=False):
    """What to withhold for one order, in whole kroner, why, and what a person must look at."""

    order: Order
    beloep: Decimal
    periode: OrderPeriod | None
    allerede_trukket: Decimal
    grunnlag: str
    varsler: tuple[str, ...]


class _Wish(msgspec.Struct, frozen=True, gc=False):
    """What an order asks for before it is known whether the pay suffices."""

    order: Order
    periode: OrderPeriod | None
    beloep: Decimal
    allerede_trukket: Decimal
    grunnlag: str
    varsler: tuple[str, ...] = ()


def deductions_of(
    pay: Pay, orders: Iterable[Order], taken: Mapping[str, Decimal], day: date, rules: Rules
) -> list[Deduction]:
    """What to withhold from one person at the payout on `day`, oldest sekvensnummer first.

    `taken`: by trekkid, what postings of the calendar month withheld by an amount. An order that has nothing to say on
    that day is left out.

    Steps: 1. what each order asks for; 2. as much of it as the pay covers, in order.
    """
    in_order = sorted(orders, key=lambda order: (order.sekvensnummer, order.trekkid))
    wishes = _wishes(pay, in_order, taken, day, rules)
    left = pay.brutto.quantize(_KRONE, rounding=decimal.ROUND_DOWN)
    deductions = []
    for wish in wishes:
        beloep = min(wish.beloep, left)
        left -= beloep
        varsler = wish.varsler if beloep == wish.beloep else (*wish.varsler, _not_enough(wish, beloep))
        deductions.append(
            Deduction(wish.order, beloep, wish.periode, wish.allerede_trukket, wish.grunnlag, varsler),
        )
    return deductions


def has_size(periode: OrderPeriod | None) -> bool:
    """Whether something is to be withheld: there is a period, and it is no pause."""
    return periode is not None and bool(periode.trekkbeloep or periode.trekkprosent)


def _wishes(pay: Pay, orders: list[Order], taken: Mapping[str, Decimal], day: date, rules: Rules) -> list[_Wish]:
    wishes = []
    others = pay.allerede_trukket
    for order in orders:
        there = periods_on(order.periods, day)
        periode = there[-1] if there else None
        before = taken.get(order.trekkid, ZERO)
        if order.trekkstatus == "ukjent":
            varsel = f"{order.trekkid}: trekkstatus ukjent: nothing is withheld; ask Skatteetaten what holds"
            wish = _Wish(order, None, ZERO, ZERO, "trekkstatus ukjent: nothing is withheld", (varsel,))
        elif order.trekkstatus == "avsluttet" and not rules.follow_ended:
            stopped = _stopped(order, periode, pay, before, rules)
            if stopped is None:
                continue
            wish = stopped
        elif periode is None:
            continue
        else:
            wish = _asked(order, periode, pay.brutto, before, others, rules)
            others -= wish.allerede_trukket
            if order.trekkstatus == "avsluttet" and wish.beloep:
                varsel = f"{order.trekkid}: avsluttet, yet withheld: its period goes on, and ended ones are followed"
                wish = msgspec.structs.replace(wish, varsler=(*wish.varsler, varsel))
        if len(there) > 1 and wish.periode is not None:
            varsel = f"{order.trekkid}: {len(there)} periods contain the day; that from {there[-1].startdato} decides"
            wish = msgspec.structs.replace(wish, varsler=(*wish.varsler, varsel))
        wishes.append(wish)
    return _with_leftover(wishes, others, pay)


def _asked(
    order: Order, periode: OrderPeriod, brutto: Decimal, before: Decimal, others: Decimal, rules: Rules
) -> _Wish:
    """By the rule of the period. `others`: what is still to be counted of what was withheld outside the ledger."""
    if periode.trekkprosent is not None:
        exact = brutto * periode.trekkprosent / _HUNDRED
        beloep = exact.quantize(_KRONE, rounding=_MODES[rules.rounding])
        grunnlag = f"{plain(periode.trekkprosent)} % of {plain(brutto)} kr"
        if not periode.trekkprosent:
            grunnlag = "pause: 0 %"
        elif beloep != exact:
            grunnlag += f" is {plain(exact)} kr, rounded {rules.rounding}"
        return _Wish(order, periode, beloep, ZERO, grunnlag)
    month = periode.trekkbeloep or ZERO
    if not month:
        return _Wish(order, periode, ZERO, ZERO, "pause: 0 kr a month")
    share = min(others, max(month - before, ZERO))
    beloep = max(month - before - share, ZERO).quantize(_KRONE, rounding=_MODES[rules.rounding])
    grunnlag = f"{plain(month)} kr a month"
    if before + share:
        grunnlag += f", {plain(before + share)} kr already withheld in the month"
    return _Wish(order, periode, beloep, share, grunnlag)


def _stopped(order: Order, periode: OrderPeriod | None, pay: Pay, before: Decimal, rules: Rules) -> _Wish | None:
    """An order that is avsluttet: None where its periods say the same, that nothing is withheld."""
    if periode is None:
        return None
    followed = _asked(order, periode, pay.brutto, before, ZERO, rules)
    if not followed.beloep:
        return None
    varsel = (
        f"{order.trekkid}: avsluttet, so nothing is withheld, but its period would have {followed.beloep} kr withheld; "
        "--follow-ended-periods follows the periods"
    )
    return _Wish(order, None, ZERO, ZERO, "avsluttet: nothing is withheld", (varsel,))


def _with_leftover(wishes: list[_Wish], leftover: Decimal, pay: Pay) -> list[_Wish]:
    """A word to a person where allerede_trukket cannot be shared out without a doubt."""
    by_amount = [n for n, wish in enumerate(wishes) if wish.periode is not None and wish.periode.trekkbeloep]
    if not pay.allerede_trukket or not by_amount:
        return wishes
    last = wishes[by_amount[-1]]
    if any(wish.periode is not None and wish.periode.trekkprosent for wish in wishes):
        text = "allerede_trukket is counted for amounts alone, though the person has a percentage too"
    elif leftover > 0:
        text = f"allerede_trukket is {plain(leftover)} kr more than the month's amounts leave to withhold"
    else:
        return wishes
    noted = msgspec.structs.replace(last, varsler=(*last.varsler, f"{last.order.trekkid}: {text}"))
    return [noted if n == by_amount[-1] else wish for n, wish in enumerate(wishes)]


def _not_enough(wish: _Wish, beloep: Decimal) -> str:
    rest = ""
    if wish.periode is not None and wish.periode.trekkbeloep:
        rest = "; a later payout of the month takes the rest"
    return f"{wish.order.trekkid}: not enough pay: {wish.beloep} kr to withhold, {beloep} kr taken{rest}"


def plain(number: Decimal) -> str:
    """17 and 12.5 rather than 17.00 and 12.50, never with an exponent."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
