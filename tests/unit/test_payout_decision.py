"""Payouts: what holds for any pay, any orders and any split of a month into payouts, and what is reported."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.ledger.payroll import LastPayment, Order, OrderPeriod, Payee, PayrollView, Postering
from consumers.payout.decision import PayoutDecision, decide_payout
from consumers.payout.deduction import Pay, Payout, Rounding, Rules
from consumers.payout.payment import betalingsoppdrag_of, payments_of
from consumers.payout.report import amelding_of
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.identifiers import Foedselsnummer

ANNE, BO = Foedselsnummer("01810112345"), Foedselsnummer("02810112345")
PAYEE = Payee("310000003", "176", "12345678903")
START = datetime(2026, 2, 1, tzinfo=UTC)


def order(trekkid: str, size: str, skyldner: Foedselsnummer = ANNE, **changes: object) -> Order:
    """`size`: `17 %` or `5000 kr`."""
    number, unit = size.split()
    amount, percent = (Decimal(number), None) if unit == "kr" else (None, Decimal(number))
    periode = OrderPeriod(date(2026, 1, 1), None, amount, percent)
    made = Order(trekkid, 1, int(trekkid), "310000003", skyldner, "aktiv", PAYEE, (periode,))
    return msgspec.structs.replace(made, **changes)


def pay(brutto: str, skyldner: Foedselsnummer = ANNE, others: str = "0", line: int = 2) -> Pay:
    return Pay(skyldner, Decimal(brutto), Decimal(others), line)


class Book:
    """Remembers postings as a ledger does."""

    def __init__(self, *orders: Order) -> None:
        self.orders = list(orders)
        self.postings: dict[tuple[date, str, str], Postering] = {}
        self.files: set[tuple[date, str, tuple[Pay, ...]]] = set()
        self.now = START

    def view(self, day: date, name: str, pays: list[Pay]) -> PayrollView:
        every = list(self.postings.values())
        month = [each for each in every if each.utbetalingsdato.replace(day=1) == day.replace(day=1)]
        paid = {
            each.trekkid: LastPayment(each.utbetalingsdato, each.payee)
            for each in sorted(every, key=lambda each: each.recorded)
            if each.betalingsoppdrag is not None
        }
        return PayrollView(self.orders, month, paid, (day, name, tuple(pays)) in self.files)

    def pay(
        self,
        day: int,
        *pays: Pay,
        name: str = "",
        rules: Rules = Rules(),  # noqa: B008 - frozen
        accepted: frozenset[str] = frozenset(),
        trekkpliktig: frozenset[str] = frozenset(),
    ) -> PayoutDecision:
        self.now += timedelta(seconds=1)
        at = date(2026, 2, 1) + timedelta(days=day - 1)
        payout = Payout(at, name, at + timedelta(days=1), rules, trekkpliktig, accepted, self.now)
        decision = decide_payout(payout, pays, self.view(at, name, list(pays)))
        for each in [*decision.new, *decision.released]:
            self.postings[at, name, each.trekkid] = each
        self.files.add((at, name, tuple(pays)))
        return decision


def kroner(decision: PayoutDecision) -> dict[str, Decimal]:
    return {each.trekkid: each.beloep for each in decision.lines}


SIZES = st.one_of(
    st.integers(0, 10000).map(lambda percent: f"{Decimal(percent) / 100} %"),
    st.integers(0, 2000000).map(lambda oere: f"{Decimal(oere) / 100} kr"),
)
GROSS = st.integers(0, 6000000).map(lambda oere: str(Decimal(oere) / 100))
RULES = st.builds(Rules, st.sampled_from(Rounding), st.booleans())
STATUSES = st.sampled_from(["aktiv", "aktiv", "avsluttet", "ukjent"])
ORDERS = st.lists(st.tuples(SIZES, STATUSES), min_size=1, max_size=4).map(
    lambda given: [order(str(n), size, trekkstatus=status) for n, (size, status) in enumerate(given, start=1)]
)
PAYOUTS = st.lists(st.tuples(st.integers(1, 28), GROSS, st.sampled_from(["0", "250.50"])), min_size=1, max_size=5)


@given(ORDERS, PAYOUTS, RULES)
def test_what_holds_for_any_month(orders: list[Order], payouts: list[tuple[int, str, str]], rules: Rules) -> None:
    """Never more than the pay, an amount never more than the month's, sums equal, and a second run the same."""
    book = Book(*orders)
    taken: dict[str, Decimal] = defaultdict(Decimal)
    for number, (day, brutto, others) in enumerate(payouts):
        line = pay(brutto, others=others)
        decision = book.pay(day, line, name=str(number), rules=rules)
        assert all(each.beloep == int(each.beloep) >= 0 for each in decision.lines)
        total = sum(kroner(decision).values(), Decimal(0))
        assert total <= line.brutto
        assert total == amelding_of(decision.lines).total
        assert total == sum(each.beloep for each in payments_of(decision.lines))
        assert total == sum(each.beloep for one in betalingsoppdrag_of(decision.in_files) for each in one.payments)
        for trekkid, beloep in kroner(decision).items():
            taken[trekkid] += beloep
        again = book.pay(day, line, name=str(number), rules=rules)
        assert not again.new
        assert (again.lines, again.varsler) == (decision.lines, decision.varsler)
    for each in orders:
        month = each.periods[0].trekkbeloep
        if month is not None:
            assert taken[each.trekkid] < month + 1
            assert rules.rounding is not Rounding.DOWN or taken[each.trekkid] <= month


