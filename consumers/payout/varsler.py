"""A payout settled in, what a person must look at out: words that name orders and lines, never a national id. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.payout.check_digits import is_valid_foedselsnummer
from consumers.payout.deduction import ZERO, Pay, Payout, deductions_of, has_size, plain
from consumers.payout.payment import check_digit_varsler, christmas_eve_between, differing_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from consumers.event import Foedselsnummer
    from consumers.ledger.payroll import Order, PayrollView, Postering


def differences_of(
    pay: Pay, orders: list[Order], recorded: list[Postering], taken: dict[str, Decimal], payout: Payout
) -> list[str]:
    """Where the file or the orders would today give other figures than those recorded."""
    varsler = []
    as_recorded = pay
    if recorded and recorded[0].brutto != pay.brutto:
        varsler.append(
            f"{recorded[0].trekkid}: line {pay.line} has another gross pay than this payout recorded; what is recorded"
            " stands: give a further payout of the date a name with --payout"
        )
        as_recorded = msgspec.structs.replace(pay, brutto=recorded[0].brutto)
    today = {
        each.order.trekkid: each
        for each in deductions_of(as_recorded, orders, taken, payout.utbetalingsdato, payout.rules)
    }
    by_trekkid = {order.trekkid: order for order in orders}
    for each in recorded:
        beloep = today[each.trekkid].beloep if each.trekkid in today else ZERO
        order = by_trekkid.get(each.trekkid)
        if beloep != each.beloep:
            version = f"trekkversjon {order.trekkversjon}" if order else "the ledger, which lacks it now,"
            varsler.append(
                f"{each.trekkid}: recorded at this payout: {plain(each.beloep)} kr by trekkversjon"
                f" {each.trekkversjon}; today {version} would give {plain(beloep)} kr; what is recorded stands"
            )
        changed = differing_parts(order.payee, each.payee) if order else ""
        if changed and each.beloep:
            varsler.append(f"{each.trekkid}: the order has another {changed} now than this payout recorded")
    there = {each.trekkid for each in recorded}
    varsler += [
        f"{trekkid}: came after this payout was recorded, and is not part of it; it would give {plain(each.beloep)} kr"
        for trekkid, each in sorted(today.items())
        if trekkid not in there and each.beloep
    ]
    return varsler


def held_back(lines: Iterable[Postering], view: PayrollView) -> list[str]:
    """An alarm for each payment that waits for a person, since it would go elsewhere than the last one."""
    varsler = []
    for each in lines:
        if is_held(each):
            last = view.last_payments.get(each.trekkid)
            changed = differing_parts(each.payee, last.payee) if last else ""
            said = (
                f"another {changed} than at the payout of {last.utbetalingsdato}" if last and changed else "held back"
            )
            varsler.append(
                f"{each.trekkid}: ALARM: {said}: {plain(each.beloep)} kr withheld but not in the payments; make sure"
                f" that it is right, then run again with --accept-payee {each.trekkid}"
            )
    return varsler


def about_the_whole(
    payout: Payout,
    pays: Sequence[Pay],
    view: PayrollView,
    lines: list[Postering],
    orders_of_person: dict[Foedselsnummer, list[Order]],
) -> list[str]:
    """Whom the file lacks, numbers that fail their check digits, several employers, Christmas Eve."""
    in_file = {pay.skyldner for pay in pays}
    touched = {order.trekkpliktig for skyldner in in_file for order in orders_of_person.get(skyldner, [])}
    recorded = {
        each.trekkid
        for each in view.postings
        if (each.utbetalingsdato, each.utbetaling) == (payout.utbetalingsdato, payout.name)
    }
    varsler = [
        f"{order.trekkid}: active, but the person is not in the file: no pay at this payout?"
        for order in sorted(view.orders, key=lambda order: order.trekkid)
        if order.skyldner not in in_file
        and order.trekkid not in recorded
        and order.trekkstatus == "aktiv"
        and any(has_size(periode) for periode in order.periods)
        and (not touched or order.trekkpliktig in touched)
    ]
    varsler += [
        f"line {pay.line}: the national id fails its check digits, and no order has it: a typing error?"
        for pay in pays
        if pay.skyldner not in orders_of_person and not is_valid_foedselsnummer(pay.skyldner.reveal())
    ]
    varsler += check_digit_varsler(lines)
    unknown = sorted(payout.accepted - {each.trekkid for each in lines})
    varsler += [f"--accept-payee {trekkid}: this payout has no such order" for trekkid in unknown]
    employers = {each.trekkpliktig for each in lines}
    if len(employers) > 1 and not payout.trekkpliktig:
        varsler.append(
            f"orders of {len(employers)} employers: --trekkpliktig keeps them apart, as payments and a-melding must be"
        )
    if christmas_eve_between(payout.utbetalingsdato, payout.forfallsdato):
        varsler.append(
            "24 December lies before the due date: banks do not settle then; if the authorities count it as a working"
            " day, pay on the date of the payout, or use --christmas-eve-open"
        )
    return varsler


def is_held(posting: Postering) -> bool:
    """Whether the money is withheld but not paid until the payee is accepted."""
    return bool(posting.beloep) and posting.betalingsoppdrag is None
