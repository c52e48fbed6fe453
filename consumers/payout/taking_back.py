"""What is recorded of a payout, and since, in; whether it may be taken back out, and what a person must know first.

Taken back is a whole payout, before money was sent. What others have recorded of its orders since goes by it: how much
of the month's amount was left, and whom the last payment went to. So the last one is taken back first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.errors import FatalError
from consumers.payout.deduction import ZERO, plain

if TYPE_CHECKING:
    from datetime import date

    from consumers.ledger.payroll import Recorded

_NAMED_MAX = 5


def payout_words(day: date, name: str) -> str:
    """Which payout, for people."""
    return f"the payout of {day}" + (f' named "{name}"' if name else "")


def check_taking_back(recorded: Recorded, day: date, name: str) -> None:
    """Raise `FatalError` where nothing is recorded, or where a later payout builds on what is."""
    payout = payout_words(day, name)
    if not recorded.postings and not recorded.file_count:
        raise FatalError(f"{payout} is not recorded in this ledger: check --date and --payout")
    if recorded.later:
        named = [payout_words(*each) for each in recorded.later[:_NAMED_MAX]]
        if len(recorded.later) > _NAMED_MAX:
            named.append("others")
        raise FatalError(f"{payout} cannot be taken back: {', '.join(named)} build on it; take back the last one first")


def summary_of(recorded: Recorded, day: date, name: str) -> str:
    """What is to be taken back, in a line without national ids."""
    postings = recorded.postings
    files = {(each.trekkpliktig, each.betalingsoppdrag) for each in postings if each.betalingsoppdrag}
    employers = sorted({each.trekkpliktig for each in postings})
    total = sum((each.beloep for each in postings), ZERO)
    return (
        f"{payout_words(day, name)}: {len(postings)} orders of {', '.join(employers) or 'nobody'}, "
        f"{plain(total)} kr, {len(files)} files of payments"
    )