@given(st.lists(GROSS, min_size=1, max_size=6), st.integers(0, 20000))
def test_an_amount_is_withheld_in_full_once_the_pay_of_the_month_covers_it(grosses: list[str], month: int) -> None:
    book = Book(order("1", f"{month} kr"))
    taken = sum(kroner(book.pay(day, pay(gross))).get("1", 0) for day, gross in enumerate(grosses, start=1))
    assert taken == min(month, sum(int(Decimal(gross)) for gross in grosses))


def test_orders_of_one_person_are_withheld_in_the_order_of_their_sekvensnummer() -> None:
    book = Book(order("1", "5000 kr", sekvensnummer=9), order("2", "50 %", sekvensnummer=3))
    decision = book.pay(20, pay("6000"))
    assert kroner(decision) == {"2": 3000, "1": 3000}
    assert [each for each in decision.varsler if "not enough pay" in each] == [
        "1: not enough pay: 5000 kr to withhold, 3000 kr withheld; a later payout of the month withholds the rest"
    ]


def test_what_others_withheld_counts_for_amounts_the_oldest_first() -> None:
    book = Book(order("1", "1000 kr"), order("2", "3000 kr"))
    assert kroner(book.pay(20, pay("30000", others="1500"))) == {"1": 0, "2": 2500}
    more = book.pay(21, pay("30000", others="1500"))
    assert kroner(more) == {"1": 0, "2": 0}


@pytest.mark.parametrize(
    ("sizes", "others", "word"),
    [
        (["1000 kr"], "1500", "allerede_trukket is 500 kr more"),
        (["1000 kr", "10 %"], "500", "counts for amounts only"),
        (["10 %"], "500", ""),
        (["1000 kr"], "500", ""),
    ],
)
def test_a_doubt_about_what_others_withheld_is_reported(sizes: list[str], others: str, word: str) -> None:
    orders = [order(str(number), size) for number, size in enumerate(sizes, start=1)]
    varsler = Book(*orders).pay(20, pay("30000", others=others)).varsler
    assert any("allerede_trukket" in each and word in each for each in varsler) == bool(word)


def test_an_unknown_status_withholds_nothing_and_says_so() -> None:
    decision = Book(order("1", "5000 kr", trekkstatus="ukjent")).pay(20, pay("30000"))
    assert kroner(decision) == {"1": 0}
    assert any("1: trekkstatus ukjent" in each for each in decision.varsler)


def test_a_person_without_an_order_has_no_line() -> None:
    decision = Book(order("1", "5000 kr")).pay(20, pay("30000"), pay("20000", BO, line=3))
    assert kroner(decision) == {"1": 5000}


def test_an_active_order_whose_person_is_missing_is_reported() -> None:
    book = Book(order("1", "5000 kr"), order("2", "17 %", BO), order("3", "0 %", BO), order("4", "9 %", BO))
    book.orders[3] = msgspec.structs.replace(book.orders[3], trekkstatus="avsluttet")
    told = [each for each in book.pay(20, pay("30000")).varsler if "not in the file" in each]
    assert told == ["2: active, but the person is not in the file: no pay at this payout?"]


