"""From what is known of a trekkpliktig to how it is to be read, and to its position when that is done. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from producer.domain.trekkpaalegg import Origin
from producer.domain.wish import BACKFILL, Answer
from producer.reading import Reading

if TYPE_CHECKING:
    from producer.domain.state import TrekkpliktigPosition
    from producer.domain.wish import Wish

READINGS_MIN = 5
READINGS_MAX = 64
NOTIFIED_MORE_MAX = 64
"""So many more are read at once where they were notified: their readings are short, and should not wait."""

TRANSACTION_ELEMENTS_MAX = 2_500
TRANSACTION_ELEMENTS_WHEN_TOLD_MAX = 250
"""So many of what is not urgent a transaction holds, and so many where something urgent was read lately: more may come,
and would wait behind it."""

ELEMENTS_UNDER_WAY_MAX = 12_500
"""How many orders the readings of one lane may bring at once, where all bring a page of the usual size."""

ENDS_WAIT_SECONDS_MAX = 0.05

_MICROSECONDS = 1_000_000


class LaneOptions(msgspec.Struct, frozen=True):
    """How lanes read. `own` are all trekkpliktige of the application; `now` gives microseconds since 1970.

    `lanes` is how many there are.
    """

    own: Container[str]
    overlap_sekvensnummer: int
    reconcile_interval_seconds: float
    now: Callable[[], int]
    lanes: int = 1


def begin_reading(
    trekkpliktig: str,
    position: TrekkpliktigPosition,
    signals_begun_at: int,
    options: LaneOptions,
    *,
    is_notified: bool = False,
) -> Reading:
    """A reading from a little below the position; of everything when that was wished for, or was done too long ago."""
    origin = _full_origin(position, options)
    if origin is not None:
        reading = Reading(trekkpliktig, origin, 0, signals_begun_at, full=True)
        reading.wishes = frozenset([wish.id for wish in position.wishes])
        return reading
    cursor = max(position.position - options.overlap_sekvensnummer, 0)
    origin = Origin.NOTIFICATION if is_notified else Origin.POLL
    return Reading(trekkpliktig, origin, cursor, signals_begun_at, full=False)


def _full_origin(position: TrekkpliktigPosition, options: LaneOptions) -> Origin | None:
    """What a reading of everything is for; None where there is no need of one."""
    if position.wishes:
        return Origin.BACKFILL if position.wishes[0].kind == BACKFILL else Origin.RECONCILE
    interval = options.reconcile_interval_seconds * _MICROSECONDS
    if position.reconciled_at is not None and options.now() - position.reconciled_at >= interval:
        return Origin.RECONCILE
    return None


def readings_allowed(elements_per_page: float) -> int:
    """How many trekkpliktige a lane may read at once: many where each has few orders, few where pages are full."""
    return int(min(max(ELEMENTS_UNDER_WAY_MAX / max(elements_per_page, 1.0), READINGS_MIN), READINGS_MAX))


def ends_wait_seconds(ended: Sequence[Reading], *, others: int) -> float:
    """How long the ends of readings wait for `others`, or for events, to share a transaction with.

    The urgent do not: an employer that was told of again meanwhile is read anew only when its reading has ended.
    """
    return ENDS_WAIT_SECONDS_MAX if others and not any(reading.urgent for reading in ended) else 0.0


def transaction_elements(*, is_told_lately: bool) -> int:
    """How many elements that are not urgent one transaction of the lane may hold."""
    return TRANSACTION_ELEMENTS_WHEN_TOLD_MAX if is_told_lately else TRANSACTION_ELEMENTS_MAX


def first_to_publish(
    ready: Sequence[Reading], elements_max: int = TRANSACTION_ELEMENTS_MAX, *, urgent_alone: bool = True
) -> list[Reading]:
    """Which of the ready chunks the next transaction holds: the urgent alone where there are any, else some of all.

    What is notified meanwhile waits behind a transaction, so that holds `elements_max` orders or so. Without
    `urgent_alone` at least one of the others comes too: every second time, lest a stream of notifications keeps them
    back for ever; see `missed_after`.
    """
    urgent = [reading for reading in ready if reading.urgent]
    others = [reading for reading in ready if not reading.urgent]
    if urgent and urgent_alone:
        return urgent
    first = urgent + others[:1]
    elements = sum(len(reading.chunk) for reading in first)
    for reading in others[1:]:
        elements += len(reading.chunk)
        if elements > elements_max:
            break
        first.append(reading)
    return first


def missed_after(missed: int, ready: Iterable[Reading], chosen: Collection[Reading]) -> int:
    """How many transactions in a row have held none of what is ready and not urgent, after one that holds `chosen`."""
    others = [reading for reading in ready if not reading.urgent]
    return missed + 1 if others and not any(reading in chosen for reading in others) else 0


def is_urgent(reading: Reading, position: TrekkpliktigPosition, *, is_waited_for: bool) -> bool:
    """Whether a reading goes before others: one that a wake-up waits for, and that is short.

    What an employer holds that was never read to its end is a back-fill, whoever told of it.
    """
    return is_waited_for and not reading.full and position.reconciled_at is not None


def has_lost_its_place(reading: Reading, position: TrekkpliktigPosition) -> bool:
    """Whether the page just taken says that the order at the position has gone from the source.

    That order lies in the overlap (where there is one), so a first answer that is empty cannot be: the source's
    numbers may have begun anew. Nothing but a full comparison tells.
    """
    return (
        reading.has_all_pages and not reading.full and not reading.orders_seen and reading.begun_at < position.position
    )


def position_after(reading: Reading, position: TrekkpliktigPosition, now: int) -> TrekkpliktigPosition:
    """The position when a reading has come to its end: what it moved to, and when all was last compared.

    One that the source has never reached is lowered, but only where all that the source has was compared.
    """
    if reading.full and reading.sekvensnummer_max < position.position:
        position = msgspec.structs.replace(position, position=reading.sekvensnummer_max)
    if reading.full or position.reconciled_at is None:
        position = msgspec.structs.replace(position, reconciled_at=now)
    return position


def vanished_of(reading: Reading, known: int) -> int:
    """How many of the orders known a full reading did not show."""
    return max(known - reading.orders_seen, 0) if reading.full else 0


def answers_of(reading: Reading, gone: Iterable[Wish], vanished: int, *, position_lowered: bool) -> list[Answer]:
    """The answers to the wishes that a reading has fulfilled by its end."""
    return [
        Answer(
            msgspec.structs.replace(wish, orders_read=reading.orders_seen),
            "done",
            vanished=vanished,
            position_lowered=position_lowered,
        )
        for wish in gone
    ]
