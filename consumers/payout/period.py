"""An order's periods and a day in, the period that decides on that day out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from consumers.ledger.payroll import OrderPeriod


def periods_on(periods: Iterable[OrderPeriod], day: date) -> list[OrderPeriod]:
    """Those that contain the day, both ends included, in rising startdato.

    Skatteetaten's periods do not overlap; where some do, the last one decides, and a person is told.
    """
    there = [each for each in periods if each.startdato <= day and (each.sluttdato is None or day <= each.sluttdato)]
    return sorted(there, key=lambda each: each.startdato)
