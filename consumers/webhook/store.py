"""The forwarder's state in a database: what was read, what waits, and what is parked.

A message is written in the transaction that moves its partition's offset, and deleted when it is delivered. So a crash
at any moment loses nothing, and at worst what was on its way is sent once more.
"""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from consumers.ledger.translation import translating
from consumers.webhook.cloudevent import Message
from consumers.webhook.schedule import Waiting
from consumers.webhook.tables import webhook_event, webhook_forwarder, webhook_offset
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine

    from consumers.ledger.address import Address


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


_WAITING = (
    webhook_event.c.sequence,
    webhook_event.c.trekkid,
    webhook_event.c.tries,
    webhook_event.c.failures,
    webhook_event.c.due_seconds,
)


class Parked(msgspec.Struct, frozen=True):
    """One event that was put aside, and how many of its order stand behind it."""

    coordinates: Coordinates
    order: str
    event_id: str
    parked_seconds: float
    failures: int
    reason: str
    queued: int


class Settled(msgspec.Struct):
    """What became of events: delivered (sequences), to be sent again, parked; the latter two with their reasons."""

    delivered: list[int] = []
    again: list[tuple[Waiting, str]] = []
    parked: list[tuple[int, str]] = []


class Store:
    """The state at one address, used by one thread. Every method raises `RetryableError` and `FatalError`.

    `token` is set by `take_over`, after which a forwarder that had it before can write no more.
    """

    def __init__(self, address: Address, engine: Engine) -> None:
        self.place = address.place
        self._engine = engine
        self._token: str | None = None
        self._next_sequence = 1

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def take_over(self) -> None:
        """Become the one who forwards. Hold a `Claim` before."""
        token = uuid.uuid4().hex
        with self._begin() as connection:
            connection.execute(sa.delete(webhook_forwarder))
            connection.execute(sa.insert(webhook_forwarder).values(id=1, token=token))
            last = connection.execute(sa.select(sa.func.max(webhook_event.c.sequence))).scalar()
        self._token = token
        self._next_sequence = (last or 0) + 1

    def next_offsets(self, topic: str) -> dict[int, int]:
        """By partition, the first offset that was not read."""
        chosen = sa.select(webhook_offset.c.partition, webhook_offset.c.next_offset).where(
            webhook_offset.c.topic == topic
        )
        with self._begin() as connection:
            return {row.partition: row.next_offset for row in connection.execute(chosen)}

    def take(self, messages: Sequence[Message]) -> list[Waiting]:
        """Keep them and move the offsets behind them. Those that are kept already are passed over: it may be repeated.

        `messages` are in the order of their partitions. What is given back holds also what an earlier call kept whose
        commit was not answered: nobody else gives out numbers, so all from the next one on are such.
        """
        with self._begin(owned=True) as connection:
            known = {
                (topic, partition): next_offset
                for topic, partition, next_offset in connection.execute(
                    sa.select(webhook_offset.c.topic, webhook_offset.c.partition, webhook_offset.c.next_offset)
                )
            }
            unanswered = [
                Waiting(*row)
                for row in connection.execute(
                    sa.select(*_WAITING)
                    .where(webhook_event.c.sequence >= self._next_sequence)
                    .order_by(webhook_event.c.sequence)
                )
            ]
            sequence = unanswered[-1].sequence + 1 if unanswered else self._next_sequence
            rows, moved = [], {}
            for each in messages:
                place = (each.coordinates.topic, each.coordinates.partition)
                if each.coordinates.offset < known.get(place, 0):
                    continue
                moved[place] = each.coordinates.offset + 1
                rows.append(_row(sequence, each))
                sequence += 1
            if rows:
                connection.execute(sa.insert(webhook_event), rows)
            for (topic, partition), next_offset in moved.items():
                _move(connection, topic, partition, next_offset, is_new=(topic, partition) not in known)
        self._next_sequence = sequence
        return unanswered + [Waiting(row["sequence"], row["trekkid"]) for row in rows]

    def waiting(self, order: str | None = None) -> list[Waiting]:
        """What is to be sent, of all orders that are not blocked, or of one."""
        blocked = sa.select(webhook_event.c.trekkid).where(webhook_event.c.parked_seconds.is_not(None))
        chosen = sa.select(*_WAITING).where(webhook_event.c.trekkid.not_in(blocked)).order_by(webhook_event.c.sequence)
        if order is not None:
            chosen = chosen.where(webhook_event.c.trekkid == order)
        with self._begin() as connection:
            return [Waiting(*row) for row in connection.execute(chosen)]

    def messages(self, sequences: Collection[int]) -> dict[int, Message]:
        """The messages themselves."""
        chosen = sa.select(webhook_event).where(webhook_event.c.sequence.in_(list(sequences)))
        with self._begin() as connection:
            return {
                row.sequence: Message(_coordinates(row), row.trekkid, row.value, row.headers)
                for row in connection.execute(chosen)
            }

    def settle(self, settled: Settled, now_seconds: float) -> None:
        """Write what became of events. May be repeated."""
        with self._begin(owned=True) as connection:
            if settled.delivered:
                connection.execute(sa.delete(webhook_event).where(webhook_event.c.sequence.in_(settled.delivered)))
            for waiting, reason in settled.again:
                _update(
                    connection,
                    waiting.sequence,
                    tries=waiting.tries,
                    failures=waiting.failures,
                    due_seconds=waiting.due_seconds,
                    reason=reason,
                )
            for sequence, reason in settled.parked:
                _update(connection, sequence, parked_seconds=now_seconds, reason=reason)

    def blocked(self) -> set[str]:
        """The orders that have a parked event."""
        chosen = sa.select(webhook_event.c.trekkid).where(webhook_event.c.parked_seconds.is_not(None))
        with self._begin() as connection:
            return set(connection.execute(chosen).scalars())

    def kept(self) -> Kept:
        """How many wait and are parked, and since when."""
        with self._begin() as connection:
            return kept_in(connection)

    def parked(self) -> list[Parked]:
        """What is put aside, the longest first."""
        behind = webhook_event.alias()
        queued = (
            sa.select(sa.func.count())
            .where(behind.c.trekkid == webhook_event.c.trekkid, behind.c.parked_seconds.is_(None))
            .scalar_subquery()
        )
        chosen = (
            sa.select(webhook_event, queued.label("queued"))
            .where(webhook_event.c.parked_seconds.is_not(None))
            .order_by(webhook_event.c.parked_seconds, webhook_event.c.sequence)
        )
        with self._begin() as connection:
            return [
                Parked(
                    _coordinates(row),
                    row.trekkid,
                    row.headers.get("ce_id", ""),
                    row.parked_seconds,
                    row.failures,
                    row.reason or "",
                    row.queued,
                )
                for row in connection.execute(chosen)
            ]

    def release(self, chosen: Collection[Coordinates]) -> int:
        """Have these parked events sent again, each before those of its order that stand behind it. How many it was."""
        values = {"parked_seconds": None, "tries": 0, "failures": 0, "due_seconds": 0.0}
        with self._begin() as connection:
            return sum(
                connection.execute(sa.update(webhook_event).where(_is_parked_at(each)).values(values)).rowcount
                for each in chosen
            )

    def drop(self, chosen: Collection[Coordinates]) -> int:
        """Forget these parked events for good; those behind them are sent. How many it was."""
        with self._begin() as connection:
            return sum(
                connection.execute(sa.delete(webhook_event).where(_is_parked_at(each))).rowcount for each in chosen
            )

    @contextmanager
    def _begin(self, *, owned: bool = False) -> Iterator[Connection]:
        """One transaction; `owned` refuses it, when another process has become the one who forwards."""
        with translating(self.place), self._engine.begin() as connection:
            if owned:
                mine = sa.update(webhook_forwarder).where(webhook_forwarder.c.token == self._token)
                if connection.execute(mine.values(id=1)).rowcount != 1:
                    raise FatalError(f"{self.place}: another forwarder has taken this state over; this one ends")
            yield connection


