"""What a payout records, pays and warns about. Pure.

A recorded payout never changes: run again, it gives the recorded amounts, and a warning where today's orders or file
would give others.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.payroll import Order, PayrollView, Postering
from consumers.payout.deduction import ZERO, Deduction, Pay, Payout, deductions_of, has_size, plain
from consumers.payout.payment import check_digit_varsler, christmas_eve_between, differing_parts
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.identifiers import is_valid_foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from trekkpaalegg.identifiers import Foedselsnummer


def differences_from_record(
    pay: Pay, orders: list[Order], recorded: list[Postering], withheld: dict[str, Decimal], payout: Payout
) -> list[str]:
    """Warnings where the file or the orders would give other amounts today than those recorded."""
    varsler = []
    as_recorded = pay
    if recorded and recorded[0].brutto != pay.brutto:
        varsler.append(
            f"{recorded[0].trekkid}: line {pay.line} has another gross pay than this payout recorded; the record is"
            " kept: give a further payout of the date a name with --payout"
        )
        as_recorded = msgspec.structs.replace(pay, brutto=recorded[0].brutto)
    today = {
        each.order.trekkid: each
        for each in deductions_of(as_recorded, orders, withheld, payout.utbetalingsdato, payout.rules)
    }
    by_trekkid = {order.trekkid: order for order in orders}
    for each in recorded:
        beloep = today[each.trekkid].beloep if each.trekkid in today else ZERO
        order = by_trekkid.get(each.trekkid)
        if beloep != each.beloep:
            version = f"trekkversjon {order.trekkversjon}" if order else "the ledger, which lacks it now,"
            varsler.append(
                f"{each.trekkid}: recorded at this payout: {plain(each.beloep)} kr by trekkversjon"
                f" {each.trekkversjon}; today {version} would give {plain(beloep)} kr; the record is kept"
            )
        changed = differing_parts(order.payee, each.payee) if order else ""
        if changed and each.beloep:
            varsler.append(f"{each.trekkid}: the order has another {changed} now than this payout recorded")
    known = {each.trekkid for each in recorded}
    varsler += [
        f"{trekkid}: came after this payout was recorded, and is not part of it; it would give {plain(each.beloep)} kr"
        for trekkid, each in sorted(today.items())
        if trekkid not in known and each.beloep
    ]
    return varsler


def held_payments(lines: Iterable[Postering], view: PayrollView) -> list[str]:
    """An alarm for each payment that is held because it would go to another payee than the last one."""
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


def payout_varsler(
    payout: Payout,
    pays: Sequence[Pay],
    view: PayrollView,
    lines: list[Postering],
    orders_of_person: dict[Foedselsnummer, list[Order]],
) -> list[str]:
    """Warnings about missing persons, failed check digits, several employers, and Christmas Eve."""
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
    """Whether the money is withheld, but not paid until the payee is approved."""
    return bool(posting.beloep) and posting.betalingsoppdrag is None


class PayoutDecision(msgspec.Struct, frozen=True):
    """What to do for a payout.

    `lines` are the postings of the persons in the file, recorded before or new; `new` and `released` are to be written
    to the ledger; `in_files` are all postings of the payment files that the lines belong to.
    """

    lines: list[Postering]
    new: list[Postering]
    released: list[Postering]
    in_files: list[Postering]
    varsler: list[str]


def decide_payout(payout: Payout, pays: Sequence[Pay], view: PayrollView) -> PayoutDecision:
    """Decide the payout. Raises `SettingsError` if a person has orders of several employers and none was named.

    Steps: 1. for each person, take the recorded postings, or compute new ones; 2. release held payments that have been
    approved; 3. collect the payment files as a whole; 4. add the warnings.
    """
    month = _Month(payout, view.postings)
    orders_of_person: dict[Foedselsnummer, list[Order]] = defaultdict(list)
    for order in view.orders:
        orders_of_person[order.skyldner].append(order)
    lines: list[Postering] = []
    new: list[Postering] = []
    varsler: list[str] = []
    ambiguous: list[int] = []
    for pay in pays:
        orders = orders_of_person.get(pay.skyldner, [])
        recorded = month.recorded_of(pay.skyldner)
        withheld = {order.trekkid: month.withheld(order.trekkid) for order in orders}
        if recorded or view.is_known_file:
            repeated = _released(recorded, payout, month)
            lines += repeated
            varsler += [varsel for each in repeated for varsel in each.varsler]
            varsler += differences_from_record(pay, orders, recorded, withheld, payout)
            continue
        deductions = deductions_of(pay, orders, withheld, payout.utbetalingsdato, payout.rules)
        if len({each.order.trekkpliktig for each in deductions}) > 1 and not payout.trekkpliktig:
            ambiguous.append(pay.line)
        added = [_new_posting(each, pay, payout, view, month) for each in deductions]
        added.sort(key=lambda each: each.trekkid)
        lines += added
        new += added
        varsler += [varsel for each in added for varsel in each.varsler]
    if ambiguous:
        raise SettingsError([_ambiguous(ambiguous)])
    released = [each for each in lines if month.is_released(each)]
    varsler = held_payments(lines, view) + varsler
    in_files = month.whole_files(lines, new)
    varsler += payout_varsler(payout, pays, view, lines, orders_of_person)
    return PayoutDecision(lines, new, released, in_files, varsler)


class _Month:
    """The postings of the calendar month, with those of this payout."""

    def __init__(self, payout: Payout, postings: Iterable[Postering]) -> None:
        self._own: dict[str, Postering] = {}
        self._own_by_person: dict[str, list[Postering]] = defaultdict(list)
        self._withheld: dict[str, Decimal] = defaultdict(lambda: ZERO)
        self._last_number: dict[str, int] = defaultdict(int)
        for each in postings:
            if (each.utbetalingsdato, each.utbetaling) == (payout.utbetalingsdato, payout.name):
                self._own[each.trekkid] = each
                number = each.betalingsoppdrag or 0
                self._last_number[each.trekkpliktig] = max(self._last_number[each.trekkpliktig], number)
                if not payout.trekkpliktig or each.trekkpliktig in payout.trekkpliktig:
                    self._own_by_person[each.skyldner].append(each)
        for each in postings:
            former = self._own.get(each.trekkid)
            if former is not each and each.trekkbeloep and (former is None or each.recorded < former.recorded):
                self._withheld[each.trekkid] += each.beloep

    def recorded_of(self, skyldner: Foedselsnummer) -> list[Postering]:
        """This payout's recorded postings of the person, by trekkid."""
        return sorted(self._own_by_person.get(skyldner, []), key=lambda each: each.trekkid)

    def withheld(self, trekkid: str) -> Decimal:
        """What the month withheld as part of the order's monthly amount before this payout was recorded."""
        return self._withheld.get(trekkid, ZERO)

    def next_number(self, trekkpliktig: str) -> int:
        """The number of the payment file that this run adds."""
        return self._last_number[trekkpliktig] + 1

    def is_released(self, posting: Postering) -> bool:
        """Whether the posting was recorded as held, and is not any more."""
        former = self._own.get(posting.trekkid)
        return former is not None and former.betalingsoppdrag != posting.betalingsoppdrag

    def whole_files(self, lines: Iterable[Postering], new: Iterable[Postering]) -> list[Postering]:
        """All postings of this payout that share a payment file with one of the lines."""
        files = {(each.trekkpliktig, each.betalingsoppdrag) for each in lines if each.betalingsoppdrag}
        every = self._own | {each.trekkid: each for each in lines} | {each.trekkid: each for each in new}
        return [each for each in every.values() if (each.trekkpliktig, each.betalingsoppdrag) in files]


