"""What an operator request leads to, given what is known of its employer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.domain.requests import FORGET, READINGS, RESUME, SET, SUSPEND, Answer
from producer.domain.state import TrekkpliktigPosition

if TYPE_CHECKING:
    from producer.domain.requests import Wish

WISHES_MAX = 32
"""So many may wait for one trekkpliktig; they share a reading, so a person never comes near."""


class Granted(msgspec.Struct, frozen=True):
    """What a wish leads to: `interrupts` breaks off a reading under way, `forgets` drops all orders."""

    position: TrekkpliktigPosition
    answers: tuple[Answer, ...] = ()
    interrupts: bool = False
    forgets: bool = False


def grant(wish: Wish, position: TrekkpliktigPosition, orders: int, now: int, *, is_ours: bool) -> Granted:
    """Decide on one wish for a trekkpliktig of which so many orders are known.

    The same wish may come twice: the second time changes nothing, and is answered too.
    """
    if wish.kind in READINGS:
        return _grant_reading(wish, position, is_ours=is_ours)
    done = (Answer(wish, "done"),)
    replace = msgspec.structs.replace
    if wish.kind == SUSPEND:
        why = "it was suspended by an operator meanwhile"
        given_up = tuple([Answer(each, "failed", why) for each in position.wishes])
        since = now if position.suspended_at is None else position.suspended_at
        return Granted(replace(position, suspended_at=since, wishes=()), given_up + done, interrupts=True)
    if wish.kind == RESUME:
        return Granted(replace(position, suspended_at=None), done)
    if wish.kind == SET:
        return Granted(replace(position, position=wish.position or 0), done, interrupts=True)
    if wish.kind == FORGET and position.forgotten_by == wish.id:
        return Granted(position, done)
    forgotten = TrekkpliktigPosition(suspended_at=position.suspended_at, forgotten_by=wish.id, wishes=position.wishes)
    done = (Answer(replace(wish, orders_read=orders), "done"),)
    return Granted(forgotten, done, interrupts=True, forgets=True)


def _grant_reading(wish: Wish, position: TrekkpliktigPosition, *, is_ours: bool) -> Granted:
    if not is_ours:
        refusal = "it is not among the trekkpliktige that the service reads for"
    elif position.suspended_at is not None:
        refusal = "it is suspended by an operator: resume it first"
    elif len(position.wishes) >= WISHES_MAX:
        refusal = f"{WISHES_MAX} wishes wait for it already"
    else:
        refusal = ""
    if refusal:
        return Granted(position, (Answer(wish, "refused", refusal),))
    if any(each.id == wish.id for each in position.wishes):
        return Granted(position)
    return Granted(msgspec.structs.replace(position, wishes=(*position.wishes, wish)))


def with_progress(
    position: TrekkpliktigPosition, granted: frozenset[str], orders_read: int, published: int, quarantined: int
) -> TrekkpliktigPosition:
    """The figures of those wishes whose ids are in `granted`, moved on by a chunk of the reading that is theirs."""
    return msgspec.structs.replace(
        position,
        wishes=tuple(
            [
                msgspec.structs.replace(
                    wish,
                    orders_read=orders_read,
                    published=wish.published + published,
                    quarantined=wish.quarantined + quarantined,
                )
                if wish.id in granted
                else wish
                for wish in position.wishes
            ]
        ),
    )


def without(position: TrekkpliktigPosition, ids: frozenset[str]) -> tuple[TrekkpliktigPosition, list[Wish]]:
    """The position without these wishes, and the wishes that it had of them."""
    gone = [wish for wish in position.wishes if wish.id in ids]
    left = tuple([wish for wish in position.wishes if wish.id not in ids])
    return msgspec.structs.replace(position, wishes=left), gone
