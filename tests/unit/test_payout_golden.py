"""What to withhold by each of Skatteetaten's nineteen example versions, worked out by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import NamedTuple

import pytest

from consumers.payout.deduction import Pay, Rounding, Rules, deductions_of
from sandbox.skatteetaten.examples import official_examples
from tests.kit.payroll_desk import example, order_of
from trekkpaalegg.identifiers import Foedselsnummer


class Case(NamedTuple):
    """`before`: what the month already withheld by an amount. `kroner` None: the order says nothing that day."""

    trekkid: str
    trekkversjon: int
    day: str
    brutto: str
    before: int
    kroner: int | None
    reason: str


CASES = [
    Case("10001", 1, "2025-08-09", "30000", 0, None, "the day before the first period"),
    Case("10001", 1, "2025-08-10", "30000", 0, 5100, "17 % of 30 000; the first day belongs to the period"),
    Case("10001", 1, "2025-08-20", "31234.56", 0, 5309, "17 % is 5 309.8752; rounded down"),
    Case("10001", 1, "2025-08-25", "10000", 5100, 1700, "percent is of every payout, whatever the month took"),
    Case("10001", 1, "2030-01-15", "30000", 0, 5100, "a period without end goes on"),
    Case("10001", 1, "2025-08-20", "0", 0, 0, "17 % of nothing"),
    Case("10001", 1, "2025-08-20", "5.88", 0, 0, "17 % is 0.9996; rounded down"),
    Case("10002", 1, "2025-08-09", "30000", 0, None, "the day before the first period"),
    Case("10002", 1, "2025-08-20", "30000", 0, 5000, "5 000 kr a month, the first payout takes all of it"),
    Case("10002", 1, "2025-08-29", "30000", 3000, 2000, "3 000 of the month's 5 000 are taken"),
    Case("10002", 1, "2025-08-29", "30000", 5000, 0, "the month has had its 5 000"),
    Case("10002", 1, "2025-08-29", "3200.75", 0, 3200, "not enough pay: the whole kroner that there are"),
    Case("10002", 1, "2025-09-05", "30000", 0, 5000, "a new month"),
    Case("10003", 1, "2025-06-15", "40000", 0, 9200, "23 % of 40 000"),
    Case("10003", 1, "2025-08-15", "40000", 0, 9200, "version 1 knows of no change"),
    Case("10003", 2, "2025-08-09", "40000", 0, 9200, "the last day of the 23 %"),
    Case("10003", 2, "2025-08-10", "40000", 0, 6800, "the first day of the 17 %"),
    Case("10004", 1, "2025-07-01", "25000", 0, 4250, "17 % of 25 000"),
    Case("10005", 1, "2025-06-10", "20000", 0, 4600, "23 % of 20 000"),
    Case("10006", 1, "2025-08-27", "30000", 0, None, "the day before the first period"),
    Case("10006", 1, "2025-08-28", "30000", 0, 8000, "8 000 kr a month, also in the month's last days"),
    Case("10006", 2, "2025-09-14", "30000", 0, 8000, "the last day of the 8 000"),
    Case("10006", 2, "2025-09-15", "30000", 0, 6000, "the first day of the 6 000"),
    Case("10006", 2, "2025-09-25", "30000", 8000, 0, "the month has had 8 000, more than the 6 000 of this day"),
    Case("10006", 2, "2025-09-25", "30000", 3000, 3000, "the payout's day decides: 6 000 less 3 000 taken"),
    Case("10006", 3, "2025-10-13", "30000", 0, 6000, "the last day of the 6 000"),
    Case("10006", 3, "2025-10-14", "30000", 0, 5000, "the first day of the 5 000"),
    Case("10006", 3, "2025-10-20", "30000", 6000, 0, "the month has had 6 000, more than the 5 000 of this day"),
    Case("10006", 4, "2026-02-09", "30000", 0, 5000, "the last day of the 5 000"),
    Case("10006", 4, "2026-02-10", "30000", 0, 7000, "the first day of the 7 000"),
    Case("10006", 4, "2026-02-20", "30000", 5000, 2000, "raised within the month: 7 000 less 5 000 taken"),
    Case("10007", 1, "2025-11-20", "20000", 0, 3400, "version 1 knows of no pause"),
    Case("10007", 2, "2025-10-10", "20000", 0, 3400, "the last day before the pause"),
    Case("10007", 2, "2025-10-11", "20000", 0, 0, "0 % is a pause"),
    Case("10007", 2, "2025-12-10", "20000", 0, 0, "the last day of the pause"),
    Case("10007", 2, "2025-12-11", "20000", 0, 3400, "17 % again"),
    Case("10008", 1, "2025-09-10", "25000", 0, 8000, "32 % of 25 000"),
    Case("10009", 1, "2025-10-15", "9999.99", 0, 3299, "33 % is 3 299.9967; rounded down"),
    Case("10010", 1, "2025-10-03", "20000", 0, 3000, "3 000 kr a month"),
    Case("10010", 2, "2025-10-06", "20000", 0, 3000, "the last day of the 3 000"),
    Case("10010", 2, "2025-10-07", "20000", 0, 2000, "the first day of the 2 000"),
    Case("10010", 2, "2025-10-20", "20000", 1000, 1000, "2 000 less 1 000 taken"),
    Case("10010", 2, "2025-10-20", "20000", 3000, 0, "the month has had 3 000"),
]

ENDED = [
    (Case("10004", 2, "2025-08-15", "25000", 0, 4250, "17 %, the period runs until 12 September"), 0),
    (Case("10004", 2, "2025-09-12", "25000", 0, 4250, "the period's last day"), 0),
    (Case("10004", 2, "2025-09-13", "25000", 0, None, "the day after"), None),
    (Case("10005", 2, "2025-08-05", "20000", 0, 4600, "23 % until 9 August"), 0),
    (Case("10005", 2, "2025-08-20", "20000", 0, 4400, "the last 4 400 kr of the claim"), 0),
    (Case("10005", 2, "2025-08-31", "4000.50", 0, 4000, "not enough pay for 4 400"), 0),
    (Case("10005", 2, "2025-08-29", "20000", 4400, 0, "August has had its 4 400: both say nothing"), None),
    (Case("10005", 2, "2025-09-01", "20000", 0, None, "the day after the last period"), None),
    (Case("10008", 2, "2025-09-17", "25000", 0, 8000, "32 %, the period's last day"), 0),
    (Case("10008", 2, "2025-09-18", "25000", 0, None, "the day after"), None),
]
"""Each with what is withheld when avsluttet stops it: 0, and a word to a person, where the two differ."""


def withheld(case: Case, rules: Rules) -> tuple[int | None, tuple[str, ...]]:
    order = order_of(example(case.trekkid, case.trekkversjon))
    pay = Pay(Foedselsnummer(order.skyldner), Decimal(case.brutto), Decimal(0), 2)
    made = deductions_of(pay, [order], {order.trekkid: Decimal(case.before)}, date.fromisoformat(case.day), rules)
    return (int(made[0].beloep), made[0].varsler) if made else (None, ())


def name_of(case: Case) -> str:
    return f"{case.trekkid} v{case.trekkversjon} {case.day} {case.brutto} less {case.before}: {case.reason}"


def test_every_official_version_has_a_case() -> None:
    covered = {(case.trekkid, case.trekkversjon) for case in [*CASES, *(case for case, _ in ENDED)]}
    assert covered == {(each["trekkid"], each["trekkversjon"]) for each in official_examples()}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_an_active_order_withholds(case: Case) -> None:
    assert withheld(case, Rules())[0] == case.kroner


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_following_ended_periods_changes_nothing_for_active_orders(case: Case) -> None:
    assert withheld(case, Rules(follow_ended=True)) == withheld(case, Rules())


@pytest.mark.parametrize(("case", "stopped"), ENDED, ids=lambda value: name_of(value) if value and value != 0 else "")
def test_an_ended_order_stops_or_follows_its_periods_and_warns_if_they_differ(case: Case, stopped: int | None) -> None:
    kroner, varsler = withheld(case, Rules(follow_ended=True))
    assert kroner == case.kroner
    assert any("avsluttet" in varsel for varsel in varsler) == bool(case.kroner)
    kroner, varsler = withheld(case, Rules())
    assert kroner == stopped
    assert any("avsluttet" in varsel for varsel in varsler) == (stopped == 0)


@pytest.mark.parametrize(
    ("rounding", "brutto", "kroner"),
    [
        (Rounding.DOWN, "5.88", 0),  # 0.9996
        (Rounding.HALF_UP, "5.88", 1),
        (Rounding.UP, "5.83", 1),  # 0.9911
        (Rounding.DOWN, "50", 8),  # 8.50
        (Rounding.HALF_UP, "50", 9),
        (Rounding.HALF_EVEN, "50", 8),
        (Rounding.UP, "50", 9),
        (Rounding.UP, "100", 17),  # whole already
    ],
)
def test_whole_kroner_are_generated_on_request(rounding: Rounding, brutto: str, kroner: int) -> None:
    case = Case("10001", 1, "2025-08-20", brutto, 0, kroner, "17 %")
    assert withheld(case, Rules(rounding))[0] == kroner