def _released(recorded: list[Postering], payout: Payout, month: _Month) -> list[Postering]:
    return [
        msgspec.structs.replace(each, betalingsoppdrag=month.next_number(each.trekkpliktig))
        if is_held(each) and each.trekkid in payout.accepted
        else each
        for each in recorded
    ]


def _new_posting(deduction: Deduction, pay: Pay, payout: Payout, view: PayrollView, month: _Month) -> Postering:
    order = deduction.order
    last = view.last_payments.get(order.trekkid)
    is_payable = last is None or last.payee == order.payee or order.trekkid in payout.accepted
    return Postering(
        utbetalingsdato=payout.utbetalingsdato,
        utbetaling=payout.name,
        trekkid=order.trekkid,
        trekkversjon=order.trekkversjon,
        trekkpliktig=order.trekkpliktig,
        skyldner=order.skyldner,
        brutto=pay.brutto,
        beloep=deduction.beloep,
        trekkbeloep=deduction.periode.trekkbeloep if deduction.periode else None,
        trekkprosent=deduction.periode.trekkprosent if deduction.periode else None,
        allerede_trukket=deduction.allerede_trukket,
        grunnlag=deduction.grunnlag,
        varsler=deduction.varsler,
        payee=order.payee,
        forfallsdato=payout.forfallsdato,
        betalingsoppdrag=month.next_number(order.trekkpliktig) if deduction.beloep and is_payable else None,
        recorded=payout.now,
    )


def _ambiguous(lines: list[int]) -> str:
    several = ", ".join(str(line) for line in lines[:10]) + (" and others" if lines[10:] else "")
    have = f"the persons of line {several} have orders at several employers"
    return f"--trekkpliktig: missing; {have}: say whose pay the file holds"