def test_an_impossible_national_id_without_an_order_is_reported_by_its_line() -> None:
    book = Book(order("1", "5000 kr"))
    varsler = book.pay(20, pay("30000"), pay("1", Foedselsnummer("99999999999"), line=7)).varsler
    assert [each for each in varsler if "typing error" in each] == [
        "line 7: the national id fails its check digits, and no order has it: a typing error?"
    ]


def test_overlapping_periods_are_reported_and_the_last_decides() -> None:
    both = (
        OrderPeriod(date(2026, 1, 1), None, None, Decimal(10)),
        OrderPeriod(date(2026, 2, 1), None, None, Decimal(20)),
    )
    decision = Book(order("1", "0 %", periods=both)).pay(20, pay("1000"))
    assert kroner(decision) == {"1": 200}
    assert any("2 periods contain the day; the one from 2026-02-01 applies" in each for each in decision.varsler)


def test_pay_of_two_employers_must_be_kept_apart() -> None:
    book = Book(order("1", "5000 kr"), order("2", "17 %", trekkpliktig="310000011"))
    with pytest.raises(SettingsError, match=r"line 2 have orders at several employers"):
        book.pay(20, pay("30000"))
    chosen = book.pay(20, pay("30000"), trekkpliktig=frozenset({"310000003", "310000011"}))
    assert len(chosen.lines) == 2


def test_orders_of_an_employer_that_withholds_nothing_are_no_doubt() -> None:
    ended = order("2", "17 %", trekkpliktig="310000011", periods=())
    assert kroner(Book(order("1", "5000 kr"), ended).pay(20, pay("30000"))) == {"1": 5000}


def test_a_payment_stays_held_through_payouts_until_its_payee_is_accepted() -> None:
    book = Book(order("1", "10 %"))
    book.pay(1, pay("1000"))
    book.orders = [order("1", "10 %", payee=Payee("310000003", "176", "98765432103"), trekkversjon=2)]
    for day in (2, 3):
        held = book.pay(day, pay("1000"))
        assert kroner(held) == {"1": 100}
        assert payments_of(held.lines) == []
        assert "1: ALARM: another kontonummer than at the payout of 2026-02-01" in held.varsler[0]
    released = book.pay(3, pay("1000"), accepted=frozenset({"1"}))
    assert [each.beloep for each in payments_of(released.lines)] == [100]
    assert any("ALARM" in each for each in book.pay(2, pay("1000")).varsler), "the earlier payout is still held"
    assert payments_of(book.pay(4, pay("1000")).lines), "the new payee is the known one now"


def test_accepting_what_is_not_there_is_reported() -> None:
    varsler = Book(order("1", "10 %")).pay(1, pay("1000"), accepted=frozenset({"7"})).varsler
    assert "--accept-payee 7: this payout has no such order" in varsler


def test_later_payouts_of_the_month_do_not_count_for_an_earlier_one() -> None:
    book = Book(order("1", "3000 kr"))
    book.pay(1, pay("30000"))
    book.orders = [order("1", "8000 kr", trekkversjon=2)]
    assert kroner(book.pay(20, pay("30000"))) == {"1": 5000}
    assert [each for each in book.pay(1, pay("30000")).varsler if "would give" in each] == [
        (
            "1: recorded at this payout: 3000 kr by trekkversjon 1; today trekkversjon 2 would give 8000 kr;"
            " the record is kept"
        )
    ]


def test_other_pay_of_a_recorded_person_is_reported_once_and_changes_nothing() -> None:
    book = Book(order("1", "10 %"))
    first = book.pay(1, pay("1000"))
    again = book.pay(1, pay("2000"))
    assert again.lines == first.lines
    assert len(again.varsler) == len(first.varsler) + 1
    assert again.varsler[0].startswith("1: line 2 has another gross pay than this payout recorded")


def test_a_person_recorded_by_another_file_is_not_missing() -> None:
    book = Book(order("1", "10 %"), order("2", "10 %", BO))
    assert any("2: active" in each for each in book.pay(1, pay("1000")).varsler)
    assert not any("active" in each for each in book.pay(1, pay("1000", BO)).varsler)