def _row(sequence: int, message: Message) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(message.coordinates),
        "sequence": sequence,
        "trekkid": message.order,
        "value": message.value,
        "headers": message.headers,
        "tries": 0,
        "failures": 0,
        "due_seconds": 0.0,
        "taken_seconds": time.time(),
    }


def _move(connection: Connection, topic: str, partition: int, next_offset: int, *, is_new: bool) -> None:
    if is_new:
        values = {"topic": topic, "partition": partition, "next_offset": next_offset}
        connection.execute(sa.insert(webhook_offset).values(values))
        return
    place = (webhook_offset.c.topic == topic, webhook_offset.c.partition == partition)
    connection.execute(sa.update(webhook_offset).where(*place).values(next_offset=next_offset))


def _update(connection: Connection, sequence: int, **values: Any) -> None:  # noqa: ANN401 - columns of any type
    connection.execute(sa.update(webhook_event).where(webhook_event.c.sequence == sequence).values(values))


def _coordinates(row: Any) -> Coordinates:  # noqa: ANN401 - a row has the columns that were asked for
    return Coordinates(row.topic, row.partition, row.offset)


def _is_parked_at(place: Coordinates) -> sa.ColumnElement[bool]:
    return sa.and_(
        webhook_event.c.topic == place.topic,
        webhook_event.c.partition == place.partition,
        webhook_event.c.offset == place.offset,
        webhook_event.c.parked_seconds.is_not(None),
    )
