"""A forwarder's state in, how many of its events wait or are parked, and since when, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from consumers.webhook.tables import webhook_event

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class Kept(msgspec.Struct, frozen=True):
    """What is read and not delivered: `waiting` is to be sent, `parked` put aside, `behind` of a parked one's order.

    `waiting_since` and `parked_since` are of the oldest, in seconds since 1970; None where there is none, or where the
    version that took it did not note when.
    """

    waiting: int = 0
    parked: int = 0
    behind: int = 0
    waiting_since: float | None = None
    parked_since: float | None = None


def kept_in(connection: Connection) -> Kept:
    """What is there now."""
    event = webhook_event.c
    is_parked = event.parked_seconds.is_not(None)
    blocked = sa.select(event.trekkid).where(is_parked)
    is_behind = event.trekkid.in_(blocked)
    count = sa.func.count()
    waiting = connection.execute(sa.select(count, sa.func.min(event.taken_seconds)).where(~is_parked, ~is_behind))
    parked = connection.execute(sa.select(count, sa.func.min(event.parked_seconds)).where(is_parked))
    behind = connection.execute(sa.select(count).select_from(webhook_event).where(~is_parked, is_behind))
    waiting_count, waiting_since = waiting.one()
    parked_count, parked_since = parked.one()
    return Kept(waiting_count, parked_count, behind.scalar_one(), waiting_since, parked_since)
