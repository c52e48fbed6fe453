"""Payments of a payout: due dates, payees, and the payment files that they belong to. Pure."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import holidays
import msgspec

from consumers.ledger.payroll import Payee
from trekkpaalegg.identifiers import is_valid_kidnummer, is_valid_kontonummer, is_valid_organisasjonsnummer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumers.ledger.payroll import Postering

_SATURDAY = 5


class Payment(msgspec.Struct, frozen=True, gc=False):
    """The payment for one order at a payout, in kroner."""

    utbetalingsdato: date
    utbetaling: str
    trekkid: str
    payee: Payee
    beloep: Decimal
    forfallsdato: date

    @property
    def end_to_end_id(self) -> str:
        """An id that is equal whenever the payout is run."""
        return f"{self.utbetalingsdato:%Y%m%d}-{_digest(self.utbetaling, self.trekkid)}"


class Betalingsoppdrag(msgspec.Struct, frozen=True):
    """One payment file of one employer's payout. It never changes once it is recorded.

    `message_id` is equal whenever the payout is run, so that a bank refuses a duplicate; `created` is when it was
    recorded.
    """

    trekkpliktig: str
    number: int
    message_id: str
    created: str
    payments: tuple[Payment, ...]


def due_date(payout: date, *, christmas_eve: bool = False) -> date:
    """The first day after the payout on which banks settle: Monday to Friday, no public holiday, not 24 December.

    Source: Norges Bank, "Oppgjørsdager": its settlement system is closed on Saturdays, Sundays, public holidays and
    24 December, and open on 31 December. With `christmas_eve`, 24 December counts as a due date.
    """
    day = payout + timedelta(days=1)
    while not _is_open(day, christmas_eve=christmas_eve):
        day += timedelta(days=1)
    return day


def christmas_eve_between(payout: date, due: date) -> bool:
    """Whether 24 December was skipped because banks do not settle, although it is not a public holiday."""
    days = (payout + timedelta(days=n) for n in range(1, (due - payout).days))
    return any(_is_christmas_eve(day) and _is_open(day, christmas_eve=True) for day in days)


def payments_of(postings: Iterable[Postering]) -> list[Payment]:
    """One payment for each order that something was withheld for, except held ones."""
    return [
        Payment(each.utbetalingsdato, each.utbetaling, each.trekkid, each.payee, each.beloep, each.forfallsdato)
        for each in postings
        if each.betalingsoppdrag is not None
    ]


def betalingsoppdrag_of(postings: Iterable[Postering]) -> list[Betalingsoppdrag]:
    """The payment files of these postings of one payout, by employer and number."""
    grouped: dict[tuple[str, int], list[Postering]] = {}
    for each in sorted(postings, key=lambda posting: posting.trekkid):
        if each.betalingsoppdrag is not None:
            grouped.setdefault((each.trekkpliktig, each.betalingsoppdrag), []).append(each)
    return [
        Betalingsoppdrag(
            trekkpliktig,
            number,
            _message_id(number, rows),
            max(row.recorded for row in rows).strftime("%Y-%m-%dT%H:%M:%S"),
            tuple(payments_of(rows)),
        )
        for (trekkpliktig, number), rows in sorted(grouped.items())
    ]


def differing_parts(payee: Payee, former: Payee) -> str:
    """The names of the payee's parts that have changed, for people; empty if none has."""
    names = [name for name in Payee.__struct_fields__ if getattr(payee, name) != getattr(former, name)]
    return " and ".join(names)


def check_digit_varsler(postings: Iterable[Postering]) -> list[str]:
    """A warning for each account, payee and KID that fails its check digits, with the first order that has it."""
    rules: dict[str, Callable[[str], bool]] = {
        "kontonummer": is_valid_kontonummer,
        "betalingsmottaker": is_valid_organisasjonsnummer,
        "kidnummer": is_valid_kidnummer,
    }
    failing: dict[tuple[str, str], list[str]] = {}
    valid: set[tuple[str, str]] = set()
    for each in postings:
        for name, rule in rules.items():
            key = (name, getattr(each.payee, name))
            if key in valid:
                continue
            if key not in failing and rule(key[1]):
                valid.add(key)
            else:
                failing.setdefault(key, []).append(each.trekkid)
    return [
        f"{orders[0]}: its {name} fails the check digits" + (f"; {len(orders)} orders have it" if orders[1:] else "")
        for (name, _), orders in failing.items()
    ]


def _is_open(day: date, *, christmas_eve: bool) -> bool:
    if day.weekday() >= _SATURDAY or day in holidays.country_holidays("NO", years=day.year):
        return False
    return christmas_eve or not _is_christmas_eve(day)


def _is_christmas_eve(day: date) -> bool:
    return (day.month, day.day) == (12, 24)


def _message_id(number: int, rows: list[Postering]) -> str:
    first = rows[0]
    lines = [f"{row.trekkid} {row.beloep:.2f} {row.payee.kontonummer} {row.payee.kidnummer}" for row in rows]
    return f"{first.utbetalingsdato:%Y%m%d}-{number}-{_digest(first.utbetaling, first.trekkpliktig, *lines)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:16]
